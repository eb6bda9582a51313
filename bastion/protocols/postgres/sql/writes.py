"""Reads INSERT, UPDATE, DELETE and MERGE: the rows they change, and everything that the change sets off."""

from collections.abc import Iterable
from typing import Any

from bastion.model.action import Access
from bastion.protocols.postgres.sql import selectivity
from bastion.protocols.postgres.sql.catalog import Relation
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.query import Query
from bastion.protocols.postgres.sql.scope import Scope, Source

_RULE_EVENTS = {"update": "2", "insert": "3", "delete": "4"}
"""As `pg_rewrite.ev_type`."""
_MERGE_VERBS = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete", "CMD_NOTHING": ""}


class DataChange:
    """Reads the statements that change rows, for one text."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._set_off: set[tuple[int, str, frozenset[str] | None]] = set()
        query.data_change = self.read

    def read(self, kind: str, body: Node, scope: Scope) -> list[str] | None:
        """Walk one statement; return the columns of its RETURNING where they are known."""
        match kind:
            case "InsertStmt":
                return self._insert(body, scope)
            case "UpdateStmt":
                return self._update(body, scope)
            case "DeleteStmt":
                return self._delete(body, scope)
            case "MergeStmt":
                return self._merge(body, scope)
        self._query.effects.unknown(kind)
        return None

    def _insert(self, body: Node, scope: Scope) -> list[str] | None:
        fields = ("relation", "cols", "selectStmt", "onConflictClause", "returningClause", "withClause", "override")
        self._check("InsertStmt", body, fields)
        query = self._query
        query.with_queries(body.get("withClause"), scope)
        if "selectStmt" in body:
            query.statement(body["selectStmt"], Scope(scope))
        relations, target = self._target(body["relation"], scope)
        named = [target_body["ResTarget"] for target_body in body.get("cols", ())]
        self._change(relations, "insert", [column["name"] for column in named] or None)
        for column in named:
            query.expression(column.get("indirection"), scope)
        scope.sources.append(target)
        if "onConflictClause" in body:
            self._conflict(body["onConflictClause"], relations, target, scope)
        return self._returning(body, target, scope)

    def _conflict(self, clause: Node, relations: list[Relation], target: Source, scope: Scope) -> None:
        self._check("OnConflictClause", clause, ("action", "infer", "targetList", "whereClause", "location"))
        query = self._query
        inner = Scope(scope)
        inner.sources.append(Source("excluded", dict(target.columns) if target.columns is not None else None))
        infer = clause.get("infer", {})
        self._check("InferClause", infer, ("indexElems", "whereClause", "conname", "location"))
        for element in infer.get("indexElems", ()):
            query.expression(element["IndexElem"].get("expr"), scope)
        query.expression(infer.get("whereClause"), scope)
        if clause["action"] == "ONCONFLICT_UPDATE":
            columns = self._assignments(clause.get("targetList", []), inner)
            self._change(relations, "update", columns, where=selectivity.UNSELECTIVE, selective=False)
            query.expression(clause.get("whereClause"), inner)

    def _update(self, body: Node, scope: Scope) -> list[str] | None:
        fields = ("relation", "targetList", "whereClause", "fromClause", "returningClause", "withClause")
        self._check("UpdateStmt", body, fields)
        query = self._query
        query.with_queries(body.get("withClause"), scope)
        relations, target = self._target(body["relation"], scope)
        scope.sources.append(target)
        for item in body.get("fromClause", ()):
            scope.sources += query.source(item, scope)
        columns = self._assignments(body["targetList"], scope)
        self._change(relations, "update", columns, **self._where(body, relations, target, "fromClause"))
        self._condition(body.get("whereClause"), scope)
        return self._returning(body, target, scope)

    def _delete(self, body: Node, scope: Scope) -> list[str] | None:
        self._check("DeleteStmt", body, ("relation", "usingClause", "whereClause", "returningClause", "withClause"))
        query = self._query
        query.with_queries(body.get("withClause"), scope)
        relations, target = self._target(body["relation"], scope)
        scope.sources.append(target)
        for item in body.get("usingClause", ()):
            scope.sources += query.source(item, scope)
        self._change(relations, "delete", [], **self._where(body, relations, target, "usingClause"))
        self._condition(body.get("whereClause"), scope)
        return self._returning(body, target, scope)

    def _merge(self, body: Node, scope: Scope) -> list[str] | None:
        fields = ("relation", "sourceRelation", "joinCondition", "mergeWhenClauses", "returningClause", "withClause")
        self._check("MergeStmt", body, fields)
        query = self._query
        query.with_queries(body.get("withClause"), scope)
        relations, target = self._target(body["relation"], scope)
        sources = query.source(body["sourceRelation"], scope)
        scope.sources += [target, *sources]
        query.expression(body["joinCondition"], scope)
        kinds = {node["MergeWhenClause"]["matchKind"] for node in body["mergeWhenClauses"]}
        if "MERGE_WHEN_NOT_MATCHED_BY_SOURCE" in kinds:  # all rows but those that the condition picks
            how = selectivity.UNSELECTIVE
        else:
            how = self._selectivity(body["joinCondition"], body["relation"], relations, target, alone=False)
        facts: dict[str, Any] = {"where": how, "selective": how == selectivity.SELECTIVE}
        for relation in relations:
            query.effects.touch(relation, "merge", query.through).facts.update(facts)
        for node in body["mergeWhenClauses"]:
            clause = node["MergeWhenClause"]
            self._check(
                "MergeWhenClause", clause, ("matchKind", "commandType", "override", "condition", "targetList", "values")
            )
            verb = _MERGE_VERBS.get(clause["commandType"])
            query.expression(clause.get("condition"), scope)
            query.expression(clause.get("values"), scope)
            columns = self._assignments(clause.get("targetList", []), scope)
            if verb is None:
                query.effects.unknown("MergeWhenClause")
            elif verb:
                self._change(relations, verb, columns or (None if verb == "insert" else []), **facts)
        return self._returning(body, target, scope)

    def _check(self, kind: str, body: Node, fields: Iterable[str]) -> None:
        for field in body.keys() - fields:
            self._query.effects.unknown(f"{kind}.{field}")

    def _target(self, body: Node, scope: Scope) -> tuple[list[Relation], Source]:
        """Return the relations that the target can be, and the source that it is in the statement."""
        query = self._query
        relations = list(query.names.relations(body.get("schemaname", ""), body["relname"]))
        source = query.table(body, scope, "change")
        source.touches = [query.effects.aim(relation, query.through) for relation in relations]
        return relations, source

    def _where(self, body: Node, relations: list[Relation], target: Source, others: str) -> dict[str, Any]:
        how = self._selectivity(
            body.get("whereClause"), body["relation"], relations, target, alone=not body.get(others)
        )
        return {"where": how, "selective": how == selectivity.SELECTIVE}

    def _selectivity(
        self, condition: Node | None, named: Node, relations: list[Relation], target: Source, *, alone: bool
    ) -> str:
        query = self._query
        whole = bool(named.get("inh"))
        return selectivity.where(
            condition, relations, target.alias, query.catalog, alone=alone, whole=whole, exact=query.exact_parameters
        )

    def _condition(self, node: Node | None, scope: Scope) -> None:
        if node and "CurrentOfExpr" in node:
            if "cursor_name" not in node["CurrentOfExpr"]:
                self._query.effects.unknown("CurrentOfExpr")
            return
        self._query.expression(node, scope)

    def _assignments(self, targets: list[Node], scope: Scope) -> list[str]:
        """Walk the assignments of SET and return the columns assigned to."""
        query = self._query
        columns: list[str] = []
        sources: set[int] = set()
        for node in targets:
            body = node["ResTarget"]
            columns.append(body["name"])
            query.expression(body.get("indirection"), scope)
            value = body.get("val", {})
            if "MultiAssignRef" in value:  # the same query under each of its columns
                place = value["MultiAssignRef"].get("source", {}).get("SubLink", {}).get("location", -1)
                if place in sources:
                    continue
                if place != -1:
                    sources.add(place)
            query.expression(value, scope)
        return columns

    def _returning(self, body: Node, target: Source, scope: Scope) -> list[str] | None:
        clause = body.get("returningClause")
        if not clause:
            return []
        self._check("ReturningClause", clause, ("options", "exprs"))
        names = {"old", "new"}
        for option in clause.get("options", ()):
            names.add(option["ReturningOption"].get("value", ""))
        inner = Scope(scope.outer)
        inner.queries = scope.queries
        inner.sources = scope.sources + [Source(name, target.columns, target.touches) for name in sorted(names)]
        self._query.expression(clause["exprs"], inner)
        return self._query.outputs(clause["exprs"], scope)

    # What a change sets off

    def change(self, relation: Relation, verb: str, **facts: Any) -> None:
        """Note a change that another statement makes, such as COPY or TRUNCATE, and what it sets off."""
        self._change([relation], verb, None if verb in {"insert", "copy"} else [], **facts)

    def _change(self, relations: list[Relation], verb: str, columns: list[str] | None, **facts: Any) -> None:
        query = self._query
        query.calls.writes = True
        for relation in relations:
            touch = query.effects.touch(relation, verb, query.through)
            touch.columns.update(relation.columns if columns is None else columns)
            if selectivity.worse(facts.get("where"), touch.facts.get("where")):
                touch.facts.update(facts)
            query.part_of(relation, touch)
            self._sets_off(relation, verb, facts, frozenset(columns) if verb == "update" and columns else None)

    def _sets_off(
        self, relation: Relation, verb: str, facts: dict[str, Any], assigned: frozenset[str] | None = None
    ) -> None:
        """Note what a change sets off; `assigned` are the columns that an update assigns to, where that is known."""
        event = "insert" if verb == "copy" else verb
        key = (relation.oid, event, assigned)
        if key in self._set_off or relation.system:
            return
        self._set_off.add(key)
        query, catalog = self._query, self._query.catalog
        query.calls.occurs(relation.row_type)
        if event in {"insert", "update"}:
            query.calls.type_oids.update(relation.columns.values())
            for column in relation.columns.values():
                query.calls.occurs(column)
            for text in catalog.write_expressions.get(relation.oid, ()):
                query.follow(query.definitions.expression(text, relation))
        self._fires(relation, event)
        for ev_type, definition in catalog.rules.get(relation.oid, ()):
            if ev_type == _RULE_EVENTS.get(event):
                query.follow(query.definitions.rule(definition, relation))
        if relation.kind == "v":
            self._through_view(relation, verb, facts)
        for reference in catalog.references.get(relation.oid, ()):
            how = reference.deletes if event == "delete" else reference.updates if event == "update" else ""
            other = catalog.relations_by_oid.get(reference.relation)
            if event == "update" and assigned is not None and reference.key and assigned.isdisjoint(reference.key):
                continue
            if how in {"c", "n", "d"} and other is not None:
                self._carried(relation, other, "delete" if (event, how) == ("delete", "c") else "update", facts)
        for child in catalog.children.get(relation.oid, ()):
            inherited = catalog.relations_by_oid.get(child)
            if inherited is not None:
                self._sets_off(inherited, verb, facts, assigned)
                if event == "update" and relation.kind == "p":  # a row that moves to another partition
                    self._fires(inherited, "delete")
                    self._fires(inherited, "insert")

    def _fires(self, relation: Relation, event: str) -> None:
        """Note the triggers of a relation for an event."""
        query, catalog = self._query, self._query.catalog
        for trigger in catalog.triggers.get(relation.oid, ()):
            function = catalog.functions_by_oid.get(trigger.function)
            if event in trigger.events:
                if trigger.definition:
                    query.follow(query.definitions.condition(trigger.definition, relation))
                if function is None:
                    query.effects.add("function", f"oid {trigger.function}", "call", Access.UNKNOWN)
                elif not (function.builtin and function.language == "internal"):
                    query.calls.note(function, trigger=f"{relation.full_name}.{trigger.name}")

    def _carried(self, source: Relation, relation: Relation, verb: str, facts: dict[str, Any]) -> None:
        """Note what a foreign key carries on to the referencing relation, of whose rows any number may hold the key."""
        if facts.get("where") == selectivity.SELECTIVE:
            facts = {**facts, "where": selectivity.UNSELECTIVE, "selective": False}
        touch = self._query.effects.touch(relation, verb, source.full_name)
        if selectivity.worse(facts.get("where"), touch.facts.get("where")):
            touch.facts.update(facts)
        self._sets_off(relation, verb, facts)

    def _through_view(self, view: Relation, verb: str, facts: dict[str, Any]) -> None:
        """Note the change of what a view stands for; which of its relations it is, the server decides."""
        definition = self._query.definitions.view(view)
        self._query.follow(definition)
        for relation in definition.relations:
            touch = self._query.effects.touch(relation, verb, view.full_name)
            touch.whole()
            if selectivity.worse(facts.get("where"), touch.facts.get("where")):
                touch.facts.update(facts)
            self._sets_off(relation, verb, facts)
