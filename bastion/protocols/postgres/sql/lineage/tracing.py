"""Traces what becomes of watched columns in one statement: what is shown of them, and what else depends on them.

Where anything is not understood exactly, every watched column that the statement may touch counts as untraced. What
the owner of a table makes it do (row security, defaults, checks, triggers) is not followed: it is his to let or not.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from bastion.model.action import Resource
from bastion.model.mask import ANY, BECAUSE, USES, Use
from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.following import Definitions
from bastion.protocols.postgres.sql.lineage import defining
from bastion.protocols.postgres.sql.lineage.copying import copy_form
from bastion.protocols.postgres.sql.lineage.findings import Findings
from bastion.protocols.postgres.sql.lineage.levels import Level
from bastion.protocols.postgres.sql.lineage.values import Rows, Untraceable
from bastion.protocols.postgres.sql.lineage.views import BROKEN, Views, Walk
from bastion.protocols.postgres.sql.lineage.watching import Watch, Watched
from bastion.protocols.postgres.sql.names import Names
from bastion.protocols.postgres.sql.parser import Node, Parser
from bastion.protocols.postgres.sql.reading import FUNCTION, CopyForm, Origin, Output, Outputs, SearchPath
from bastion.protocols.postgres.sql.showing import anything
from bastion.protocols.postgres.sql.trees import strings

_RESULT: Final = "result"
"""The one thing of a function that is used."""
_CHANGES: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_FOLLOWED: Final = _CHANGES | {
    "SelectStmt",
    "ExplainStmt",
    "CopyStmt",
    "CreateTableAsStmt",
    "CallStmt",
    "ExecuteStmt",
}
"""Kinds of statement that can let a value out, beside definitions. Of the others, the catalog or the session is all
that sees one."""
_RULE_EVENTS: Final = {"2": "update", "3": "insert", "4": "delete"}
"""By `pg_rewrite.ev_type`."""
_STATISTICS: Final = frozenset(
    {"pg_catalog.pg_statistic", "pg_catalog.pg_stats", "pg_catalog.pg_statistic_ext_data", "pg_catalog.pg_stats_ext"}
    | {"pg_catalog.pg_stats_ext_exprs"}
)
"""What the planner keeps of the values of any column."""


class Lineage:
    """Traces the statements of one analyst. For any thread."""

    def __init__(self, catalog: Catalog, watched: Watched, definitions: Definitions, parser: Parser) -> None:
        self._catalog = catalog
        self.watch = Watch(catalog, watched)
        """The watched columns by themselves."""
        self._views = Views(catalog, self.watch, definitions, parser)
        self._definitions = definitions
        self._relations: dict[str, set[str]] = {}
        for oid in watched:
            relation = catalog.relations_by_oid[oid]
            self._relations.setdefault(relation.full_name, set()).update(watched[oid])

        self._rules: dict[str, set[str]] = {}
        """The verbs that rules turn into others, by the relation's full name."""
        for oid, rules in catalog.rules.items():
            if oid in catalog.relations_by_oid:
                name = catalog.relations_by_oid[oid].full_name
                self._rules.setdefault(name, set()).update(_RULE_EVENTS.get(event, "") for event, _ in rules)

    def trace(
        self, node: Node, paths: frozenset[SearchPath], resources: list[Resource], effect: int | None
    ) -> tuple[list[Resource], Outputs | None]:
        """Return the resources of a statement with how they are used, and what it returns to the client, if anything.

        `effect` is the place of the first effect on the session that the statement has.
        """
        if "ListenStmt" in node:
            # What others will send could hold anything; whoever listens is in reach of every mask.
            return [replace(r, facts={**r.facts, USES: {ANY: []}}) for r in resources], None
        ((kind, body),) = node.items()
        if kind in defining.KINDS:
            return self._defined(kind, body, paths, resources), None
        if not self._reached(resources):
            return resources, _plain(node, effect)
        doubtful = frozenset(r.name for r in resources if r.kind == "function" and not r.facts.get("missing"))
        walk = Walk(self._catalog, Names(self._catalog, paths), doubtful, self.watch, self._views)
        failed = ""
        outputs: Outputs | None = None
        try:
            outputs = self._followed(walk, kind, body, effect) if kind in _FOLLOWED else _plain(node, effect)
        except Untraceable as error:
            failed = f"the statement has what is not followed: {error}"
        except BROKEN:
            failed = "the statement is not understood"
        ruled = self._ruled(resources)
        if not failed and kind in _FOLLOWED:
            failed = ruled or self._missed(walk, resources)
        if not failed and any(r.kind == "function" and r.facts.get("cast") for r in resources):
            failed = "a cast may take it of which nobody knows what it does"
        judged = [self._with_uses(resource, walk.findings, failed, whole=bool(ruled)) for resource in resources]
        return judged, _plain(node, effect) if failed else outputs

    def _reached(self, resources: Iterable[Resource]) -> bool:
        """Tell whether a statement touches anything that is watched, or runs what might."""
        for resource in resources:
            if resource.kind == "function" or _is_any(resource):
                return True
            if resource.kind == "relation" and resource.name in self._relations:
                return True
        return False

    # What is followed

    def _followed(self, walk: Walk, kind: str, body: Node, effect: int | None) -> Outputs | None:
        match kind:
            case "ExplainStmt":
                return self._explain(walk, body, effect)
            case "CopyStmt":
                return self._copy(walk, body)
            case "CreateTableAsStmt":
                self._create(walk, body)
                return None
            case "CallStmt":
                call = walk.value({"FuncCall": body["funccall"]}, Level())
                return _shown(walk, Rows([], call))
            case "ExecuteStmt":
                for value in walk.values(body.get("params", ()), Level()):
                    walk.untraced(value, "a prepared statement takes it")
                return Outputs(0, rest=frozenset(), effect=effect)
        rows = walk.query({kind: body}, Level())
        return _shown(walk, rows) if _returns(kind, body) else None

    def _explain(self, walk: Walk, body: Node, effect: int | None) -> Outputs:
        """Follow what is explained. Its rows are not shown; but what functions return may be part of the plan."""
        ((kind, inner),) = body["query"].items()
        self._followed(walk, kind, inner, effect)
        for uses in walk.findings.uses.values():
            uses.pop(Use.OUTPUT, None)
        walk.findings.add(((FUNCTION, name) for name in walk.called), Use.UNTRACED, "its result may be in the plan")
        return Outputs(0, rest=frozenset())

    def _copy(self, walk: Walk, body: Node) -> Outputs | None:
        if body.get("is_from"):
            return None
        if "query" in body:
            rows = walk.query(body["query"], Level())
        else:
            item = walk.table(body["relation"], Level())
            computed = self._computed(walk, body["relation"])
            names = strings(body.get("attlist", ()))
            rows = Rows([column for column in item.rows.columns if not names and column.name not in computed])
            for name in names:
                rows.add(name, item.named[name][0])
            walk.findings.met |= item.rows.whole.origins
        if body.get("filename"):
            walk.findings.add(rows.whole.origins, Use.WRITTEN, "it is written to a file or program (COPY)")
            return None
        form = copy_form(body.get("options", []))
        found = _shown(walk, rows)
        return Outputs(0, found.columns, found.rest, copied=form)

    def _computed(self, walk: Walk, named: Node) -> frozenset[str]:
        """Return the generated columns of a table, which COPY leaves out."""
        relations = walk.names.relations(named.get("schemaname", ""), named["relname"])
        found = {relation.generated for relation in relations}
        if len(found) > 1:
            raise Untraceable("a name that may mean several tables")
        return found.pop()

    def _create(self, walk: Walk, body: Node) -> None:
        if "ExecuteStmt" in body["query"]:
            return
        # A materialized view would be followed to what it reads, but it could be renamed under a statement that waits.
        rows = walk.query(body["query"], Level())
        name = body["into"].get("rel", {}).get("relname", "")
        walk.findings.add(rows.whole.origins, Use.WRITTEN, f"it is put into the new table {name}")

    def _defined(
        self, kind: str, body: Node, paths: frozenset[SearchPath], resources: list[Resource]
    ) -> list[Resource]:
        """Return the resources of a definition, the first of them with all that it does with what is watched."""
        walk = Walk(self._catalog, Names(self._catalog, paths), defining.Everything(), self.watch, self._views)
        follower = defining.Defining(walk, self._catalog, self.watch, self._definitions)
        try:
            follower.follow(kind, body)
        except Untraceable as error:
            follower.anything[Use.UNTRACED] = f"the definition has what is not followed: {error}"
        except BROKEN:
            follower.anything[Use.UNTRACED] = "the definition is not understood"
        judged = [self._with_uses(resource, walk.findings, "", whole=False) for resource in resources]
        uses = defining.spread(follower, walk)
        place = next((at for at, resource in enumerate(judged) if resource.kind != "function"), 0)
        known: Any = judged[place].facts.get(USES, {})
        if uses and ANY not in known:
            judged[place] = _used(judged[place], {key: {} for key in known} | uses)
        return judged

    # What is made of it

    def _missed(self, walk: Walk, resources: list[Resource]) -> str:
        """Return why the walk cannot be relied upon, if it did not come across all that the statement may read."""
        for resource in resources:
            if resource.kind == "construct" or resource.facts.get("missing"):
                return "the statement has what is not understood"
            if (
                resource.kind != "relation"
                or resource.verb != "select"
                or self._is_owners(str(resource.facts.get("through", "")))
            ):
                continue
            watched = self._relations.get(resource.name, set())
            columns: Any = resource.facts.get("columns", ())
            if any((resource.name, column) not in walk.findings.met for column in watched.intersection(columns)):
                return "the statement reads it in a way that is not followed"
        return ""

    def _ruled(self, resources: list[Resource]) -> str:
        """Return why the walk cannot be relied upon, if rules turn the statement into others."""
        if any(r.kind == "relation" and r.verb in self._rules.get(r.name, ()) for r in resources):
            return "a rule of the table may put it elsewhere"
        return ""

    def _named(self, name: str) -> list[Relation]:
        schema, _, table = name.partition(".")
        catalog = self._catalog
        found = catalog.temporary.get(table) if schema == "pg_temp" else catalog.relations.get((schema, table))
        return [] if found is None else [found]

    def _is_owners(self, through: str) -> bool:
        """Tell whether something is read because the owner of a table made it so, and not by a rule."""
        found = self._named(through) if through else []
        return bool(found) and all(r.kind in {"r", "p", "f"} and r.oid not in self._catalog.rules for r in found)

    def _with_uses(self, resource: Resource, findings: Findings, failed: str, *, whole: bool) -> Resource:
        """Return the resource with what is used of it, and why where that is more than shown."""
        origins: dict[str, Origin] = {}
        if resource.kind == "function" and not resource.facts.get("missing"):
            origins = {_RESULT: (FUNCTION, resource.name)}
        elif _is_any(resource):
            return anything(resource)
        elif resource.kind == "relation":
            watched = self._relations.get(resource.name, set())
            origins = {f"{resource.name}.{column}": (resource.name, column) for column in sorted(watched)}
        if not origins:
            return resource
        uses = {key: dict(findings.uses.get(origin, {})) for key, origin in origins.items()}
        if failed and not resource.facts.get("trigger"):
            columns: Any = resource.facts.get("columns", ())
            for key, (_, column) in origins.items():
                if whole or resource.kind == "function" or column in columns or uses[key]:
                    uses[key][Use.UNTRACED] = failed
        return _used(resource, uses)


def _is_any(resource: Resource) -> bool:
    """Tell whether a resource may have to do with any column at all."""
    unknown = resource.kind in {"code", "construct"} or bool(resource.facts.get("missing"))
    return unknown or (resource.kind == "relation" and resource.name in _STATISTICS)


def _used(resource: Resource, uses: dict[str, dict[Use, str]]) -> Resource:
    """Return the resource with these uses among its facts."""
    facts = {**resource.facts, USES: {key: sorted(use.value for use in found) for key, found in uses.items()}}
    because = {key: _worst(found) for key, found in uses.items()}
    said = {key: words for key, words in because.items() if words}
    if said:
        facts[BECAUSE] = said
    return Resource(resource.kind, resource.name, resource.verb, resource.access, facts)


def _worst(uses: dict[Use, str]) -> str:
    for use in (Use.UNTRACED, Use.WRITTEN, Use.PREDICATE):
        if use in uses:
            return uses[use]
    return ""


def _shown(walk: Walk, rows: Rows) -> Outputs:
    """Return what the client is shown, having noted so."""
    walk.findings.add(rows.whole.origins, Use.OUTPUT)
    columns = tuple(Output(name, value.origins, value.bare) for name, value in rows.columns)
    return Outputs(0, columns, rows.rest.origins if rows.rest is not None else None)


def _returns(kind: str, body: Node) -> bool:
    """Tell whether a query or change returns rows to the client."""
    if kind in _CHANGES:
        return bool(body.get("returningClause"))
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        body = body["larg"]
    return kind == "SelectStmt" and "intoClause" not in body


def _plain(node: Node, effect: int | None) -> Outputs | None:
    """Return what a statement returns that shows nothing watched, if it returns anything at all."""
    ((kind, body),) = node.items()
    nothing = Outputs(0, rest=frozenset())
    match kind:
        case "ExplainStmt" | "VariableShowStmt" | "CallStmt":
            return nothing
        case "ExecuteStmt":
            return Outputs(0, rest=frozenset(), effect=effect)
        case "FetchStmt":
            return None if body.get("ismove") else Outputs(0, rest=frozenset(), effect=effect)
        case "CopyStmt":
            return None if body.get("is_from") or body.get("filename") else replace(nothing, copied=_form(body))
    return nothing if _returns(kind, body) else None


def _form(body: Node) -> CopyForm | None:
    """Return how a COPY writes its rows, or None where that is not known."""
    try:
        return copy_form(body.get("options", []))
    except Untraceable:
        return None
