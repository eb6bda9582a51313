"""Reads SQL text for one database and role: what it does, and what it does to the session."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from bastion.model.action import Access, Action, Resource
from bastion.protocols.postgres.sql import changing, definers, guard, secrets, showing
from bastion.protocols.postgres.sql.catalog import Catalog, Type
from bastion.protocols.postgres.sql.changing import Changes
from bastion.protocols.postgres.sql.composing import PROTOCOL, Composer, composed, distinct, worst_verb
from bastion.protocols.postgres.sql.definitions import CatalogDefinitions
from bastion.protocols.postgres.sql.guard import Fault
from bastion.protocols.postgres.sql.lineage.copying import is_unusual
from bastion.protocols.postgres.sql.lineage.tracing import Lineage
from bastion.protocols.postgres.sql.lineage.watching import Watched
from bastion.protocols.postgres.sql.parser import Node, NotParsed, Parser
from bastion.protocols.postgres.sql.query import Query
from bastion.protocols.postgres.sql.reading import (
    ChangesCatalog,
    Declares,
    EndsTransaction,
    Executes,
    Fetches,
    Origin,
    Outputs,
    Prepares,
    Reading,
    RollsBack,
    SearchPath,
    SessionEffect,
    SetsPath,
)
from bastion.protocols.postgres.sql.scope import Budget, Scope, TooComplex
from bastion.protocols.postgres.sql.selectivity import is_exact
from bastion.protocols.postgres.sql.shapes import Shapes
from bastion.protocols.postgres.sql.statements import Statements
from bastion.protocols.postgres.sql.trees import qualified
from bastion.protocols.postgres.sql.writes import DataChange

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_CACHE_BYTES: Final = 16 * 1024 * 1024
_HOLDABLE: Final = 0x20
"""`CURSOR_OPT_HOLD` of PostgreSQL's `nodes/parsenodes.h`."""
_MOST_PATHS: Final = 64
"""Search paths that names in one text may be looked up under."""

_INDIFFERENT: Final = frozenset({"TransactionStmt", "VariableSetStmt", "VariableShowStmt", "ListenStmt", "NotifyStmt"})
"""Statements whose meaning does not depend on the catalog."""
_VERBS: Final = {"ExplainStmt": "explain", "CopyStmt": "copy"}
"""The verb of a statement that touches nothing with a name; all others are queries."""

_SHORT: Final = 32 * 1024
"""Longer texts have a parser of their own, so that nobody waits behind them."""

_parser = Parser()
_patient_parser = Parser()


class _Cache(Generic[K, V]):
    """The most recently used values, as many as fit into a number of bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        with self._lock:
            before = self._kept.pop(key, None)
            self._kept[key] = (value, size)
            self._size += size - (before[1] if before else 0)
            while self._size > self._capacity and self._kept:
                self._size -= self._kept.popitem(last=False)[1][1]


class CatalogAnalyst:
    """Reads SQL against one snapshot of a catalog. Shared by every session of that database and role, in any thread."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        cache_bytes: int = _CACHE_BYTES,
        parser: Parser | None = None,
        changes: Changes | None = None,
        as_of: int = 0,
        private: bool = False,
        watched: Watched = MappingProxyType({}),
        patterns: frozenset[str] = frozenset(),
    ) -> None:
        """`as_of` is how many of the `changes` had been counted before the catalog was read.

        A `private` one reads for the one session whose own view of the catalog it has. What becomes of `watched`
        columns is traced, and among the facts; `patterns` are what they were found by.
        """
        self.catalog = catalog
        self.patterns = patterns
        self._private = private
        self._changes = changes or Changes()
        self._as_of = as_of
        self._old = False
        self._parser = parser or _parser
        self._patient = parser or _patient_parser
        self._definitions = CatalogDefinitions(catalog, self._parser)
        self._lineage = Lineage(catalog, watched, self._definitions, self._parser) if watched else None
        self._read: _Cache[tuple[bytes, frozenset[SearchPath], tuple[int, ...]], Reading] = _Cache(cache_bytes)
        self._shapes = Shapes(lambda text, paths: self._fresh(text, paths, ()))
        self._composed: _Cache[tuple[int, ...], tuple[Reading, tuple[Reading, ...]]] = _Cache(cache_bytes // 4)

    @property
    def outdated(self) -> bool:
        """Whether a session of this gateway has changed the catalog since it was read, or anybody else may have."""
        return self._old or self._changes.count != self._as_of

    @property
    def changes(self) -> Changes:
        """What counts the changes of its database."""
        return self._changes

    @property
    def count(self) -> int:
        """How many changes of the catalog by sessions of this gateway have been counted so far."""
        return self._changes.count

    @property
    def types(self) -> Mapping[int, Type]:
        """The database's types, by OID."""
        return self.catalog.types_by_oid

    def watched_at(self, relation: int, number: int) -> frozenset[Origin]:
        """Return what a column is an origin of, by its table's OID and its number there."""
        return self._lineage.watch.at(relation, number) if self._lineage is not None else frozenset()

    def type_of(self, origin: Origin) -> int:
        """Return the OID of a column's type, or 0 where that is not known."""
        schema, _, name = origin[0].partition(".")
        relation = self.catalog.relations.get((schema, name))
        return relation.columns.get(origin[1], 0) if relation is not None else 0

    def grow_old(self) -> None:
        """Have every session that goes by this catalog read it anew before its next statement."""
        self._old = True

    def begins(self, session: object, names: frozenset[str]) -> None:
        """Take note that a session changes the catalog of what goes by these names, and has not committed it."""
        self._changes.begins(session, changing.relatives(self.catalog, names))

    def ends(self, session: object) -> None:
        """Take note that nothing of a session's changes is under way any more."""
        self._changes.ends(session)

    def is_contested(self, session: object, reading: Reading) -> bool:
        """Tell whether a text touches what another session has changed and not committed."""
        return self._changes.concern(session, reading.action.resources)

    def changed(self) -> None:
        """Have every analyst of this database know that its catalog is being changed, or has been."""
        self._changes.count += 1

    def read(self, text: bytes, paths: frozenset[SearchPath], types: tuple[int, ...] = ()) -> Reading:
        """Return what `text` means under every search path that the session may have; the worst of them counts.

        `types` are the OIDs that a Parse message declares for parameters: binding one may run checks of its type.
        Never raises: whatever cannot be read comes back as an unreadable `Reading`. Cached by text.
        """
        key = (text, paths, types)
        known = self._read.get(key)
        if known is None:
            known = None if types or self._misread(text) else self._shapes.reading(text, paths)
            if known is None:
                known = self._fresh(text, paths, tuple(oid for oid in types if oid))
            self._read.put(key, known, 512 + 8 * len(text) + 512 * len(known.action.resources))
        return known

    def _misread(self, text: bytes) -> Fault | None:
        """Return the fault of a text whose numbers the target, older than the grammar, would take for others."""
        return guard.newer_number(text) if self.catalog.version < 160000 else None

    def _fresh(self, text: bytes, paths: frozenset[SearchPath], types: tuple[int, ...]) -> Reading:
        fault = guard.fault(text) or self._misread(text)
        if fault is not None:
            return _unreadable(text, fault)
        try:
            raws = (self._parser if len(text) <= _SHORT else self._patient).parse(text)
            return self._understood(text, raws, paths or frozenset({self.catalog.path}), types)
        except NotParsed as error:
            return _unreadable(text, error.fault)
        except TooComplex:
            return _unreadable(text, Fault("54001", "statement is too complex to be read"))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):
            # A tree of a shape that the walk does not know: not understood, so not forwarded.
            return _unreadable(text, Fault("0A000", "statement could not be understood"))

    def _understood(
        self, text: bytes, raws: list[Node], paths: frozenset[SearchPath], types: tuple[int, ...]
    ) -> Reading:
        resources: list[Resource] = []
        effects: list[SessionEffect] = []
        outputs: list[Outputs] = []
        spans: list[tuple[int, int]] = []
        created: set[str] = set()
        budget = Budget()
        changed = unusual = False
        for number, raw in enumerate(raws):
            node = raw["stmt"]
            ((kind, body),) = node.items()
            unusual = unusual or is_unusual(kind, body)
            if secrets.carries_secret(kind, body):
                start = raw.get("stmt_location", 0)
                spans.append((start, start + raw["stmt_len"] if "stmt_len" in raw else len(text)))
            found, session, shown = self._statement(
                text, node, paths, created, budget, types, shifted=changed, effect=len(effects)
            )
            resources += found
            outputs += [replace(output, statement=number) for output in shown]
            if changed and kind not in _INDIFFERENT and kind not in definers.ADMIN:
                # What the names in it mean by then, the catalog that was read does not say.
                unknown = Resource("construct", "statement after a change of the catalog", "unknown")
                resources.append(showing.anything(unknown) if self._lineage is not None else unknown)
            changed = changed or any(map(self._shifts, session))
            effects += session
            paths |= {effect.path for effect in session if isinstance(effect, SetsPath)}
            if len(paths) > _MOST_PATHS:
                raise TooComplex
        if not raws:
            resources.append(Resource("statement", "", "nothing", Access.NONE))
        action = _action(text, distinct(resources), spans)
        return Reading(
            action,
            tuple(effects),
            statements=len(raws),
            outputs=showing.worth_covering(outputs),
            unusual_copy=unusual,
        )

    def _statement(
        self,
        text: bytes,
        node: Node,
        paths: frozenset[SearchPath],
        created: set[str],
        budget: Budget,
        types: tuple[int, ...] = (),
        arguments: Sequence[Node] = (),
        *,
        shifted: bool = False,
        effect: int = 0,
    ) -> tuple[list[Resource], list[SessionEffect], list[Outputs]]:
        """Return what one statement does, what it does to the session, and what it returns.

        The first of its effects on the session is the one number `effect` of the text.
        """
        ((kind, body),) = node.items()
        if kind == "PrepareStmt":
            inner = self._held(text, body["query"], paths, created, budget, body.get("argtypes", []))
            return [Resource("session", "", "prepare", Access.NONE)], [Prepares(body["name"], inner)], []
        if kind == "DeclareCursorStmt":
            inner = self._held(text, body["query"], paths, created, budget)
            holdable = bool(body.get("options", 0) & _HOLDABLE)
            return list(inner.action.resources), [Declares(body["portalname"], inner, holdable)], []
        query = Query(self.catalog, paths, self._definitions)
        query.created, query.budget, query.shifted = created, budget, shifted
        for oid in types:
            query.calls.occurs(oid)
            query.calls.type_oids.add(oid)
            known = self.catalog.types_by_oid.get(oid)
            query.exact_parameters = query.exact_parameters and known is not None and is_exact(known.name)
        for argument in arguments:
            query.exact_parameters = query.exact_parameters and is_exact(qualified(argument["TypeName"]["names"])[1])
        query.expression(arguments, Scope())
        statements = Statements(query, DataChange(query))
        statements.read(node)
        query.settle()
        if query.empties_path:
            statements.session.append(SetsPath(()))
        resources = list(query.effects.resources())
        if not resources:  # it touches nothing that has a name, such as SELECT 1
            resources.append(Resource("statement", "", _VERBS.get(kind, "select"), Access.READ))
        if self._lineage is None:
            return resources, statements.session, []
        resources, shown = self._lineage.trace(node, paths, resources, effect)
        return resources, statements.session, [shown] if shown is not None else []

    def _shifts(self, effect: SessionEffect) -> bool:
        """Tell whether names may stand for something else after it than the catalog that was read says."""
        if isinstance(effect, EndsTransaction | RollsBack):
            return self._private
        return isinstance(effect, ChangesCatalog) and not effect.adds

    def _held(
        self,
        text: bytes,
        node: Node,
        paths: frozenset[SearchPath],
        created: set[str],
        budget: Budget,
        arguments: Sequence[Node] = (),
    ) -> Reading:
        """Return the reading of a statement that another one prepares, for arguments of these types, or declares."""
        resources, session, shown = self._statement(text, node, paths, created, budget, arguments=arguments)
        outputs = showing.worth_covering(shown)
        return Reading(_action(text, distinct(resources), []), tuple(session), outputs=outputs)

    def compose(self, reading: Reading, prepared: Mapping[str, Reading], portals: Mapping[str, Reading]) -> Reading:
        """Return `reading` with the effects of every statement and portal that it runs by name.

        A name that is not in the maps makes the action UNKNOWN.
        """
        if not any(isinstance(effect, Executes | Fetches) for effect in reading.effects):
            return reading
        composer = Composer(prepared, portals, watches=self._lineage is not None)
        composer.run(reading)
        key = (id(reading), *map(id, composer.used))
        known = self._composed.get(key)
        if known is not None:
            return known[0]
        whole = composed(reading.action, composer)
        outputs = showing.composed(reading.outputs, composer.meant)
        done = replace(reading, action=whole, effects=tuple(composer.effects), outputs=outputs)
        # The readings are kept with it, so that their identities cannot be given to others.
        self._composed.put(key, (done, (reading, *composer.used)), 2048 + 8 * len(whole.text))
        return done


def _action(text: bytes, resources: tuple[Resource, ...], spans: list[tuple[int, int]]) -> Action:
    shown = ""
    if spans:
        shown = secrets.struck(text, spans)
    elif secrets.suspicious(text):
        shown = secrets.struck(text, [(0, len(text))])
    return Action(
        PROTOCOL,
        worst_verb(resources),
        text.decode(),
        resources,
        secret=bool(shown),
        shown=shown,
    )


def _unreadable(text: bytes, fault: Fault) -> Reading:
    decoded = text.decode(errors="backslashreplace")
    secret = secrets.suspicious_unread(text)
    action = Action(PROTOCOL, "unreadable", decoded, (), secret=secret, shown=secrets.UNSHOWN if secret else "")
    return Reading(action, (), fault.sqlstate, fault.message, fault.position)
