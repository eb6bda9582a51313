"""Walks queries and expressions: what is read, called and compared, and what of it was not understood."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from bastion.model.action import Access, Resource
from bastion.protocols.postgres.sql import nodes
from bastion.protocols.postgres.sql.calls import Call, Calls
from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.effects import Effects, Touch
from bastion.protocols.postgres.sql.names import Names
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.scope import Scope, Source
from bastion.protocols.postgres.sql.settings import is_harmless, set_access, shown_access

_SAMPLING = frozenset({"bernoulli", "system"})


class Definition(Protocol):
    """The effects of a definition."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What the policy judges."""
        ...

    @property
    def types(self) -> frozenset[int]:
        """Types made by somebody that its values may have."""
        ...

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Relations it reads by itself."""
        ...


class Definitions(Protocol):
    """Gives what a definition in the catalog does, read once for all texts."""

    def view(self, relation: Relation) -> Definition:
        """Return what reading a view does."""
        ...

    def expression(self, text: str, relation: Relation | None) -> Definition:
        """Return what evaluating an expression does; `relation` is the one whose columns it may name."""
        ...

    def rule(self, text: str, relation: Relation) -> Definition:
        """Return what a rewrite rule does."""
        ...

    def condition(self, text: str, relation: Relation) -> Definition:
        """Return what the condition of a trigger does."""
        ...


class Query:
    """Reads queries and expressions of one text, and collects what they do."""

    def __init__(
        self,
        catalog: Catalog,
        paths: frozenset[tuple[str, ...]],
        definitions: Definitions,
        effects: Effects | None = None,
        through: str = "",
    ) -> None:
        self.catalog = catalog
        self.names = Names(catalog, paths)
        self.effects = effects or Effects(privileged=catalog.privileged)
        self.definitions = definitions
        self.through = through
        self.trusts_sequences = False
        """Whether `nextval` belongs to what the owner of a table made it do, as in a default."""
        self.calls = Calls(catalog, self.names, self.effects, set())
        self.empties_path = False
        """Whether the text empties the search path through a function."""
        self._pinned_setting = ""
        """The one row of pg_settings that a query is about, if it is."""
        self.created: set[str] = set()
        """Names that an earlier statement of the same text makes."""
        self._paths = paths
        self._followed: set[int] = set()
        self.data_change: Callable[[str, Node, Scope], list[str] | None] = _refused
        self._special: dict[str, Callable[[Node, Scope, list[tuple[str, Any]]], None]] = {
            "ColumnRef": self._column,
            "FuncCall": self._call,
            "A_Expr": self._operation,
            "TypeCast": self._cast,
            "TypeName": self._type_name,
            "SubLink": self._sublink,
            "A_Indirection": self._indirection,
            "CaseExpr": self._case,
            "SortBy": self._sort,
        }

    def apart(self) -> "Query":
        """Return a query over the same catalog that collects on its own."""
        other = Query(self.catalog, self._paths, self.definitions)
        other.created = self.created
        return other

    # Expressions

    def expression(self, node: Any, scope: Scope) -> None:
        """Walk a node, a list of nodes, or nothing."""
        if not node:
            return
        stack: list[tuple[str, Any]] = []
        _push(stack, node)
        special, plain = self._special, nodes.PLAIN
        while stack:
            kind, body = stack.pop()
            handle = special.get(kind)
            if handle is not None:
                handle(body, scope, stack)
                continue
            spec = plain.get(kind)
            if spec is None:
                self.effects.unknown(kind)
                continue
            scalars, children = spec
            for field, value in body.items():
                if field in scalars:
                    continue
                if field not in children:
                    self.effects.unknown(f"{kind}.{field}")
                    continue
                typed = children[field]
                if typed is not None:
                    stack.append((typed, value))
                else:
                    _push(stack, value)

    def _known(self, kind: str, body: Node, fields: Iterable[str]) -> None:
        for field in body.keys() - fields:
            self.effects.unknown(f"{kind}.{field}")

    def _column(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        fields = body["fields"]
        star = "A_Star" in fields[-1]
        parts = strings(fields[:-1] if star else fields)
        if star:
            self._star(parts, scope)
        elif len(parts) == 1:
            self._bare(parts[0], scope)
        else:
            *qualifier, alias, name = parts
            source = scope.source(alias, qualifier[-1] if qualifier else "")
            if source is None:
                self.effects.unknown("reference")
            elif source.has(name):
                source.take(name)
            else:  # a function that takes the row, where the row has no such field
                source.take_all()
                self.calls.functions.add(Call("", name, 1, field=True))
                if source.columns is not None and not self.names.functions("", name):
                    self.effects.add("column", f"{alias}.{name}", "select", Access.UNKNOWN, missing=True)

    def _bare(self, name: str, scope: Scope) -> None:
        if scope.take(name):
            return
        source = scope.source(name)
        if source is not None:
            source.take_all()
        else:
            scope.take_stray(name)

    def _star(self, parts: list[str], scope: Scope) -> None:
        if not parts:
            for source in scope.sources:
                source.take_all()
            return
        named = scope.source(parts[-1], parts[-2] if len(parts) > 1 else "")
        if named is None:
            self.effects.unknown("reference")
        else:
            named.take_all()

    def _call(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("FuncCall", body, nodes.FUNCTION_FIELDS)
        schema, name = qualified(body["funcname"])
        args = body.get("args", [])
        order = body.get("agg_order", [])
        count = len(args) + (len(order) if body.get("agg_within_group") else 0)
        if name in {"current_setting", "set_config"} and schema in {"", "pg_catalog"}:
            self._setting(name, args)
            self.calls.functions.add(Call(schema, name, count))
        elif not (self.trusts_sequences and name == "nextval" and schema in {"", "pg_catalog"}):
            self.calls.functions.add(Call(schema, name, count))
        for children in (args, order, body.get("agg_filter")):
            _push(stack, children)
        if "over" in body:
            stack.append(("WindowDef", body["over"]))

    def _setting(self, name: str, args: list[Node]) -> None:
        """Judge a built-in function that shows or sets the setting its first argument names."""
        literals = [constant(argument) for argument in args]
        setting = (literals[0] if literals else None) or self._pinned_setting
        if name == "current_setting":
            access = shown_access(setting, privileged=self.catalog.privileged)
            self.effects.add("setting", setting or "*", "show", access)
            return
        value = literals[1] if len(literals) > 1 else None
        if setting == "search_path":
            access = Access.READ if value == "" else Access.UNKNOWN
            self.empties_path = True
        else:
            access = set_access(setting, value or "") if setting else Access.UNKNOWN
            if value is None and access is Access.READ and not is_harmless(setting):
                access = Access.UNKNOWN  # which value decides
        self.effects.add("setting", setting or "*", "set", access)

    def _operation(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known(
            "A_Expr", body, ("kind", "name", "lexpr", "rexpr", "location", "rexpr_list_start", "rexpr_list_end")
        )
        kind = body["kind"]
        if kind in nodes.BETWEEN:
            self.calls.operators.update(("", name) for name in nodes.BETWEEN[kind])
        elif kind in nodes.OPERATOR_KINDS:
            self.calls.operators.add(qualified(body["name"]))
        else:
            self.effects.unknown(f"A_Expr {kind}")
        _push(stack, body.get("lexpr"))
        _push(stack, body.get("rexpr"))

    def _cast(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("TypeCast", body, ("arg", "typeName", "location"))
        self._type_name(body["typeName"], scope, stack)
        _push(stack, body["arg"])

    def _type_name(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("TypeName", body, nodes.TYPE_FIELDS)
        if "names" in body:
            self.calls.types.add(qualified(body["names"]))
        else:
            self.effects.unknown("TypeName")
        _push(stack, body.get("typmods"))

    def _sublink(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("SubLink", body, ("subLinkType", "testexpr", "operName", "subselect", "location"))
        if "operName" in body:
            self.calls.operators.add(qualified(body["operName"]))
        elif body["subLinkType"] in {"ANY_SUBLINK", "ALL_SUBLINK"}:
            self.calls.operators.add(("", "="))
        _push(stack, body.get("testexpr"))
        self.statement(body["subselect"], Scope(scope))

    def _indirection(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("A_Indirection", body, ("arg", "indirection"))
        for step in body["indirection"]:
            if "String" in step:
                self.calls.functions.add(Call("", step["String"].get("sval", ""), 1, field=True))
            else:
                _push(stack, step)
        _push(stack, body["arg"])

    def _case(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("CaseExpr", body, ("arg", "args", "defresult", "location"))
        if "arg" in body:
            self.calls.operators.add(("", "="))
        for field in ("arg", "args", "defresult"):
            _push(stack, body.get(field))

    def _sort(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("SortBy", body, ("node", "sortby_dir", "sortby_nulls", "useOp", "location"))
        if "useOp" in body:
            self.calls.operators.add(qualified(body["useOp"]))
        _push(stack, body["node"])

    # Queries

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
        self._pinned_setting = _setting_row(body)
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
        while left is body or _is_plain_combination(left):
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
        for item in items:
            sort = item.get("SortBy")
            node = item if sort is None else sort["node"]
            fields = node.get("ColumnRef", {}).get("fields", ())
            if len(fields) == 1 and "String" in fields[0] and fields[0]["String"].get("sval") in (outputs or ()):
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
        return found

    # FROM

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
        bodies = {"context_item": "JsonValueExpr", "pathspec": "JsonTablePathSpec", "on_error": "JsonBehavior"}
        for field in fields:
            if field in body:
                typed = bodies.get(field)
                self.expression({typed: body[field]} if typed else body[field], scope)
        return _aliased(Source.of_names("", None), body.get("alias"))

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

    def settle(self) -> None:
        """Note which functions may run, once everything has been walked."""
        calls = self.calls
        calls.settle()
        for text in dict.fromkeys(calls.checks):
            self.follow(self.definitions.expression(text, None))


def _refused(kind: str, body: Node, scope: Scope) -> list[str] | None:
    raise ValueError(f"{kind} cannot stand here")


def _push(stack: list[tuple[str, Any]], node: Any) -> None:
    if not node:
        return
    if isinstance(node, list):
        for item in node:
            if item:
                stack.extend(item.items())
    else:
        stack.extend(node.items())


def strings(items: Iterable[Node]) -> list[str]:
    """Return the text of each String node."""
    return [item["String"].get("sval", "") for item in items]


def qualified(items: Sequence[Node]) -> tuple[str, str]:
    """Return schema and name of a possibly qualified name; the schema is empty if there is none."""
    parts = strings(items)
    return (parts[-2] if len(parts) > 1 else "", parts[-1])


def constant(node: Node) -> str | None:
    """Return the string that a literal is, cast to a type or not, or None."""
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    literal = node.get("A_Const")
    return literal["sval"].get("sval", "") if literal is not None and "sval" in literal else None


def figured(node: Node) -> str:
    """Return the name that a column of a select list gets where none is given; `*` for a star."""
    ((kind, body),) = node.items()
    match kind:
        case "ColumnRef":
            last = body["fields"][-1]
            return "*" if "A_Star" in last else str(last["String"].get("sval", ""))
        case "FuncCall":
            return qualified(body["funcname"])[1]
        case "TypeCast":
            inner = figured(body["arg"])
            return inner if inner != "?column?" else qualified(body["typeName"].get("names", [{"String": {}}]))[1]
        case "A_Indirection":
            named = [step["String"]["sval"] for step in body["indirection"] if "String" in step]
            return named[-1] if named else figured(body["arg"])
        case "CollateClause":
            return figured(body["arg"])
    return "?column?"


def _is_plain_combination(body: Node) -> bool:
    """Tell whether a set operation has nothing of its own that its arms would not see."""
    own = {"withClause", "sortClause", "limitOffset", "limitCount", "lockingClause"}
    return body.get("op", "SETOP_NONE") != "SETOP_NONE" and own.isdisjoint(body)


def _setting_row(body: Node) -> str:
    """Return the name of the setting where a query is about that one row of pg_settings alone, as pg_dump's is."""
    tables = body.get("fromClause", [])
    test = body.get("whereClause", {}).get("A_Expr", {})
    if len(tables) != 1 or tables[0].get("RangeVar", {}).get("relname") != "pg_settings" or not test:
        return ""
    column = test.get("lexpr", {}).get("ColumnRef", {}).get("fields", [])
    if test["kind"] != "AEXPR_OP" or qualified(test["name"]) != ("", "=") or column != [{"String": {"sval": "name"}}]:
        return ""
    return constant(test["rexpr"]) or ""


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
