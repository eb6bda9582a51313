"""Follows each view of a catalog to what it reads, once for all texts."""

import threading
from dataclasses import dataclass
from typing import Final

from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.following import Definitions
from bastion.protocols.postgres.sql.lineage.changes import Changes
from bastion.protocols.postgres.sql.lineage.findings import Findings
from bastion.protocols.postgres.sql.lineage.levels import Level
from bastion.protocols.postgres.sql.lineage.values import Column, Rows, Untraceable, Value
from bastion.protocols.postgres.sql.lineage.watching import Watch
from bastion.protocols.postgres.sql.names import DEFINITION_PATHS, Names
from bastion.protocols.postgres.sql.parser import NotParsed, Parser

BROKEN: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError, NotParsed)
"""What a tree of a shape that nobody expected makes the walk raise."""
_VIEWS: Final = frozenset({"v", "m"})


@dataclass(frozen=True, slots=True)
class Followed:
    """What a view shows, how it uses what is watched, and which doubtful functions it calls."""

    rows: Rows
    findings: Findings
    called: frozenset[str] = frozenset()


class Walk(Changes):
    """Follows one statement, or one view."""

    def __init__(self, catalog: Catalog, names: Names, doubtful: frozenset[str], watch: Watch, views: "Views") -> None:
        super().__init__(catalog, names, doubtful)
        self._watch = watch
        self._views = views

    def relation(self, relation: Relation) -> Rows:
        """Return the columns of a relation; a view is followed to what it reads."""
        own = self._watch.columns(relation)
        if relation.kind not in _VIEWS or relation.system:
            return Rows(list(own))
        followed = self._views.follow(relation)
        self.findings.include(followed.findings)
        stored = relation.kind == "m"
        if not stored:
            self.called |= followed.called
        pairs = zip(own, followed.rows.columns, strict=True)
        return Rows([Column(mine.name, _through(mine.value, column.value, stored=stored)) for mine, column in pairs])


def _through(own: Value, shown: Value, *, stored: bool) -> Value:
    """Return what a view's column comes from: what it shows, and itself where it is named.

    What functions made of nothing watched when a materialized view was filled is its owner's.
    """
    if stored:
        shown = Value(shown.watched, shown.bare, fields=shown.fields if shown.watched == shown.origins else None)
    if not own.origins:
        return shown
    bare = shown.bare or not shown.origins
    return Value(own.origins | shown.origins, bare=bare, fields=shown.fields)


class Views:
    """Remembers what the views of one catalog show. For any thread."""

    def __init__(self, catalog: Catalog, watch: Watch, definitions: Definitions, parser: Parser) -> None:
        self._catalog = catalog
        self._watch = watch
        self._definitions = definitions
        self._parser = parser
        self._known: dict[int, Followed | None] = {}
        self._doing = threading.local()
        """What the thread that asks is in the middle of following."""

    def follow(self, view: Relation) -> Followed:
        """Return what a view shows. Raises `Untraceable` where that cannot be told."""
        doing: set[int] = self._doing.__dict__.setdefault("views", set())
        if view.oid not in self._known:
            if view.oid in doing:
                raise Untraceable("a view that reads itself")
            doing.add(view.oid)
            try:
                self._known[view.oid] = self._fresh(view)
            finally:
                doing.discard(view.oid)
        found = self._known[view.oid]
        if found is None:
            raise Untraceable(f"the view {view.full_name}, which is not understood")
        return found

    def _fresh(self, view: Relation) -> Followed | None:
        resources = self._definitions.view(view).resources
        doubtful = frozenset(r.name for r in resources if r.kind == "function")
        walk = Walk(self._catalog, Names(self._catalog, DEFINITION_PATHS), doubtful, self._watch, self)
        try:
            (raw,) = self._parser.parse(self._catalog.views[view.oid].encode())
            rows = walk.query(raw["stmt"], Level())
        except (Untraceable, *BROKEN):
            return None
        if rows.rest is not None or len(rows.columns) != len(view.columns):
            return None
        return Followed(rows, walk.findings, frozenset(walk.called))
