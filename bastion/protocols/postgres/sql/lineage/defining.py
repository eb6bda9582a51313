"""Follows definitions over rows that are there: what checks, sorts, converts or hands out watched columns.

A constraint, an index or a policy tells something of every row that it is made for, by failing if by nothing else. And
what takes a column from under the name that it is covered by, or leaves its values elsewhere, would show it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from bastion.model.mask import ANY, Use
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.following import Definitions
from bastion.protocols.postgres.sql.lineage.levels import Item, Level, item_of
from bastion.protocols.postgres.sql.lineage.telling import may_read
from bastion.protocols.postgres.sql.lineage.values import NOTHING, Column, Rows, Value
from bastion.protocols.postgres.sql.lineage.views import Walk
from bastion.protocols.postgres.sql.lineage.watching import Watch
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.reading import FUNCTION
from bastion.protocols.postgres.sql.trees import qualified, strings

KINDS: Final = frozenset(
    {"AlterTableStmt", "AlterDomainStmt", "AlterPolicyStmt", "AlterObjectSchemaStmt", "ClusterStmt", "CreatePolicyStmt"}
    | {"CreateDomainStmt", "CreateSchemaStmt", "CreateStatsStmt", "CreateStmt", "CreateTrigStmt", "IndexStmt"}
    | {"RenameStmt", "RuleStmt", "ViewStmt"}
)
"""Kinds of statement that are followed here."""

_CHECKED = "every row is checked by it"
_INDEXED = "an index is made of what is computed from it"
_POLICY = "which rows are shown would depend on it (POLICY)"
_ORDERED = "rows are put in its order (CLUSTER)"
_RENAMED = "it would get another name, under which nobody covers it"
_PARTED = "its table would no longer be a part of the one that it is covered in"
_JOINED = "it would be shown in another table as well"
_CONVERTED = "every value is converted"
_STALE = "what a materialized view has kept of it would no longer be known for it"
_RULED = "a rule turns what others do into something else, which may put it elsewhere"
_SHOWN = "a view that shows it could take the place of one that does not, under a statement that waits"
_TRUSTED = "a function would get a name by which another may be trusted"
_RUNS = "it runs a function of which nobody knows what it does"
_TRUSTABLE: Final = frozenset(
    {"OBJECT_AGGREGATE", "OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_SCHEMA"}
)
_VIEWS: Final = frozenset("vm")
"""Kinds of relation, as `pg_class.relkind`, that show what others hold."""
_PARTS: Final = frozenset({"OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"})
"""What a relation has that can be renamed, other than columns."""


_UNKNOWN: Final = item_of(Rows([], NOTHING), "")
"""A table that is not there yet, of which nothing is watched."""


class Everything(frozenset[str]):
    """All functions, where none that is not vouched for may be called."""

    def __contains__(self, function: object, /) -> bool:
        """Tell that it is among them."""
        return True


class Defining:
    """Follows one definition. What it finds are findings of the walk; `anything` says why it may reach everything."""

    def __init__(self, walk: Walk, catalog: Catalog, watch: Watch, definitions: Definitions) -> None:
        self._walk = walk
        self._catalog = catalog
        self._watch = watch
        self._definitions = definitions
        self.named: set[tuple[str, str]] = set()
        """The watched columns of what is named."""
        self.anything: dict[Use, str] = {}

    def follow(self, kind: str, body: Node) -> None:
        """Follow it. Raises `Untraceable` where that cannot be done."""
        match kind:
            case "AlterTableStmt":
                self._alter(body)
            case "AlterDomainStmt":
                self._domain(body)
            case "RenameStmt" | "AlterObjectSchemaStmt":
                self._rename(body)
            case "CreatePolicyStmt" | "AlterPolicyStmt":
                self._policy(body)
            case "ClusterStmt":
                self._cluster(body)
            case "CreateDomainStmt":
                for node in body.get("constraints", ()):
                    self._constraint(node["Constraint"], _UNKNOWN)
            case "CreateSchemaStmt":
                for node in body.get("schemaElts", ()):
                    ((inner, element),) = node.items()
                    self.follow(inner, element)
            case "CreateStatsStmt":
                self._statistics(body)
            case "CreateStmt":
                self._create(body)
            case "CreateTrigStmt":
                if not self._is_vouched(body["funcname"]):
                    self.anything[Use.UNTRACED] = "a function of which nobody knows what it does would see rows"
                self._table(body["relation"])
            case "IndexStmt":
                self._index(body)
            case "RuleStmt":
                # What it does is done whenever somebody changes the table, whoever that is and by whatever way.
                self.anything[Use.UNTRACED] = _RULED
                self._table(body["relation"])
            case "ViewStmt":
                self._view(body)
        called = self._walk.called | {name for place, name in self._walk.findings.uses if place == FUNCTION}
        if any(may_read(self._catalog, name) for name in called):
            self.anything[Use.UNTRACED] = _RUNS

    def _table(self, named: Node) -> Item:
        """Return the item that a table is; of one that the catalog does not know, nothing is watched."""
        names = self._walk.names.relations(named.get("schemaname", ""), named["relname"])
        if not names:
            return _UNKNOWN
        item = self._walk.table({**named, "inh": True}, Level())
        self.named |= item.rows.whole.watched
        return item

    def _column(self, item: Item, name: str) -> Value:
        found = item.named.get(name, ())
        return found[0] if found else NOTHING

    def _compared(self, item: Item, names: Iterable[str], because: str) -> None:
        for name in names:
            self._walk.compared(self._column(item, name), because)

    def _computed(self, expression: Node | None, item: Item, because: str) -> Value:
        """Follow an expression that is evaluated for every row."""
        if not expression:
            return NOTHING
        value = self._walk.value(expression, Level(items=[item]))
        self._walk.compared(value, because)
        return value

    # Tables

    def _create(self, body: Node) -> None:
        for node in (*body.get("tableElts", ()), *body.get("constraints", ())):
            if "ColumnDef" in node:
                self._defined(node["ColumnDef"], _UNKNOWN)
            elif "Constraint" in node:
                self._constraint(node["Constraint"], _UNKNOWN)

    def _alter(self, body: Node) -> None:
        item = self._table(body["relation"])
        for node in body.get("cmds", ()):
            command = node["AlterTableCmd"]
            definition = command.get("def", {})
            match command.get("subtype"):
                case "AT_AddColumn":
                    self._defined(definition["ColumnDef"], item)
                case "AT_AddConstraint":
                    self._constraint(definition["Constraint"], item)
                case "AT_AlterColumnType":
                    self._convert(command["name"], definition["ColumnDef"], item)
                case "AT_ColumnDefault" | "AT_CookedColumnDefault" | "AT_SetExpression":
                    self._computed(definition or None, item, _CONVERTED)
                case "AT_DropExpression":
                    self._written(self._column(item, command["name"]), "it would be a column like any other")
                case "AT_DetachPartition" | "AT_DetachPartitionFinalize":
                    self._written(self._table(definition["PartitionCmd"]["name"]).rows.whole, _PARTED)
                case "AT_AttachPartition":
                    self._written(self._table(definition["PartitionCmd"]["name"]).rows.whole, _JOINED)
                case "AT_DropInherit":
                    self._written(item.rows.whole, _PARTED)
                case "AT_AddInherit":
                    self._written(item.rows.whole, _JOINED)

    def _defined(self, column: Node, item: Item) -> None:
        for node in column.get("constraints", ()):
            self._constraint(node["Constraint"], item)
        if "raw_default" in column:
            self._computed(column["raw_default"], item, _CONVERTED)

    def _constraint(self, body: Node, item: Item) -> None:
        self._computed(body.get("raw_expr"), item, _CHECKED)
        self._computed(body.get("where_clause"), item, _CHECKED)
        self._compared(item, strings([*body.get("keys", ()), *body.get("fk_attrs", ())]), _CHECKED)
        for pair in body.get("exclusions", ()):
            self._element(pair["List"]["items"][0]["IndexElem"], item, _CHECKED)
        if "pktable" in body:
            self._compared(self._table(body["pktable"]), strings(body.get("pk_attrs", ())), _CHECKED)

    def _convert(self, name: str, column: Node, item: Item) -> None:
        expression = column.get("raw_default")
        own = self._column(item, name)
        if "collClause" in column:  # which says what is equal
            self._walk.compared(own, _CONVERTED)
        if expression:
            self._walk.write(item, name, self._walk.value(expression, Level(items=[item])))
        elif not self._is_text(column["typeName"]):
            self._walk.compared(own, _CONVERTED)

    def _is_text(self, type_name: Node) -> bool:
        """Tell whether every value can be converted to a type without loss."""
        found = self._walk.names.types(*qualified(type_name["names"]))
        builtin = len(found) == 1 and found[0].builtin
        return builtin and found[0].name in {"text", "varchar"} and not type_name.keys() & {"typmods", "arrayBounds"}

    def _written(self, value: Value, because: str) -> None:
        self._walk.findings.add(value.watched, Use.WRITTEN, because)

    def _rename(self, body: Node) -> None:
        """Note what would no longer go by the name under which it is watched, and what by one that is trusted."""
        kind = body.get("renameType") or body.get("objectType")
        if kind in _TRUSTABLE:
            self.anything[Use.UNTRACED] = _TRUSTED
        if body.get("renameType") == "OBJECT_SCHEMA":
            for relation in self._catalog.relations_by_oid.values():
                if relation.schema == body.get("subname"):
                    self._renamed(relation.full_name, self._watch.of(relation))
            return
        named = body.get("relation", {})
        for relation in self._walk.names.relations(named.get("schemaname", ""), named["relname"]) if named else ():
            watched = self._watch.of(relation)
            if body.get("renameType") == "OBJECT_COLUMN":
                watched = watched.intersection({body["subname"]})
            elif body.get("renameType") in _PARTS:
                continue
            self._renamed(relation.full_name, watched)
            if relation.kind in _VIEWS:
                self._written(self._walk.relation(relation).whole, _SHOWN)

    def _renamed(self, place: str, watched: Iterable[str]) -> None:
        self._walk.findings.add([(place, column) for column in watched], Use.WRITTEN, _RENAMED)

    # What is made for a table

    def _index(self, body: Node) -> None:
        item = self._table(body["relation"])
        for node in body.get("indexParams", ()):
            element = node["IndexElem"]
            self._element(element, item, _INDEXED, bare=bool(body.get("unique")))
        self._computed(body.get("whereClause"), item, _INDEXED)

    def _element(self, element: Node, item: Item, because: str, *, bare: bool = True) -> None:
        self._computed(element.get("expr"), item, because)
        if bare and "name" in element:
            self._compared(item, [element["name"]], because)

    def _cluster(self, body: Node) -> None:
        if "relation" in body:
            self._walk.compared(self._table(body["relation"]).rows.whole, _ORDERED)
        else:
            self.anything[Use.PREDICATE] = _ORDERED

    def _policy(self, body: Node) -> None:
        item = self._table(body["table"])
        for field in ("qual", "with_check"):
            self._computed(body.get(field), item, _POLICY)

    def _statistics(self, body: Node) -> None:
        """Follow what is computed for statistics, of which nobody is shown any that has to do with values."""
        for named in body.get("relations", ()):
            item = self._table(named["RangeVar"])
            for node in body.get("exprs", ()):
                if "expr" in node["StatsElem"]:
                    self._computed(node["StatsElem"]["expr"], item, _INDEXED)

    def _view(self, body: Node) -> None:
        """Follow a view: one that shows what is watched could take another's place while a statement waits for it.

        One that takes the place of a view from which a materialized view has been filled hides where that is from.
        """
        self._written(self._walk.query(body["query"], Level()).whole, _SHOWN)
        named = body["view"]
        for relation in self._walk.names.relations(named.get("schemaname", ""), named["relname"]):
            if not body.get("replace") or relation.kind != "v":
                continue
            shown = self._walk.relation(relation).whole.watched
            if shown and any(relation.full_name in names for names in self._kept()):
                self._walk.findings.add(shown, Use.WRITTEN, _STALE)
        self._walk.called.clear()  # what it calls, whoever reads it calls

    def _kept(self) -> Iterator[set[str]]:
        """Yield what each materialized view reads."""
        for relation in self._catalog.relations_by_oid.values():
            if relation.kind == "m" and not relation.system:
                yield {resource.name for resource in self._definitions.view(relation).resources}

    # Types

    def _domain(self, body: Node) -> None:
        """Follow a domain to the columns that are made of it; one that others are made of may be any of these."""
        definition = body.get("def", {}).get("Constraint", {})
        if not definition:
            self._computed(body.get("def"), _UNKNOWN, _CONVERTED)
            return
        own = frozenset(
            (relation.full_name, name)
            for relation in self._catalog.relations_by_oid.values()
            for name in self._watch.of(relation)
            if not self._is_plain(relation.columns[name])
        )
        self.named |= own
        item = item_of(Rows([Column("value", Value(own))]), "")
        self._walk.compared(Value(own), _CHECKED)
        self._computed(definition.get("raw_expr"), item, _CHECKED)

    def _is_plain(self, oid: int) -> bool:
        """Tell whether a column's type has surely nothing to do with any domain."""
        found: Any = self._catalog.types_by_oid.get(oid)
        return found is not None and found.builtin

    def _is_vouched(self, name: list[Node]) -> bool:
        found = self._walk.names.functions(*qualified(name))
        return bool(found) and all(function.vouched for function in found)


def spread(defining: Defining, walk: Walk) -> dict[str, dict[Use, str]]:
    """Return the uses that a definition makes of everything watched, by the names that masks know it by."""
    uses: dict[str, dict[Use, str]] = {f"{place}.{column}": {} for place, column in defining.named}
    for (place, column), found in walk.findings.uses.items():
        if place != FUNCTION:
            uses.setdefault(f"{place}.{column}", {}).update(found)
    if defining.anything:
        uses[ANY] = dict(defining.anything)
    return uses
