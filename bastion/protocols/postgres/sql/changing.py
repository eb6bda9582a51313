"""Changes of a database's catalog by sessions of this gateway: counted once done, known by name while under way.

While a change is under way, whoever touches what it names waits at the target for its locks, and then runs by the newer
catalog. So that is not read by the older one.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final
from weakref import WeakKeyDictionary

from bastion.model.action import Resource
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.parser import Node

EVERYTHING: Final = "*"
"""Among the names of a change: it may bear on any table."""
_SWEEPING: Final = frozenset(
    {"AlterDomainStmt", "AlterTypeStmt", "AlterExtensionStmt", "AlterExtensionContentsStmt", "CreateExtensionStmt"}
    | {"DropOwnedStmt", "ReassignOwnedStmt"}
)
"""Statements that lock tables which they do not name."""


class Changes:
    """The changes of one database, by sessions of whatever role."""

    def __init__(self) -> None:
        self.count = 0
        """How many are done."""
        self._under_way: WeakKeyDictionary[object, set[str]] = WeakKeyDictionary()

    def begins(self, session: object, names: Iterable[str]) -> None:
        """Take note that a session changes what goes by these names, without their schemas."""
        if added := set(names):
            self._under_way.setdefault(session, set()).update(added)

    def ends(self, session: object) -> None:
        """Take note that a session's transaction is over."""
        self._under_way.pop(session, None)

    def concern(self, session: object, resources: Iterable[Resource]) -> bool:
        """Tell whether another session than this one changes what is touched."""
        if not self._under_way:
            return False
        names = {name for other, named in self._under_way.items() if other is not session for name in named}
        if not names:
            return False
        touched = [resource.name for resource in resources if resource.kind == "relation"]
        return bool(touched) and (
            EVERYTHING in names or any(full == name or full.endswith(f".{name}") for full in touched for name in names)
        )


def named(kind: str, body: Node) -> frozenset[str]:
    """Return the names, without their schemas, of all tables and views that a definition names."""
    if kind in _SWEEPING:
        return frozenset({EVERYTHING})
    found = set(_values(body, "relname"))
    if kind == "DropStmt":  # whose objects are lists of names, of which the first may be the table's
        found |= set(_values(body.get("objects"), "sval"))
    return frozenset(found)


def relatives(catalog: Catalog, names: Iterable[str]) -> set[str]:
    """Return the names with those of what shares rows with what they name, or hands changes on to it."""
    found = set(names)
    waiting = [relation.oid for relation in catalog.relations_by_oid.values() if relation.name in found]
    seen = set(waiting)
    carried: dict[int, list[int]] = {}
    for referenced, references in catalog.references.items():
        for reference in references:
            carried.setdefault(reference.relation, []).append(referenced)
    while waiting:
        oid = waiting.pop()
        relation = catalog.relations_by_oid.get(oid)
        if relation is not None:
            found.add(relation.name)
        for other in (*catalog.children.get(oid, ()), *catalog.parents.get(oid, ()), *carried.get(oid, ())):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return found


def _values(tree: Any, field: str) -> Iterator[str]:
    """Yield the text of a field wherever it stands in a tree."""
    stack = [tree]
    while stack:
        at = stack.pop()
        if isinstance(at, dict):
            if isinstance(at.get(field), str):
                yield at[field]
            stack += at.values()
        elif isinstance(at, list):
            stack += at
