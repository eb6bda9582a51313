"""Follows the items of FROM."""

from abc import abstractmethod
from collections.abc import Iterable

from bastion.protocols.postgres.sql.catalog import Function, Relation
from bastion.protocols.postgres.sql.lineage import functions
from bastion.protocols.postgres.sql.lineage.expressions import Expressions
from bastion.protocols.postgres.sql.lineage.levels import Item, Level, Table, columns, common, item_of
from bastion.protocols.postgres.sql.lineage.naming import figured
from bastion.protocols.postgres.sql.lineage.values import NOTHING, Column, Rows, Untraceable, Value, either, merged
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.trees import qualified, strings

_VOID = 2278
"""The OID of the type of functions that return nothing."""
_JOINED = "it is joined by (USING or NATURAL)"
_SINGLE = frozenset({"b", "d", "e", "r", "m"})
"""Kinds of type, as `pg_type.typtype`, of which a function in FROM makes one column."""


class Sources(Expressions):
    """Follows what stands in FROM."""

    @abstractmethod
    def relation(self, relation: Relation) -> Rows:
        """Return the columns of a relation; a view is followed to what it reads."""

    def source(self, node: Node, level: Level) -> Item:
        """Follow one item of FROM, for which `level` has the items before it."""
        ((kind, body),) = node.items()
        match kind:
            case "RangeVar":
                return self.table(body, level)
            case "JoinExpr":
                return self._join(body, level)
            case "RangeSubselect":
                around = level if body.get("lateral") else level.beside()
                return _aliased(self.query(body["subquery"], Level(around)), body.get("alias", {}))
            case "RangeFunction":
                return self._functions(body, level)
            case "RangeTableSample":
                for argument in [*body.get("args", ()), *([body["repeatable"]] if "repeatable" in body else [])]:
                    self.compared(self.value(argument, level), "rows are sampled by it (TABLESAMPLE)")
                return self.source(body["relation"], level)
            case "RangeTableFunc":
                return self._table_function(body, level, ("docexpr", "rowexpr"), "it is taken apart (XMLTABLE)")
            case "JsonTable":
                return self._json_table(body, level)
        raise Untraceable("an item of FROM of an unknown kind")

    def table(self, body: Node, level: Level) -> Item:
        """Return the item that a name in FROM stands for."""
        name, schema, alias = body["relname"], body.get("schemaname", ""), body.get("alias", {})
        if not schema:
            query = level.query(name)
            if query is not None:
                return _aliased(query, alias or {"aliasname": name})
        relations = self.names.relations(schema, name)
        rows = self.of_any(relations)
        if alias:
            return _aliased(rows, alias)
        return item_of(rows, name, relations[0].schema)

    def of_any(self, relations: Iterable[Relation]) -> Rows:
        """Return the columns of whichever of the relations a name means."""
        found: Rows | None = None
        for relation in relations:
            rows = self.relation(relation)
            self.spend(len(rows.columns))
            if found is None:
                found = rows
            elif [c.name for c in found.columns] != [c.name for c in rows.columns]:
                raise Untraceable("a name that may mean several tables")
            else:
                pairs = zip(found.columns, rows.columns, strict=True)
                found = Rows([Column(one.name, either(one.value, other.value)) for one, other in pairs])
        if found is None:
            raise Untraceable("a table that is not known")
        return found

    # Joins

    def _join(self, body: Node, level: Level) -> Item:
        left = self.source(body["larg"], level)
        right = self.source(body["rarg"], level.beside([*level.items, left]))
        names = common(left, right) if body.get("isNatural") else strings(body.get("usingClause", ()))
        shared = [Column(name, self._shared(left, right, name)) for name in names]
        tables = left.tables + right.tables
        if "quals" in body:
            self.condition(body["quals"], level.beside([left, right]))
        rows = Rows(list(shared))
        for side in (left, right):
            rows.extend((c for c in side.rows.columns if c.name not in names), side.rows.rest)
        if "join_using_alias" in body:
            tables += (Table(body["join_using_alias"]["aliasname"], Rows(shared)),)
        if "alias" in body:
            self.findings.met |= rows.whole.origins  # under names of their own from here on
            return _aliased(rows, body["alias"])
        return Item(rows, tables)

    def _shared(self, left: Item, right: Item, name: str) -> Value:
        """Return the column that two sides are joined by."""
        sides: list[Value] = []
        for side in (left, right):
            found = side.named.get(name, [])
            if len(found) != 1:
                raise Untraceable("a column of USING that is not known")
            sides.append(found[0])
            self.findings.met |= found[0].origins
        both = self._operator([{"String": {"sval": "="}}], merged(sides))
        self.compared(both, _JOINED)
        return both

    # Functions

    def _functions(self, body: Node, level: Level) -> Item:
        alias = body.get("alias", {})
        rows = Rows([])
        for item in body["functions"]:
            call, *definitions = item["List"]["items"]
            defined = [d["ColumnDef"]["colname"] for list_ in definitions if list_ for d in list_["List"]["items"]]
            defined += [d["ColumnDef"]["colname"] for d in body.get("coldeflist", ())]
            # One function's single column goes by the name of the table; of several, each by its own.
            found = self._function(
                call, level, defined, "" if len(body["functions"]) > 1 else alias.get("aliasname", "")
            )
            rows.extend(found.columns, found.rest)
        if body.get("ordinality"):
            rows.add("ordinality", NOTHING)
        return _aliased(rows, alias or {"aliasname": figured(body["functions"][0]["List"]["items"][0])})

    def _function(self, call: Node, level: Level, defined: list[str], alias: str) -> Rows:
        """Return the columns that a function in FROM makes."""
        value = self.value(call, level).derived
        if defined:
            return Rows(columns(defined, value))
        name = figured(call)
        if "FuncCall" in call:
            shapes = {self._columns(f, alias or name) for f in self.candidates(call["FuncCall"])}
            shape = shapes.pop() if len(shapes) == 1 else None
            if name == "unnest" and all(map(self._of_scalars, call["FuncCall"].get("args", ()))):
                shape = (alias or name,) * len(call["FuncCall"].get("args", ()))
            return Rows([], value) if shape is None else Rows(columns(shape, value))
        return Rows(columns((alias or name,), value))

    def _of_scalars(self, node: Node) -> bool:
        """Tell whether an array surely has no rows for elements, which would be columns each."""
        ((kind, body),) = node.items()
        if kind == "A_ArrayExpr":
            return all("A_Const" in element or self._of_scalars(element) for element in body.get("elements", ()))
        if kind == "TypeCast":
            types = self.names.types(*qualified(body["typeName"]["names"]))
            return bool(types) and all(t.builtin and t.kind == "b" for t in types)
        return False

    def _columns(self, function: Function, name: str) -> tuple[str, ...] | None:
        """Return the names of the columns that a function makes, or None where the catalog does not tell."""
        if function.builtin and function.name in functions.COLUMNS:
            return functions.COLUMNS[function.name]
        returned = self.catalog.types_by_oid.get(function.returns)
        if returned is None:
            return None
        row = self.catalog.relations_by_oid.get(returned.relation) if returned.relation else None
        if row is not None:
            return tuple(row.columns)
        # One of somebody's may give its one column a name of its own.
        single = function.builtin and (returned.kind in _SINGLE or returned.oid == _VOID)
        return (name,) if single else None

    def _table_function(self, body: Node, level: Level, fields: tuple[str, ...], because: str) -> Item:
        taken = [self.value(body[field], level) for field in fields if field in body]
        taken += [self.value(node["ResTarget"]["val"], level) for node in body.get("namespaces", ())]
        names: list[str] = []
        for node in body["columns"]:
            column = node["RangeTableFuncCol"]
            names.append(column["colname"])
            taken += [self.value(column[field], level) for field in ("colexpr", "coldefexpr") if field in column]
        whole = merged(taken)
        self.compared(whole, because)
        return _aliased(Rows(columns(names, whole)), body.get("alias", {}) or {"aliasname": "xmltable"})

    def _json_table(self, body: Node, level: Level) -> Item:
        """Follow JSON_TABLE: all of its columns come from all that it is given."""
        taken = [self.value({"JsonValueExpr": body["context_item"]}, level)]
        taken += self.values(body.get("passing", ()), level)
        names: list[str] = []
        self._json_columns(body["columns"], level, names, taken)
        whole = merged(taken)
        self.compared(whole, "it is taken apart (JSON_TABLE)")
        return _aliased(Rows(columns(names, whole)), body.get("alias", {}) or {"aliasname": "json_table"})

    def _json_columns(self, items: list[Node], level: Level, names: list[str], taken: list[Value]) -> None:
        """Collect the columns of one level of JSON_TABLE, and behind them those that are nested in it."""
        for column in (node["JsonTableColumn"] for node in items):
            if column.get("coltype") != "JTC_NESTED":
                names.append(column["name"])
            others = (column.get(field, {}).get("expr") for field in ("on_empty", "on_error"))
            taken += [self.value(other, level) for other in others if other]
        for column in (node["JsonTableColumn"] for node in items):
            self._json_columns(column.get("columns", []), level, names, taken)


def _aliased(rows: Rows, alias: Node) -> Item:
    """Return the item that rows are under another name; without one, nothing can be qualified with it."""
    if "colnames" in alias:
        rows = rows.renamed(strings(alias["colnames"]))
    return item_of(rows, alias.get("aliasname", ""))
