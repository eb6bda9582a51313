"""Decides which of the functions, operators, casts and types that a text names are not vouched for.

The text is not type-checked as the server does it. By name, argument count and the types that can occur in the
statement at all, every candidate is kept that the server might choose: more than it will, never fewer.
"""

from typing import NamedTuple

from bastion.model.action import Access
from bastion.protocols.postgres.sql import builtins
from bastion.protocols.postgres.sql.catalog import Catalog, Function, Type
from bastion.protocols.postgres.sql.effects import Effects
from bastion.protocols.postgres.sql.names import Names

_TEXT = 25
_JUDGED = frozenset({"current_setting", "set_config"})
"""Built-in functions that are judged by the setting they name."""
_POPULATING = frozenset(
    {"json_populate_record", "json_populate_recordset", "json_to_record", "json_to_recordset"}
    | {"jsonb_populate_record", "jsonb_populate_recordset", "jsonb_to_record", "jsonb_to_recordset"}
    | {"jsonb_populate_record_valid"}
)


class Call(NamedTuple):
    """A function as the text calls it."""

    schema: str
    name: str
    given: int
    field: bool = False
    """Written as a field of a row: it may as well be one."""


class Calls:
    """Everything that a text calls by name, in whatever notation."""

    def __init__(self, catalog: Catalog, names: Names, effects: Effects, present: set[int]) -> None:
        self._catalog = catalog
        self._names = names
        self._effects = effects
        self.present = present
        """OIDs of types made by somebody that values in the statement may have."""
        self.functions: set[Call] = set()
        self.operators: set[tuple[str, str]] = set()
        self.types: set[tuple[str, str]] = set()
        self.type_oids: set[int] = set()
        """Types whose checks run because a value is written."""
        self.writes = False
        self.checks: list[str] = []
        """Expressions that must be read as well: checks of domains."""

    def settle(self) -> None:
        """Note every function that may run and is not vouched for."""
        targets = self._cast_targets()
        for call in self.functions:
            self._call(call, targets)
        for schema, name in self.operators:
            self._operator(schema, name)
        for oid in targets | self.type_oids:
            self._value_of(oid, set())
        self._casts(targets)

    def occurs(self, oid: int) -> None:
        """Note that values of this type occur in the statement."""
        found = self._catalog.types_by_oid.get(oid)
        if found is None or oid in self.present:
            return
        if found.element:
            self.occurs(found.element)
        if found.builtin:
            return
        self.present.add(oid)
        for inner in (found.base, found.subtype):
            if inner:
                self.occurs(inner)
        relation = self._catalog.relations_by_oid.get(found.relation)
        if relation is not None:
            for column in relation.columns.values():
                self.occurs(column)

    def _cast_targets(self) -> set[int]:
        targets: set[int] = set()
        for schema, name in self.types:
            found = self._names.types(schema, name)
            if not found:
                self._effects.add("type", _dotted(schema, name), "use", Access.UNKNOWN, missing=True)
            for type_ in found:
                targets.add(type_.oid)
                self.occurs(type_.oid)
        return targets

    def _call(self, call: Call, targets: set[int]) -> None:
        named = self._names.functions(call.schema, call.name)
        candidates = [f for f in named if f.takes(call.given)]
        types = self._names.types(call.schema, call.name) if call.given == 1 else ()
        for type_ in types:  # a call with one argument may be a cast
            targets.add(type_.oid)
            self.occurs(type_.oid)
        if call.name in _POPULATING:
            self.type_oids |= self.present
        if not candidates and not types and not call.field:
            self._effects.add("function", _dotted(call.schema, call.name), "call", Access.UNKNOWN, missing=True)
        vouched = [f for f in candidates if f.vouched]
        for function in candidates:
            if function.builtin and function.name in _JUDGED and not call.field:
                continue
            if not function.vouched and self._reachable(function, vouched, call.given):
                self.note(function)

    def _operator(self, schema: str, name: str) -> None:
        by_oid = self._catalog.functions_by_oid
        found = [(o, by_oid.get(o.function)) for o in self._names.operators(schema, name)]
        if not found:
            self._effects.add("operator", _dotted(schema, name), "use", Access.UNKNOWN, missing=True)
        vouched = [f for _, f in found if f is not None and f.vouched]
        for operator, function in found:
            if function is None:
                self._effects.add("operator", f"{operator.schema}.{name}", "use", Access.UNKNOWN)
            elif not function.vouched and self._reachable(function, vouched, len(function.args)):
                self.note(function, operator=f"{operator.schema}.{name}")

    def _reachable(self, function: Function, vouched: list[Function], count: int) -> bool:
        """Tell whether the server might choose this function: not if no value of one of its types can occur.

        An untyped literal can still become such a value, but only where no vouched function takes it as text instead.
        """
        for position, oid in enumerate(function.args):
            type_ = self._catalog.types_by_oid.get(oid)
            while type_ is not None and type_.element:
                type_ = self._catalog.types_by_oid.get(type_.element)
            if type_ is None or type_.builtin or type_.oid in self.present or type_.preferred:
                continue
            if any(len(f.args) == count and f.args[position : position + 1] == (_TEXT,) for f in vouched):
                return False
        return True

    def _value_of(self, oid: int, seen: set[int]) -> None:
        """Note what making a value of this type runs."""
        type_ = self._catalog.types_by_oid.get(oid)
        if type_ is None:
            self._effects.add("type", f"oid {oid}", "use", Access.UNKNOWN)
            return
        if oid in seen:
            return
        seen.add(oid)
        self.checks += type_.checks
        for inner in (type_.base, type_.element, type_.subtype):
            if inner:
                self._value_of(inner, seen)
        relation = self._catalog.relations_by_oid.get(type_.relation) if type_.relation else None
        if relation is not None and not type_.builtin:
            for column in relation.columns.values():
                self._value_of(column, seen)
        if not type_.builtin and type_.kind in "brm" and not type_.trusted:
            self._effects.add("type", f"{type_.schema}.{type_.name}", "use", Access.UNKNOWN)

    def _casts(self, targets: set[int]) -> None:
        """Note the casts made by somebody that may apply: explicit, on assignment, or by themselves."""
        for cast in self._catalog.casts:
            source, target = (self._catalog.types_by_oid.get(oid) for oid in (cast.source, cast.target))
            if not (self._may_occur(source) and (self._may_occur(target) or cast.target in targets)):
                continue
            if cast.context == "e" and cast.target not in targets:
                continue
            if cast.context == "a" and cast.target not in targets and not self.writes:
                continue
            function = self._catalog.functions_by_oid.get(cast.function)
            if function is not None:
                self.note(function, cast=True)

    def _may_occur(self, type_: Type | None) -> bool:
        return type_ is None or type_.builtin or type_.oid in self.present

    def note(self, function: Function, **facts: object) -> None:
        """Note a call of a function that is not vouched for."""
        access = builtins.CHANGING.get(function.name, Access.UNKNOWN) if function.builtin else Access.UNKNOWN
        kind = {"p": "procedure", "a": "aggregate", "w": "window"}.get(function.kind, "function")
        volatility = {"i": "immutable", "s": "stable"}.get(function.volatility, "volatile")
        told = {"is": kind, "volatility": volatility, "definer": function.definer, "language": function.language}
        self._effects.add("function", function.full_name, "call", access, **told, **facts)


def _dotted(schema: str, name: str) -> str:
    return f"{schema}.{name}" if schema else name
