"""Collects what one text does, effect by effect, and turns it into the resources that the policy judges."""

from collections.abc import Iterable

from bastion.model.action import Access, Resource
from bastion.protocols.postgres.sql import builtins
from bastion.protocols.postgres.sql.catalog import Relation

_EXTERNAL = frozenset({"f"})
"""Kinds of relation whose content comes from elsewhere; what reading one does, only its wrapper knows."""


class Touch:
    """One verb on one relation, with the columns that it concerns."""

    __slots__ = ("columns", "facts", "idle", "relation", "through", "verb")

    def __init__(self, relation: Relation, verb: str, through: str) -> None:
        self.relation = relation
        self.verb = verb
        self.through = through
        self.columns: set[str] = set()
        self.facts: dict[str, object] = {}
        self.idle = False
        """Whether it only counts once a column is touched, as with the target of a change."""

    def whole(self) -> None:
        """Take in every column."""
        self.columns.update(self.relation.columns)


class Effects:
    """The effects of one text, or of one definition that it reaches. Each is kept once."""

    def __init__(self, *, privileged: bool) -> None:
        self._privileged = privileged
        self._touches: dict[tuple[int, str, str], Touch] = {}
        self._others: dict[tuple[str, str, str, str], Resource] = {}

    def touch(self, relation: Relation, verb: str, through: str = "") -> Touch:
        """Return the touch of `relation` by `verb`, the same one each time."""
        key = (relation.oid, verb, through)
        found = self._touches.get(key)
        if found is None:
            found = self._touches[key] = Touch(relation, verb, through)
        return found

    def add(self, kind: str, name: str, verb: str, access: Access, **facts: object) -> None:
        """Note an effect on anything but a relation of the catalog."""
        key = (kind, name, verb, str(facts.get("through", "")))
        known = self._others.get(key)
        if known is None or known.access < access:
            self._others[key] = Resource(kind, name, verb, access, facts)

    def unknown(self, construct: str) -> None:
        """Note something that the analysis does not understand; `construct` names it, never quotes it."""
        self.add("construct", construct, "unknown", Access.UNKNOWN)

    def include(self, resources: Iterable[Resource]) -> None:
        """Take in effects that were collected elsewhere."""
        for resource in resources:
            self.add(resource.kind, resource.name, resource.verb, resource.access, **resource.facts)

    def aim(self, relation: Relation, through: str = "") -> Touch:
        """Return the touch by which the target of a change is read, if it is read at all."""
        known = (relation.oid, "select", through) in self._touches
        touch = self.touch(relation, "select", through)
        touch.idle = touch.idle or not known
        return touch

    def touched(self) -> list[Touch]:
        """Return every touch so far."""
        return list(self._touches.values())

    def resources(self) -> tuple[Resource, ...]:
        """Return the effects as resources, in the order in which they were noted."""
        touches = (touch for touch in self._touches.values() if touch.columns or not touch.idle)
        return (*map(self._resource, touches), *self._others.values())

    def _resource(self, touch: Touch) -> Resource:
        relation = touch.relation
        columns = [name for name in relation.columns if name in touch.columns]
        columns += sorted(touch.columns.difference(relation.columns))
        facts: dict[str, object] = {"columns": columns, **touch.facts}
        if touch.through:
            facts["through"] = touch.through
        return Resource("relation", relation.full_name, touch.verb, self._access(touch), facts)

    def _access(self, touch: Touch) -> Access:
        relation = touch.relation
        if touch.verb == "select":
            if relation.system:
                name = relation.name
                columns = touch.columns
                return builtins.relation_access(relation.schema, name, columns, privileged=self._privileged)
            return Access.UNKNOWN if relation.kind in _EXTERNAL else Access.READ
        if relation.system or relation.schema in {"pg_catalog", "information_schema"}:
            return Access.ADMIN
        return Access.UNKNOWN if relation.kind in _EXTERNAL else Access.WRITE
