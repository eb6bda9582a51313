"""Follows values through expressions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Final

from bastion.model.mask import Use
from bastion.protocols.postgres.sql import nodes
from bastion.protocols.postgres.sql.builtins import CHANGING
from bastion.protocols.postgres.sql.catalog import Catalog, Function
from bastion.protocols.postgres.sql.lineage import functions
from bastion.protocols.postgres.sql.lineage.findings import Findings
from bastion.protocols.postgres.sql.lineage.levels import Level
from bastion.protocols.postgres.sql.lineage.telling import by_number, fits, is_document, is_own, may_read, told
from bastion.protocols.postgres.sql.lineage.values import (
    CONSTANT,
    NOTHING,
    Rows,
    Untraceable,
    Value,
    merged,
)
from bastion.protocols.postgres.sql.names import Names
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.reading import FUNCTION, Origin
from bastion.protocols.postgres.sql.trees import qualified, strings

MOST_STEPS: Final = 50_000
"""Nodes and columns that one statement may make us look at."""

_CONSTANTS: Final = frozenset({"A_Const", "ParamRef"})
_EQUAL: Final = frozenset({"="})
_EQUALS: Final = [{"String": {"sval": "="}}]

CONDITION: Final = "it decides a condition that is not just = and a given value"
SORTED: Final = "it is sorted by (ORDER BY)"
WINDOW: Final = "a window is formed by it (OVER)"
COMPARED: Final = "it is compared with what a subquery returns"


class Expressions(ABC):
    """Follows the expressions of one statement, or of one view. What a query is, its subclass knows."""

    def __init__(self, catalog: Catalog, names: Names, doubtful: Collection[str]) -> None:
        """`doubtful` are the functions that are called and not vouched for, by full name."""
        self.catalog = catalog
        self.names = names
        self.findings = Findings()
        self.called: set[str] = set()
        """The doubtful functions that were come across."""
        self._doubtful = doubtful
        self._steps = MOST_STEPS
        self._kinds: dict[str, Callable[[Node, Level], Value]] = {
            "ColumnRef": self._column,
            "SQLValueFunction": lambda body, level: NOTHING,
            "SetToDefault": lambda body, level: NOTHING,
            "MergeSupportFunc": lambda body, level: NOTHING,
            "GroupingFunc": self._grouping,
            "A_Expr": self._operation,
            "BoolExpr": self._boolean,
            "TypeCast": self._cast,
            "FuncCall": self._call,
            "SubLink": self._sublink,
            "CaseExpr": self._case,
            "NullTest": self._null_test,
            "A_Indirection": self._indirection,
            "XmlExpr": self._xml,
        }

    @abstractmethod
    def query(self, node: Node, level: Level) -> Rows:
        """Follow a query below `level`; return its columns."""

    def spend(self, steps: int) -> None:
        """Pay for work; raise `Untraceable` when nothing is left."""
        self._steps -= steps
        if self._steps < 0:
            raise Untraceable("more than is followed")

    def value(self, node: Node, level: Level) -> Value:
        """Return where the value of an expression comes from; note what else it does."""
        ((kind, body),) = node.items()
        if kind in _CONSTANTS:  # of which a text may have as many as it is long
            return CONSTANT
        self.spend(1)
        special = self._kinds.get(kind)
        if special is not None:
            return special(body, level)
        if kind not in nodes.PLAIN or self.catalog.version < nodes.SINCE.get(kind, 0):
            raise Untraceable("an expression of an unknown kind")
        held = self._held(kind, body, level)
        if kind in functions.COMPARING:
            self.compared(held, functions.COMPARING[kind])
        elif kind not in functions.HOLDING:
            raise Untraceable("an expression of an unknown kind")
        elif not fits(kind, body):
            self.compared(held, "it may not fit")
        return held

    def values(self, items: Iterable[Node], level: Level) -> list[Value]:
        """Return the value of each of the expressions."""
        return [self.value(node, level) for node in items if node]

    def compared(self, value: Value, because: str) -> None:
        """Note that the outcome depends on a value otherwise than by showing it."""
        for origin in value.origins:
            if origin[0] != FUNCTION or may_read(self.catalog, origin[1]):
                self.findings.add((origin,), Use.PREDICATE, because)

    def untraced(self, value: Value, because: str) -> None:
        """Note that a value goes where it cannot be followed."""
        self.findings.add(value.watched, Use.UNTRACED, because)

    def condition(self, node: Node | None, level: Level) -> None:
        """Follow what decides about rows: each part of a conjunction by itself."""
        if not node:
            return
        ((kind, body),) = node.items()
        if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
            for argument in body["args"]:
                self.condition(argument, level)
            return
        equal = kind == "A_Expr" and body["kind"] == "AEXPR_OP" and is_own(self.names, body["name"], _EQUAL)
        if equal and "lexpr" in body:
            self._equality(body, level)
        else:
            self.compared(self.value(node, level), CONDITION)

    def _equality(self, body: Node, level: Level) -> None:
        """Follow a comparison for equality: of a bare column with what the user supplied, or of anything else."""
        left, right = self.value(body["lexpr"], level), self.value(body["rexpr"], level)
        column, other = (right, left) if left.constant else (left, right)
        both = merged((left, right))
        self._operator(body["name"], both)
        if other.constant and (column.bare or not column.origins):
            self.findings.add(column.watched, Use.EQUALITY)
        else:
            self.compared(both, "it is compared (=)")

    def _held(self, kind: str, body: Node, level: Level) -> Value:
        """Return what the children of a node come from."""
        found: list[Value] = []
        scalars, children = nodes.PLAIN[kind]
        for field, value in body.items():
            if field in scalars:
                continue
            if field not in children:
                raise Untraceable("an expression of an unknown form")
            typed = children[field]
            if field == "agg_filter":
                self.condition(value, level)
            elif field == "agg_order":
                self.ordered(value, level, SORTED)
            elif typed == "WindowDef":
                self.window(value, level)
            elif typed in {"TypeName", "JsonOutput", "JsonFormat", "JsonBehavior"}:
                if typed == "JsonBehavior" and value.get("expr"):
                    found.append(self.value(value["expr"], level))
            elif (kind, field) == ("JsonKeyValue", "key"):
                found.append(self.value(value, level))
                self.compared(found[-1] if not found[-1].bare else NOTHING, "it is a key, which must not be null")
            elif typed == "JsonAggConstructor":
                found.append(self._held(typed, value, level))
            elif typed is not None:
                found.append(self.value({typed: value}, level))
            elif isinstance(value, list):
                found += self.values(value, level)
            elif value:
                found.append(self.value(value, level))
        return merged(found)

    def ordered(self, items: Iterable[Node], level: Level, because: str) -> list[Value]:
        """Follow what rows are put in order by, where no name means a column of the result."""
        found: list[Value] = []
        for item in items:
            sort = item.get("SortBy")
            value = self.value(item if sort is None else sort["node"], level)
            if sort is not None and "useOp" in sort:
                self._operator(sort["useOp"], value)
            self.compared(value, because)
            found.append(value)
        return found

    def window(self, body: Node, level: Level) -> None:
        """Follow the definition of a window."""
        for field in ("partitionClause", "orderClause"):
            self.ordered(body.get(field, ()), level, WINDOW)
        for field in ("startOffset", "endOffset"):
            if field in body:
                self.compared(self.value(body[field], level), WINDOW)

    # What stands for a column

    def _column(self, body: Node, level: Level) -> Value:
        fields = body["fields"]
        parts = strings(fields[:-1] if "A_Star" in fields[-1] else fields)
        self.spend(1 + len(level.items))
        if "A_Star" in fields[-1]:  # where one value is wanted: the row
            table = level.table(parts[-1], parts[-2] if len(parts) > 1 else "") if parts else None
            if table is None:
                raise Untraceable("a star without a table")
            found = table.rows.whole
        elif len(parts) == 1:
            found = level.column(parts[0])
        else:
            *before, alias, name = parts
            found = level.qualified(before[-1] if before else "", alias, name)
        self.findings.met |= found.origins
        return found

    def _grouping(self, body: Node, level: Level) -> Value:
        self.values(body.get("args", ()), level)
        return NOTHING

    def _indirection(self, body: Node, level: Level) -> Value:
        found = self.value(body["arg"], level)
        for step in body["indirection"]:
            if "A_Indices" in step:
                for index in ("lidx", "uidx"):
                    if index in step["A_Indices"]:
                        self.compared(self.value(step["A_Indices"][index], level), "it chooses an element")
                found = found.derived
            elif "String" in step:
                found = self._field(found, step["String"].get("sval", ""))
            elif "A_Star" not in step:
                raise Untraceable("an expression of an unknown form")
        return found

    def _field(self, row: Value, name: str) -> Value:
        if row.fields is None:
            call = {"funcname": [{"String": {"sval": name}}], "args": [{}]}
            return self._result(call, [row]) if self.candidates(call) else row.derived
        found = [column.value for column in row.fields if column.name == name]
        if len(found) != 1:
            raise Untraceable("a field that a row does not have")
        return found[0]

    # What computes

    def _operation(self, body: Node, level: Level) -> Value:
        sides = [self.value(body[side], level) for side in ("lexpr", "rexpr") if body.get(side)]
        both = merged(sides)
        kind = body["kind"]
        if kind in nodes.BETWEEN:
            for name in nodes.BETWEEN[kind]:
                both = self._operator([{"String": {"sval": name}}], both)
        elif kind in nodes.OPERATOR_KINDS:
            both = self._operator(body["name"], both)
        else:
            raise Untraceable("an expression of an unknown form")
        name = qualified(body["name"])[1]
        if kind == "AEXPR_OP" and is_own(self.names, body["name"], functions.PASSING):
            if name in functions.TAKING:
                self.compared(sides[-1], f"it chooses what is taken ({name})")
        else:
            self.compared(both, f"it is compared or computed with ({name})")
        return both

    def _operator(self, names: list[Node], operands: Value) -> Value:
        """Return what an operator makes of its operands, by what carries it out."""
        found = self.names.operators(*qualified(names))
        if not found:
            self.untraced(operands, "an operator takes it that is not known")
        by_oid = self.catalog.functions_by_oid
        carried_out = [by_oid[operator.function] for operator in found if operator.function in by_oid]
        return self._called_with(carried_out, operands)

    def _called_with(self, candidates: Iterable[Function], arguments: Value) -> Value:
        """Return what functions make of their arguments, any of which may be the one that is called."""
        results: set[Origin] = set()
        for function in candidates:
            if function.vouched or (function.builtin and function.name in CHANGING):
                continue
            if function.full_name in self._doubtful:
                self.called.add(function.full_name)
                self.untraced(arguments, f"{function.full_name} takes it, of which nobody knows what it does")
                results.add((FUNCTION, function.full_name))
        return Value(arguments.origins | results) if results else arguments

    def _boolean(self, body: Node, level: Level) -> Value:
        found = merged(self.values(body["args"], level))
        self.compared(found, CONDITION)
        return found

    def _cast(self, body: Node, level: Level) -> Value:
        value = self.value(body["arg"], level)
        self.values(body["typeName"].get("typmods", ()), level)
        if not value.origins:
            return CONSTANT if value.constant else NOTHING
        return self.cast(value, body["typeName"])

    def cast(self, value: Value, type_name: Node) -> Value:
        """Return what a cast makes of a value; note what it tells by failing."""
        schema, name = qualified(type_name["names"])
        types = self.names.types(schema, name)
        if len(types) == 1 and types[0].builtin and types[0].schema == "pg_catalog":
            safe = name in functions.TEXTS or (name in functions.DOCUMENTS and is_document(self.catalog, value))
            if not safe or "arrayBounds" in type_name or type_name.get("setof"):
                self.compared(value, f"it is cast to {name}, which not every value can be")
        elif types and all(t.kind == "e" or (t.kind == "b" and t.trusted) for t in types):
            self.compared(value, f"it is cast to {name}, which not every value can be")
        else:
            self.untraced(value, "it is cast to a type of which nobody knows what making a value does")
        return value.derived

    def _null_test(self, body: Node, level: Level) -> Value:
        value = self.value(body["arg"], level)
        if not value.bare:
            self.compared(value, "what is computed from it is tested (IS NULL)")
        return NOTHING

    def _case(self, body: Node, level: Level) -> Value:
        whens = [node["CaseWhen"] for node in body["args"]]
        tested = [self.value(when["expr"], level) for when in whens]
        results = [self.value(when["result"], level) for when in whens]
        if body.get("defresult"):
            results.append(self.value(body["defresult"], level))
        if "arg" in body:
            tested.append(self.value(body["arg"], level))
            self._operator(_EQUALS, merged(tested))
        self.compared(merged(tested), "it decides a case (CASE WHEN)")
        return merged(results)

    def _xml(self, body: Node, level: Level) -> Value:
        held = self.values(body.get("args", ()), level)
        held += [self.value(node["ResTarget"]["val"], level) for node in body.get("named_args", ())]
        if body.get("op") not in functions.XML_SHOWS:
            self.compared(merged(held), "it is parsed (XML)")
        return merged(held)

    def _sublink(self, body: Node, level: Level) -> Value:
        rows = self.query(body["subselect"], Level(level))
        kind = body["subLinkType"]
        if kind == "EXISTS_SUBLINK":
            return NOTHING
        if kind in {"EXPR_SUBLINK", "ARRAY_SUBLINK"}:
            first = rows.at(0) if len(rows.columns) == 1 and rows.rest is None else rows.whole
            return Value(first.origins, fields=first.fields if kind == "EXPR_SUBLINK" else None)
        found = [rows.whole]
        if "testexpr" in body:
            found.append(self.value(body["testexpr"], level))
        both = self._operator(body.get("operName", _EQUALS), merged(found))
        self.compared(both, COMPARED)
        return both

    # Functions

    def _call(self, body: Node, level: Level) -> Value:
        if body.keys() - nodes.FUNCTION_FIELDS:
            raise Untraceable("a call of an unknown form")
        arguments = self.values(body.get("args", ()), level)
        ordered = self.ordered(body.get("agg_order", ()), level, SORTED)
        if body.get("agg_within_group"):
            arguments += ordered
        self.condition(body.get("agg_filter"), level)
        if "over" in body:
            self.window(body["over"], level)
        if body.get("agg_distinct"):
            for value in arguments:
                if not value.bare:
                    self.compared(value, "what is computed from it is told apart (DISTINCT)")
        return self._result(body, arguments)

    def candidates(self, body: Node) -> list[Function]:
        """Return every function that a call can be of."""
        schema, name = qualified(body["funcname"])
        if name == "extract" and body.get("funcformat") == "COERCE_SQL_SYNTAX" and self.catalog.version < 140000:
            name = "date_part"
        count = len(body.get("args", ())) + (len(body.get("agg_order", ())) if body.get("agg_within_group") else 0)
        return [f for f in self.names.functions(schema, name) if f.takes(count)]

    def _result(self, body: Node, arguments: list[Value]) -> Value:
        """Return what a call makes of its arguments."""
        schema, name = qualified(body["funcname"])
        found = self.candidates(body)
        everything = merged(arguments)
        if not found:
            if len(arguments) == 1 and self.names.types(schema, name):
                return self.cast(arguments[0], {"names": body["funcname"]}) if arguments[0].origins else NOTHING
            self.untraced(everything, "a function takes it that is not known")
            return everything
        result = self._called_with(found, everything)
        if result is not everything or not everything.watched:
            return result
        if any(f.volatility not in {"i", "s"} for f in found):
            self.untraced(everything, f"{name} takes it, which does more than compute")
            return result
        if name in functions.COUNTING:
            for value in arguments:
                if not value.bare and value.fields is None:
                    self.compared(value, "what is computed from it is counted")
            return NOTHING
        because = f"{name} takes it, whose result or failure may tell of it"
        if name not in functions.TRANSPARENT and not (name in functions.BY_NUMBER and by_number(body)):
            self.compared(everything, because)
        for value in told(name, body, arguments):
            self.compared(value, because)
        return result
