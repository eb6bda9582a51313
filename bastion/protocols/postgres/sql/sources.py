"""Walks FROM: which relations are read, and what else stands where a relation could."""

from bastion.model.action import Access
from bastion.protocols.postgres.sql import nodes
from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.effects import Effects, Touch
from bastion.protocols.postgres.sql.expressions import Expressions
from bastion.protocols.postgres.sql.following import Definition, Definitions
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.reading import SearchPath
from bastion.protocols.postgres.sql.scope import Scope, Source
from bastion.protocols.postgres.sql.trees import figured, qualified, strings

_SAMPLING = frozenset({"bernoulli", "system"})


class Sources(Expressions):
    """Reads the items of FROM of one text."""

    def __init__(
        self,
        catalog: Catalog,
        paths: frozenset[SearchPath],
        definitions: Definitions,
        effects: Effects | None = None,
        through: str = "",
    ) -> None:
        super().__init__(catalog, paths, definitions, effects, through)
        self._followed: set[int] = set()

    def source(self, node: Node, scope: Scope) -> list[Source]:
        """Walk one item of FROM and return what it lets the query name."""
        ((kind, body),) = node.items()
        match kind:
            case "RangeVar":
                return [self.table(body, scope)]
            case "JoinExpr":
                return self._join(body, scope)
            case "RangeSubselect":
                self._known(kind, body, ("lateral", "subquery", "alias"))
                around = scope if body.get("lateral") else _beside(scope)
                columns = self.statement(body["subquery"], Scope(around))
                return [_aliased(Source.of_names("", columns), body.get("alias"))]
            case "RangeFunction":
                return [self._function_source(body, scope)]
            case "RangeTableSample":
                return self._sample(body, scope)
            case "RangeTableFunc" | "JsonTable":
                return [self._table_function(kind, body, scope)]
        self.effects.unknown(kind)
        return [Source.of_names("", None)]

    def table(self, body: Node, scope: Scope, verb: str = "select") -> Source:
        """Return the source that a relation named in the text is, having noted that it is read."""
        self._known(
            "RangeVar", body, ("catalogname", "schemaname", "relname", "inh", "relpersistence", "alias", "location")
        )
        name, schema = body["relname"], body.get("schemaname", "")
        alias = body.get("alias", {})
        if not schema and verb == "select":
            is_query, columns = scope.query(name)
            if is_query:
                return _aliased(Source.of_names(name, columns), alias)
        relations = self.names.relations(schema, name)
        touches = [self.read(relation) for relation in relations] if verb == "select" else []
        if not relations:
            if name not in self.created:
                told = f"{schema}.{name}" if schema else name
                self.effects.add("relation", told, verb, Access.UNKNOWN, missing=True, columns=[])
            return _aliased(Source.of_names(name, None), alias)
        seen = {column: column for relation in relations for column in relation.columns}
        return _aliased(Source(name, seen, touches, schema=relations[0].schema), alias)

    def read(self, relation: Relation) -> Touch:
        """Note that a relation is read, and everything that this sets off."""
        touch = self.effects.touch(relation, "select", self.through)
        touch.idle = False
        if relation.oid in self._followed:
            return touch
        self._followed.add(relation.oid)
        self.part_of(relation, touch)
        if relation.system:
            return touch
        self.calls.occurs(relation.row_type)
        for type_ in relation.columns.values():
            self.calls.occurs(type_)
        if relation.kind == "v":
            self.follow(self.definitions.view(relation))
        elif relation.kind == "m":  # holds its rows: where they are from matters, what was called then does not
            origin = self.definitions.view(relation)
            self.effects.include(r for r in origin.resources if r.kind == "relation")
            self.calls.present |= origin.types
        else:
            self._foreign_parts(relation)
        for text in self.catalog.read_expressions.get(relation.oid, ()):
            self.follow(self.definitions.expression(text, relation))
        return touch

    def _foreign_parts(self, relation: Relation) -> None:
        """Note the partitions and children of a table that are elsewhere."""
        for child in self.catalog.children.get(relation.oid, ()):
            part = self.catalog.relations_by_oid.get(child)
            if part is not None:
                if part.kind == "f":
                    self.effects.touch(part, "select", relation.full_name)
                self._foreign_parts(part)

    def part_of(self, relation: Relation, touch: Touch) -> None:
        """Note that who touches a partition touches what it is a part of: rules may know only that."""
        for oid in self.catalog.parents.get(relation.oid, ()):
            parent = self.catalog.relations_by_oid.get(oid)
            if parent is not None:
                whole = self.effects.touch(parent, touch.verb, relation.full_name)
                whole.columns, whole.facts = touch.columns, touch.facts
                self.part_of(parent, whole)

    def follow(self, definition: Definition) -> None:
        """Take in what a definition of the catalog does."""
        self.effects.include(definition.resources)
        self.calls.present |= definition.types

    def _join(self, body: Node, scope: Scope) -> list[Source]:
        self._known(
            "JoinExpr",
            body,
            ("jointype", "isNatural", "larg", "rarg", "usingClause", "join_using_alias", "quals", "alias", "rtindex"),
        )
        joined: list[Source] = []
        left = body
        chain = [body]
        while "JoinExpr" in left["larg"] and "alias" not in left["larg"]["JoinExpr"]:
            left = left["larg"]["JoinExpr"]
            chain.append(left)
        inner = _beside(scope)
        inner.sources = list(scope.sources)
        joined = self.source(left["larg"], inner)
        for step in reversed(chain):
            inner.sources = scope.sources + joined
            right = self.source(step["rarg"], inner)
            self._condition(step, joined, right, scope)
            joined = joined + right
            if "join_using_alias" in step:
                using = Source.of_names(step["join_using_alias"]["aliasname"], strings(step.get("usingClause", [])))
                joined.append(using)
        if "alias" not in body:
            return joined
        known = all(source.columns is not None for source in joined)
        columns = {name: name for source in joined for name in source.columns or ()} if known else None
        return [_aliased(Source("", columns, members=joined), body["alias"])]

    def _condition(self, body: Node, left: list[Source], right: list[Source], scope: Scope) -> None:
        names = strings(body.get("usingClause", []))
        if body.get("isNatural"):
            ours = {name for source in left for name in source.columns or ()}
            names = [name for source in right for name in source.columns or () if name in ours]
        if names or body.get("isNatural"):
            self.calls.operators.add(("", "="))
        for name in names:
            for source in (*left, *right):
                if source.has(name):
                    source.take(name)
        if "quals" in body:
            on = _beside(scope)
            on.sources = left + right
            self.expression(body["quals"], on)

    def _function_source(self, body: Node, scope: Scope) -> Source:
        self._known("RangeFunction", body, ("lateral", "ordinality", "is_rowsfrom", "functions", "alias", "coldeflist"))
        names: list[str] = []
        for item in body["functions"]:
            function, *definitions = item["List"]["items"]
            self.expression(function, scope)
            names.append(figured(function))
            for definition in definitions:
                self._column_types(definition.get("List", {}).get("items", []), scope)
        self._column_types(body.get("coldeflist", []), scope)
        return _aliased(Source.of_names(names[0] if names else "", None), body.get("alias"))

    def _column_types(self, definitions: list[Node], scope: Scope) -> None:
        for definition in definitions:
            self.expression({"TypeName": definition["ColumnDef"]["typeName"]}, scope)

    def _sample(self, body: Node, scope: Scope) -> list[Source]:
        self._known("RangeTableSample", body, ("relation", "method", "args", "repeatable", "location"))
        schema, name = qualified(body["method"])
        found = self.names.functions(schema, name)
        if name not in _SAMPLING or not found or not all(f.builtin for f in found):
            self.effects.add("function", name, "sample", Access.UNKNOWN)
        self.expression(body.get("args"), scope)
        self.expression(body.get("repeatable"), scope)
        return self.source(body["relation"], scope)

    def _table_function(self, kind: str, body: Node, scope: Scope) -> Source:
        fields = {
            "RangeTableFunc": ("docexpr", "rowexpr", "namespaces", "columns"),
            "JsonTable": ("context_item", "pathspec", "passing", "columns", "on_error"),
        }[kind]
        self._known(kind, body, (*fields, "lateral", "alias", "location"))
        if self.catalog.version < nodes.SINCE.get(kind, 0):
            self.effects.unknown(kind)
        bodies = {"context_item": "JsonValueExpr", "pathspec": "JsonTablePathSpec", "on_error": "JsonBehavior"}
        for field in fields:
            if field in body:
                typed = bodies.get(field)
                self.expression({typed: body[field]} if typed else body[field], scope)
        return _aliased(Source.of_names("", None), body.get("alias"))


def _beside(scope: Scope) -> Scope:
    """Return a scope at the same level with no sources: what a subquery that is not LATERAL sees around itself."""
    seen = Scope(scope.outer)
    seen.queries = scope.queries
    return seen


def _aliased(source: Source, alias: Node | None) -> Source:
    if alias:
        source.alias = alias.get("aliasname", source.alias)
        source.schema = ""
        if "colnames" in alias:
            source.renamed(strings(alias["colnames"]))
    return source
