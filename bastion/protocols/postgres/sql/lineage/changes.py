"""Follows INSERT, UPDATE, DELETE and MERGE: what is written where, and what RETURNING shows."""

from collections.abc import Iterable
from typing import Any

from bastion.model.mask import Use
from bastion.protocols.postgres.sql.lineage.levels import Item, Level, Table, item_of
from bastion.protocols.postgres.sql.lineage.queries import Queries
from bastion.protocols.postgres.sql.lineage.values import NOTHING, Column, Rows, Untraceable, Value
from bastion.protocols.postgres.sql.parser import Node


class Changes(Queries):
    """Follows the statements that change rows."""

    def change(self, kind: str, body: Node, level: Level) -> Rows:
        """Follow one statement in a level of its own; return the columns of its RETURNING."""
        self.with_queries(body.get("withClause"), level)
        match kind:
            case "InsertStmt":
                return self._insert(body, level)
            case "UpdateStmt":
                return self._update(body, level)
            case "DeleteStmt":
                return self._delete(body, level)
            case "MergeStmt":
                return self._merge(body, level)
        raise Untraceable("a statement of an unknown kind")

    def _insert(self, body: Node, level: Level) -> Rows:
        target = self._target(body["relation"])
        given = self.query(body["selectStmt"], Level(level)) if "selectStmt" in body else Rows([])
        named = [node["ResTarget"]["name"] for node in body.get("cols", ())]
        names = named or [column.name for column in target.rows.columns]
        inserted: dict[str, Value] = {}
        for number, name in enumerate(names):
            if number >= len(given.columns) and given.rest is None:
                break
            inserted[name] = given.at(number)
            self.write(target, name, inserted[name])
        level.items.append(target)
        if "onConflictClause" in body:
            clause = body["onConflictClause"]
            self._arbiters(clause.get("infer", {}), target, inserted, level, guesses=_is_one_row(body))
            self._conflict(clause, target, inserted, level)
        return self._returning(body, target, level)

    def _conflict(self, clause: Node, target: Item, inserted: dict[str, Value], level: Level) -> None:
        excluded = Rows([Column(c.name, inserted.get(c.name, NOTHING)) for c in target.rows.columns])
        inner = level.beside([*level.items, Item(Rows([]), (Table("excluded", excluded),))])
        self._assign(clause.get("targetList", ()), target, inner)
        self.condition(clause.get("whereClause"), inner)

    def _arbiters(self, infer: Node, target: Item, inserted: dict[str, Value], level: Level, *, guesses: bool) -> None:
        """Note what decides whether a row conflicts; `guesses` says that the user supplied one row to compare."""
        if infer.get("whereClause"):
            self.value(infer["whereClause"], level)
        elements = [element["IndexElem"] for element in infer.get("indexElems", ())]
        # A constraint's name, or none, may stand for any unique key that the inserted columns are part of.
        names = [element["name"] for element in elements if "name" in element] if elements else list(inserted)
        found = [column.value for column in target.rows.columns if column.name in names]
        found += [self.value(element["expr"], level) for element in elements if "expr" in element]
        for value in found:
            if guesses:
                self.findings.add(value.watched, Use.EQUALITY)
            else:
                self.compared(value, "it decides which rows conflict (ON CONFLICT)")

    def _update(self, body: Node, level: Level) -> Rows:
        target = self._changed(body, level, body.get("fromClause", ()))
        self._assign(body["targetList"], target, level)
        return self._returning(body, target, level)

    def _delete(self, body: Node, level: Level) -> Rows:
        target = self._changed(body, level, body.get("usingClause", ()))
        return self._returning(body, target, level)

    def _changed(self, body: Node, level: Level, others: Iterable[Node]) -> Item:
        """Return the target of a change, having followed what else it reads and which rows it picks."""
        target = self._target(body["relation"])
        level.items.append(target)
        for node in others:
            level.items.append(self.source(node, level))
        if "CurrentOfExpr" not in body.get("whereClause", {}):
            self.condition(body.get("whereClause"), level)
        return target

    def _merge(self, body: Node, level: Level) -> Rows:
        target = self._target(body["relation"])
        source = self.source(body["sourceRelation"], level)
        level.items += [source, target]
        self.condition(body["joinCondition"], level)
        for node in body["mergeWhenClauses"]:
            clause = node["MergeWhenClause"]
            self.condition(clause.get("condition"), level)
            targets = clause.get("targetList", [])
            if clause["commandType"] != "CMD_INSERT":
                self._assign(targets, target, level)
                continue
            names = [t["ResTarget"]["name"] for t in targets] or [column.name for column in target.rows.columns]
            for name, value in zip(names, clause.get("values", ()), strict=False):
                self.write(target, name, self.value(value, level))
        return self._returning(body, target, level)

    def _target(self, body: Node) -> Item:
        """Return the item that the target of a change is."""
        relations = self.names.relations(body.get("schemaname", ""), body["relname"])
        rows = self.of_any(relations)
        alias = body.get("alias", {}).get("aliasname", "")
        return item_of(rows, alias or body["relname"], "" if alias else relations[0].schema)

    def _assign(self, targets: Iterable[Node], target: Item, level: Level) -> None:
        """Follow the assignments of SET."""
        for node in targets:
            body = node["ResTarget"]
            for step in body.get("indirection", ()):
                for index in ("lidx", "uidx"):
                    if index in step.get("A_Indices", {}):
                        self.compared(self.value(step["A_Indices"][index], level), "it chooses an element")
            self.write(target, body["name"], self._assigned(body["val"], level))

    def _assigned(self, value: Node, level: Level) -> Value:
        reference = value.get("MultiAssignRef")
        if reference is None:
            return self.value(value, level)
        source: dict[str, Any] = reference["source"]
        place = reference["colno"] - 1
        if "SubLink" in source:
            return self.query(source["SubLink"]["subselect"], Level(level)).at(place)
        if "RowExpr" in source:
            return self.value(source["RowExpr"]["args"][place], level)
        return self.value(source, level)

    def write(self, target: Item, name: str, value: Value) -> None:
        """Note that a value goes into a column of the target, unless that is where it comes from."""
        table = target.tables[0]
        column = table.column(name)
        if column is None:
            raise Untraceable("a column that its table does not have")
        self.findings.add(value.origins - column.origins, Use.WRITTEN, f"it is written to {name} of {table.alias}")
        if not value.bare and value.origins & column.origins:
            # What a cover leaves of the one is not what it leaves of the other.
            self.compared(value, f"it is changed into what is computed from it ({name} of {table.alias})")

    def _returning(self, body: Node, target: Item, level: Level) -> Rows:
        clause = body.get("returningClause")
        if not clause:
            return Rows([])
        names = {"old", "new"} | {o["ReturningOption"]["value"] for o in clause.get("options", ())}
        visible = {table.alias for item in level.items for table in item.tables}
        both = tuple(Table(name, target.rows) for name in sorted(names - visible))
        return self.targets(clause["exprs"], level.beside([*level.items, Item(Rows([]), both)]))


def _is_one_row(insert: Node) -> bool:
    """Tell whether an INSERT gives one row of VALUES."""
    return len(insert.get("selectStmt", {}).get("SelectStmt", {}).get("valuesLists", ())) == 1
