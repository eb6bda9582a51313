"""Walks queries: SELECT, VALUES, set operations and WITH."""

from collections.abc import Callable, Iterable

from bastion.model.action import Access
from bastion.protocols.postgres.sql import nodes
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.effects import Effects
from bastion.protocols.postgres.sql.following import Definitions
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.reading import SearchPath
from bastion.protocols.postgres.sql.scope import MOST_COLUMNS, Scope, Source, TooComplex
from bastion.protocols.postgres.sql.sources import Sources
from bastion.protocols.postgres.sql.trees import figured, is_plain_combination, setting_row, strings


class Query(Sources):
    """Reads queries and expressions of one text, and collects what they do."""

    def __init__(
        self,
        catalog: Catalog,
        paths: frozenset[SearchPath],
        definitions: Definitions,
        effects: Effects | None = None,
        through: str = "",
    ) -> None:
        super().__init__(catalog, paths, definitions, effects, through)
        self.data_change: Callable[[str, Node, Scope], list[str] | None] = _refused
        """Walks a statement that changes rows."""

    def apart(self) -> "Query":
        """Return a query over the same catalog that collects on its own."""
        other = Query(self.catalog, self._paths, self.definitions)
        other.created, other.budget = self.created, self.budget
        other.exact_parameters = self.exact_parameters
        return other

    def statement(self, node: Node, scope: Scope) -> list[str] | None:
        """Walk a statement that can stand where rows are wanted; return its columns where they are known."""
        ((kind, body),) = node.items()
        if kind == "SelectStmt":
            return self.select(body, scope)
        return self.data_change(kind, body, scope)

    def select(self, body: Node, scope: Scope) -> list[str] | None:
        """Walk one SELECT or VALUES in a scope of its own; return its columns where they are known."""
        self._known("SelectStmt", body, nodes.SELECT_FIELDS)
        self.with_queries(body.get("withClause"), scope)
        if "intoClause" in body:
            self.creates(body["intoClause"].get("rel", {}), "table")
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            return self._combined(body, scope)
        for item in body.get("fromClause", ()):
            scope.sources += self.source(item, scope)
        targets = body.get("targetList", [])
        self._pinned_setting = setting_row(body)
        self.expression(targets, scope)
        self._pinned_setting = ""
        self.expression(body.get("whereClause"), scope)
        outputs = self.outputs(targets, scope)
        for field in ("groupClause", "sortClause", "distinctClause"):
            self._ordering([node for node in body.get(field, ()) if node], scope, outputs)
        for field in ("havingClause", "windowClause", "limitOffset", "limitCount"):
            self.expression(body.get(field), scope)
        if "valuesLists" in body:
            self.expression(body["valuesLists"], scope)
            width = len(body["valuesLists"][0]["List"].get("items", ()))
            outputs = [f"column{n}" for n in range(1, width + 1)]
        if "lockingClause" in body:
            self._locks(body["lockingClause"], scope)
        return outputs

    def _combined(self, body: Node, scope: Scope) -> list[str] | None:
        """Walk a UNION, INTERSECT or EXCEPT; a long chain of them leans to the left."""
        arms: list[Node] = []
        left = body
        while left is body or is_plain_combination(left):
            self._known("SelectStmt", left, nodes.SELECT_FIELDS)
            arms.append(left["rarg"])
            left = left["larg"]
        outputs = self.select(left, Scope(scope))
        for arm in reversed(arms):
            self.select(arm, Scope(scope))
        self._ordering(body.get("sortClause", ()), scope, outputs)
        self.expression(body.get("limitOffset"), scope)
        self.expression(body.get("limitCount"), scope)
        if "lockingClause" in body:
            self._locks(body["lockingClause"], scope)
        return outputs

    def _ordering(self, items: Iterable[Node], scope: Scope, outputs: list[str] | None) -> None:
        """Walk ORDER BY, GROUP BY or DISTINCT ON, where a bare name may be one of the select list's."""
        known = frozenset(outputs or ())
        for item in items:
            sort = item.get("SortBy")
            node = item if sort is None else sort["node"]
            fields = node.get("ColumnRef", {}).get("fields", ())
            if len(fields) == 1 and "String" in fields[0] and fields[0]["String"].get("sval") in known:
                self.budget.spend(scope)
                scope.take(fields[0]["String"]["sval"])
                node = {}
            if sort is not None:
                self.expression({"SortBy": {**sort, "node": node}}, scope)
            else:
                self.expression(node, scope)

    def with_queries(self, clause: Node | None, scope: Scope) -> None:
        """Walk the queries of a WITH and make their names known in `scope`."""
        if not clause:
            return
        self._known("WithClause", clause, ("ctes", "recursive", "location"))
        bodies = [node["CommonTableExpr"] for node in clause["ctes"]]
        if clause.get("recursive"):
            scope.queries.update({cte["ctename"]: None for cte in bodies})
        for cte in bodies:
            self._known(
                "CommonTableExpr",
                cte,
                (
                    "ctename",
                    "aliascolnames",
                    "ctematerialized",
                    "ctequery",
                    "location",
                    "search_clause",
                    "cycle_clause",
                ),
            )
            columns = self.statement(cte["ctequery"], Scope(scope))
            if columns is not None and "aliascolnames" in cte:
                given = strings(cte["aliascolnames"])
                columns = given + columns[len(given) :]
            if "search_clause" in cte or "cycle_clause" in cte:
                columns = None
                inner = Scope(scope)
                inner.sources.append(Source.of_names("", None))
                if "cycle_clause" in cte:
                    self.expression({"CTECycleClause": cte["cycle_clause"]}, inner)
            scope.queries[cte["ctename"]] = columns

    def outputs(self, targets: list[Node], scope: Scope) -> list[str] | None:
        """Return the names of a select list, or None if they cannot be told."""
        found: list[str] = []
        for target in targets:
            if len(found) > MOST_COLUMNS:
                raise TooComplex
            body = target["ResTarget"]
            if "name" in body:
                found.append(body["name"])
                continue
            name = figured(body["val"])
            if name != "*":
                found.append(name)
                continue
            fields = strings(body["val"]["ColumnRef"]["fields"][:-1])
            chosen = scope.source(fields[-1]) if fields else None
            for source in [chosen] if fields else scope.sources:
                if source is None or source.columns is None:
                    return None
                found += source.columns
                if len(found) > MOST_COLUMNS:
                    raise TooComplex
        return found

    def _locks(self, clauses: list[Node], scope: Scope) -> None:
        """Note the row locks of FOR UPDATE and its kin: on every relation so far where it is not plain which."""
        touches = {touch.relation.oid: touch.relation for source in scope.sources for touch in source.touches}
        plain = scope.sources and all(source.touches for source in scope.sources)
        relations = touches if plain else {t.relation.oid: t.relation for t in self.effects.touched()}
        for clause in clauses:
            self._known("LockingClause", clause["LockingClause"], ("lockedRels", "strength", "waitPolicy"))
        for relation in relations.values():
            self.effects.touch(relation, "lock", self.through)
        if not relations:
            self.effects.add("relation", "*", "lock", Access.WRITE, columns=[])

    def creates(self, relation: Node, kind: str, access: Access = Access.ADMIN) -> None:
        """Note that the text makes a relation."""
        name, schema = relation.get("relname", ""), relation.get("schemaname", "")
        if relation.get("relpersistence") == "t":
            schema = "pg_temp"
        self.created.add(name)
        for place in {schema} if schema else self.names.creation_schemas():
            self.effects.add("relation", f"{place}.{name}", "create", access, is_a=kind, columns=[])

    def may_be_temporary(self, name: str) -> bool:
        """Tell whether the session may have a temporary object of that name."""
        return bool(self.catalog.temporary_schema) or name in self.created

    def settle(self) -> None:
        """Note which functions may run, once everything has been walked."""
        calls = self.calls
        calls.settle()
        for text in dict.fromkeys(calls.checks):
            self.follow(self.definitions.expression(text, None))


def _refused(kind: str, body: Node, scope: Scope) -> list[str] | None:
    raise ValueError(f"{kind} cannot stand here")
