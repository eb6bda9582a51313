"""Reads what the catalog holds as text: views, rules, row security, defaults, checks, index expressions.

Each is read once for a catalog, when a statement first reaches it. What cannot be read is UNKNOWN, as everywhere.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from bastion.model.action import Access, Resource
from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.effects import Effects
from bastion.protocols.postgres.sql.names import DEFINITION_PATHS
from bastion.protocols.postgres.sql.parser import NotParsed, Parser
from bastion.protocols.postgres.sql.query import Query
from bastion.protocols.postgres.sql.scope import Scope, Source
from bastion.protocols.postgres.sql.writes import DataChange


@dataclass(frozen=True, slots=True)
class Definition:
    """What a definition does when it is evaluated."""

    resources: tuple[Resource, ...] = ()
    types: frozenset[int] = frozenset()
    relations: tuple[Relation, ...] = ()
    """Relations it reads by itself, not through others."""


_CIRCULAR = Definition((Resource("construct", "definition that reaches itself", "unknown"),))


class CatalogDefinitions:
    """Gives the effects of the definitions of one catalog."""

    def __init__(self, catalog: Catalog, parser: Parser) -> None:
        self._catalog = catalog
        self._parser = parser
        self._known: dict[tuple[str, int, str], Definition] = {}
        self._doing = threading.local()
        """What the thread that asks is in the middle of reading; nothing unfinished is seen by another."""

    def view(self, relation: Relation) -> Definition:
        """Return what reading a view or a materialized view does.

        A materialized view holds its rows; its definition counts as if it were run, because that is where they are
        from.
        """
        text = self._catalog.views.get(relation.oid, "")
        return self._read("view", relation, text, lambda query, scope: self._statements(query, scope, text))

    def expression(self, text: str, relation: Relation | None) -> Definition:
        """Return what evaluating an expression does, in which the columns of `relation` can be named."""
        return self._read(
            "expression", relation, text, lambda query, scope: self._statements(query, scope, f"SELECT {text}")
        )

    def rule(self, text: str, relation: Relation) -> Definition:
        """Return what a rewrite rule of `relation` does."""
        return self._read("rule", relation, text, lambda query, scope: self._rule(query, scope, text))

    def condition(self, text: str, relation: Relation) -> Definition:
        """Return what the condition of a trigger of `relation` does."""
        return self._read("condition", relation, text, lambda query, scope: self._condition(query, scope, text))

    def _condition(self, query: Query, scope: Scope, text: str) -> None:
        for raw in self._parser.parse(text.encode()):
            query.expression(raw["stmt"]["CreateTrigStmt"].get("whenClause"), scope)

    def _read(
        self, kind: str, relation: Relation | None, text: str, walk: Callable[[Query, Scope], None]
    ) -> Definition:
        key = (kind, relation.oid if relation else 0, text)
        known = self._known.get(key)
        if known is not None:
            return known
        doing: set[tuple[str, int, str]] = self._doing.__dict__.setdefault("keys", set())
        if key in doing:
            return _CIRCULAR
        doing.add(key)
        try:
            found = self._known[key] = self._fresh(kind, relation, walk)
        finally:
            doing.discard(key)
        return found

    def _fresh(self, kind: str, relation: Relation | None, walk: Callable[[Query, Scope], None]) -> Definition:
        through = relation.full_name if relation else ""
        effects = Effects(privileged=self._catalog.privileged)
        query = Query(self._catalog, DEFINITION_PATHS, self, effects, through)
        DataChange(query)
        query.trusts_sequences = kind == "expression"
        scope = Scope()
        if relation is not None and kind != "view":
            columns = {name: name for name in relation.columns}
            aliases = (relation.name, "old", "new")
            scope.sources = [Source(alias, columns, schema=relation.schema) for alias in aliases]
        try:
            walk(query, scope)
            query.settle()
        except (NotParsed, ValueError, KeyError, IndexError, TypeError, RecursionError):
            effects.unknown(f"definition of {through or 'a domain'}")
        direct = tuple(t.relation for t in effects.touched() if t.through == through)
        return Definition(effects.resources(), frozenset(query.calls.present), direct)

    def _statements(self, query: Query, scope: Scope, text: str) -> None:
        for raw in self._parser.parse(text.encode()):
            query.statement(raw["stmt"], Scope(scope))

    def _rule(self, query: Query, scope: Scope, text: str) -> None:
        for raw in self._parser.parse(text.encode()):
            body = raw["stmt"]["RuleStmt"]
            query.expression(body.get("whereClause"), scope)
            for action in body.get("actions", ()):
                if "NotifyStmt" in action:
                    query.effects.add("channel", action["NotifyStmt"].get("conditionname", ""), "notify", Access.WRITE)
                elif action:
                    query.statement(action, Scope(scope))
