"""Follows queries: SELECT, VALUES, set operations and WITH."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Final

from bastion.model.mask import Use
from bastion.protocols.postgres.sql import nodes
from bastion.protocols.postgres.sql.lineage.expressions import SORTED
from bastion.protocols.postgres.sql.lineage.levels import Level
from bastion.protocols.postgres.sql.lineage.naming import figured
from bastion.protocols.postgres.sql.lineage.sources import Sources
from bastion.protocols.postgres.sql.lineage.values import NOTHING, Column, Rows, Untraceable, Value, either, merged
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.scope import MOST_COLUMNS
from bastion.protocols.postgres.sql.trees import is_plain_combination, strings

_GROUPED: Final = "it is grouped by (GROUP BY)"
_DISTINCT: Final = "what is computed from it is told apart (DISTINCT)"
_DISTINCT_ON: Final = "rows are told apart by it (DISTINCT ON)"
_COMBINED: Final = "rows of several queries are compared by it (UNION, INTERSECT or EXCEPT)"
_LIMITED: Final = "it decides how many rows are shown (LIMIT, OFFSET)"
_TURNS: Final = 64
"""How often a recursive query is followed until nothing new comes of it."""


class Queries(Sources):
    """Follows queries to the columns of their results."""

    @abstractmethod
    def change(self, kind: str, body: Node, level: Level) -> Rows:
        """Follow a statement that changes rows; return the columns of its RETURNING."""

    def query(self, node: Node, level: Level) -> Rows:
        """Follow a query, or a statement that can stand for one, in a level of its own."""
        ((kind, body),) = node.items()
        rows = self._select(body, level) if kind == "SelectStmt" else self.change(kind, body, level)
        if len(rows.columns) > MOST_COLUMNS:
            raise Untraceable("more columns than a query can have")
        return rows

    def _select(self, body: Node, level: Level) -> Rows:
        if body.keys() - nodes.SELECT_FIELDS:
            raise Untraceable("a query of an unknown form")
        self.with_queries(body.get("withClause"), level)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            rows = self._combined(body, level)
        elif "valuesLists" in body:
            rows = self._listed(body["valuesLists"], level)
        else:
            rows = self._plain(body, level)
        self._arranged(body.get("sortClause", ()), level, rows, SORTED)
        for field in ("limitOffset", "limitCount"):
            if body.get(field):
                self.compared(self.value(body[field], level), _LIMITED)
        if "intoClause" in body:
            self.stored(rows, body["intoClause"])
        return rows

    def stored(self, rows: Rows, into: Node) -> None:
        """Note that rows are put into a new table, where nobody would cover them."""
        name = into.get("rel", {}).get("relname", "")
        self.findings.add(rows.whole.origins, Use.WRITTEN, f"it is put into the new table {name}")

    def _plain(self, body: Node, level: Level) -> Rows:
        for item in body.get("fromClause", ()):
            level.items.append(self.source(item, level))
        rows = self.targets(body.get("targetList", ()), level)
        self.condition(body.get("whereClause"), level)
        self._grouped(body.get("groupClause", ()), level, rows)
        self.condition(body.get("havingClause"), level)
        for node in body.get("windowClause", ()):
            self.window(node["WindowDef"], level)
        distinct = body.get("distinctClause", ())
        if any(distinct):
            self._arranged(distinct, level, rows, _DISTINCT_ON)
        elif distinct:
            for value in (*(column.value for column in rows.columns), rows.rest or NOTHING):
                if not value.bare:
                    self.compared(value, _DISTINCT)
        return rows

    def targets(self, targets: Iterable[Node], level: Level) -> Rows:
        """Return the columns of a select list."""
        rows = Rows([])
        for node in targets:
            target = node["ResTarget"]
            star = self._star(target["val"], level)
            if star is not None:
                self.spend(len(star.columns))
                self.findings.met |= star.whole.origins
                rows.extend(star.columns, star.rest)
            else:
                rows.add(target.get("name") or figured(target["val"]), self.value(target["val"], level))
        return rows

    def _star(self, node: Node, level: Level) -> Rows | None:
        """Return the columns of a star, or None if the target is none."""
        fields = node.get("ColumnRef", {}).get("fields", ())
        if fields and "A_Star" in fields[-1]:
            parts = strings(fields[:-1])
            if not parts:
                return level.star()
            table = level.table(parts[-1], parts[-2] if len(parts) > 1 else "")
            if table is None:
                raise Untraceable("a star without a table")
            return table.rows
        steps = node.get("A_Indirection", {}).get("indirection", ())
        if steps and "A_Star" in steps[-1]:
            row = self.value(node, level)
            return Rows([], row.derived) if row.fields is None else Rows(list(row.fields))
        return None

    def _listed(self, lists: list[Node], level: Level) -> Rows:
        found: list[Value] = []
        for number, node in enumerate(lists):
            values = [self.value(item, level) for item in node["List"].get("items", ())]
            found = values if number == 0 else [either(a, b) for a, b in zip(found, values, strict=True)]
        rows = Rows([])
        for number, value in enumerate(found, 1):
            rows.add(f"column{number}", value)
        return rows

    # Set operations

    def _combined(self, body: Node, level: Level) -> Rows:
        """Follow a UNION, INTERSECT or EXCEPT; a long chain of them leans to the left."""
        chain: list[Node] = []
        left = body
        while left is body or is_plain_combination(left):
            chain.append(left)
            left = left["larg"]
        rows = self._select(left, Level(level))
        for step in reversed(chain):
            arm = self._select(step["rarg"], Level(level))
            rows = self._united(rows, arm, compares=step["op"] != "SETOP_UNION" or not step.get("all"))
        if "intoClause" in left:
            self.stored(rows, left["intoClause"])
        return rows

    def _united(self, left: Rows, right: Rows, *, compares: bool) -> Rows:
        exact = left.rest is None and right.rest is None
        if exact and len(left.columns) != len(right.columns):
            raise Untraceable("queries of different width")
        united = Rows([], None)
        for column, other in zip(left.columns, right.columns, strict=False):
            if compares and not (column.value == other.value and (column.value.bare or not column.value.origins)):
                self.compared(merged((column.value, other.value)), _COMBINED)
            united.columns.append(Column(column.name, either(column.value, other.value)))
        if not exact:
            united.rest = merged((left.whole, right.whole))
            if compares:
                self.compared(united.rest, _COMBINED)
        return united

    # What names or places of the result may be meant in

    def _arranged(self, items: Iterable[Node], level: Level, rows: Rows, because: str) -> None:
        """Follow ORDER BY or DISTINCT ON, where a bare name is first that of a column of the result."""
        for item in items:
            sort = item.get("SortBy", {})
            node = sort.get("node", item)
            place = self._place(node)
            named = [column.value for column in rows.columns if column.name == _bare_name(node)]
            if place is not None:
                self.compared(rows.at(place - 1), because)
            elif named:
                self.compared(merged(named), because)
                hidden = level.own(_bare_name(node))  # a column of FROM that has the name, and is not meant
                self.findings.met |= hidden.origins if hidden is not None else frozenset()
            else:
                self.ordered([item], level, because)

    def _grouped(self, items: Iterable[Node], level: Level, rows: Rows) -> None:
        """Follow GROUP BY, where a bare name is first that of a column of FROM."""
        for item in items:
            if "GroupingSet" in item:
                self._grouped(item["GroupingSet"].get("content", ()), level, rows)
                continue
            if "RowExpr" in item:
                self._grouped(item["RowExpr"].get("args", ()), level, rows)
                continue
            place, name = self._place(item), _bare_name(item)
            named = [column.value for column in rows.columns if column.name == name]
            if place is not None:
                self.compared(rows.at(place - 1), _GROUPED)
            elif name and named and level.own(name) is None:
                self.compared(merged(named), _GROUPED)
                if any(source.rows.rest is not None for source in level.items):
                    self.compared(level.column(name), _GROUPED)
            else:
                self.compared(self.value(item, level), _GROUPED)

    def _place(self, node: Node) -> int | None:
        literal = node.get("A_Const", {})
        return int(literal["ival"].get("ival", 0)) if "ival" in literal else None

    # WITH

    def with_queries(self, clause: Node | None, level: Level) -> None:
        """Follow the queries of a WITH, and make their names known in `level`."""
        if not clause:
            return
        bodies = [node["CommonTableExpr"] for node in clause["ctes"]]
        if clause.get("recursive"):
            level.queries.update({cte["ctename"]: None for cte in bodies})
        for cte in bodies:
            if cte.keys() - nodes.CTE_FIELDS:
                raise Untraceable("a query of WITH of an unknown form")
            names = strings(cte.get("aliascolnames", ()))
            recursive = (
                bool(clause.get("recursive")) and cte["ctequery"].get("SelectStmt", {}).get("op") == "SETOP_UNION"
            )
            rows = self._recursive(cte, names, level) if recursive else self.query(cte["ctequery"], Level(level))
            level.queries[cte["ctename"]] = self._searched(cte, rows.renamed(names))

    def _recursive(self, cte: Node, names: list[str], level: Level) -> Rows:
        """Return the columns of a query that may refer to itself: what it starts with, and all that comes of that."""
        body = cte["ctequery"]["SelectStmt"]
        start = Level(level)
        self.with_queries(body.get("withClause"), start)
        rows = self._select(body["larg"], Level(start))
        for _ in range(_TURNS):
            level.queries[cte["ctename"]] = self._searched(cte, rows.renamed(names))
            found = self.query(cte["ctequery"], Level(level))
            if found == rows:
                return rows
            rows = found
        raise Untraceable("a recursive query that does not come to an end")

    def _searched(self, cte: Node, rows: Rows) -> Rows:
        """Return the columns of a query with those that SEARCH and CYCLE add."""
        search, cycle = cte.get("search_clause", {}), cte.get("cycle_clause", {})
        if not search and not cycle:
            return rows
        listed = strings([*search.get("search_col_list", ()), *cycle.get("cycle_col_list", ())])
        by = merged(column.value for column in rows.columns if column.name in listed)
        self.compared(by, "rows are searched by it (SEARCH, CYCLE)")
        added = [search.get("search_seq_column"), cycle.get("cycle_mark_column"), cycle.get("cycle_path_column")]
        return Rows([*rows.columns, *(Column(name, by) for name in added if name)], rows.rest)


def _bare_name(node: Node) -> str:
    """Return the name that a node is, or an empty one."""
    fields = node.get("ColumnRef", {}).get("fields", ())
    return fields[0]["String"].get("sval", "") if len(fields) == 1 and "String" in fields[0] else ""
