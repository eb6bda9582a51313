"""What can be named inside one query level: the sources of its FROM and the queries of its WITH."""

from collections.abc import Iterable, Sequence
from typing import Self

from bastion.protocols.postgres.sql.effects import Touch

SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax", "oid"})


MOST_COLUMNS = 1664
"""Of one select list, as PostgreSQL's own MaxTupleAttributeNumber."""
MOST_STEPS = 100_000


class TooComplex(ValueError):
    """A text takes more work to understand than any that a person or mapper writes."""


class Budget:
    """The work that one text may make: names to be looked for, times the places where each could be found."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def spend(self, scope: "Scope") -> None:
        """Pay for looking a name up in `scope` and around it; raise `TooComplex` when nothing is left."""
        around: Scope | None = scope
        while around is not None:
            self._left -= 1 + len(around.sources)
            around = around.outer
        if self._left < 0:
            raise TooComplex


class Source:
    """One item of FROM: where its columns come from."""

    __slots__ = ("alias", "columns", "members", "schema", "touches")

    def __init__(
        self,
        alias: str,
        columns: dict[str, str] | None,
        touches: Sequence[Touch] = (),
        members: Sequence["Source"] = (),
        schema: str = "",
    ) -> None:
        self.alias = alias
        self.columns = columns
        """Names as the query sees them, to names in the relation; None where they are not known."""
        self.touches = touches
        self.members = members
        self.schema = schema

    @classmethod
    def of_names(cls, alias: str, names: Iterable[str] | None) -> Self:
        """Return a source that stands for no relation of its own."""
        return cls(alias, None if names is None else {name: name for name in names})

    def has(self, name: str) -> bool:
        """Tell whether the source is known to have a column of this name."""
        if self.columns is not None and name in self.columns:
            return True
        return bool(self.touches) and name in SYSTEM_COLUMNS

    def take(self, name: str) -> None:
        """Note that the column is read."""
        for touch in self.touches:
            if name not in SYSTEM_COLUMNS:
                touch.columns.add((self.columns or {}).get(name, name))
        for member in self.members:
            if member.columns is None or name in member.columns:
                member.take(name)

    def take_all(self) -> None:
        """Note that the whole row is read."""
        for touch in self.touches:
            touch.whole()
        for member in self.members:
            member.take_all()

    def renamed(self, names: Sequence[str]) -> None:
        """Give the first columns other names, as an alias with a column list does."""
        if self.members:
            self.take_all()
            self.columns, self.members = None, ()
        elif self.columns is None:
            return
        else:
            old = list(self.columns.items())
            self.columns = {new: kept for new, (_, kept) in zip(names, old, strict=False)} | dict(old[len(names) :])


class Scope:
    """One level of names, and the level around it."""

    __slots__ = ("outer", "queries", "sources")

    def __init__(self, outer: "Scope | None" = None) -> None:
        self.outer = outer
        self.sources: list[Source] = []
        self.queries: dict[str, list[str] | None] = {}
        """The columns of each query of WITH, by its name."""

    def query(self, name: str) -> tuple[bool, list[str] | None]:
        """Return whether `name` is a query of WITH, and its columns if they are known."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.queries:
                return True, scope.queries[name]
            scope = scope.outer
        return False, None

    def source(self, alias: str, schema: str = "") -> Source | None:
        """Return the nearest source of this alias."""
        scope: Scope | None = self
        while scope is not None:
            for source in scope.sources:
                if source.alias == alias and (not schema or source.schema == schema):
                    return source
            scope = scope.outer
        return None

    def take(self, name: str) -> bool:
        """Note that an unqualified column is read, and tell whether any source is known to have it.

        Where none is, it is noted for every source that could have it: the catalog may be a moment old.
        """
        scope: Scope | None = self
        while scope is not None:
            having = [source for source in scope.sources if source.has(name)]
            for source in having:
                source.take(name)
            if having:
                return True
            scope = scope.outer
        return False

    def take_stray(self, name: str) -> None:
        """Note a column that no source is known to have, wherever it might come from."""
        scope: Scope | None = self
        while scope is not None:
            if any(source.columns is None for source in scope.sources):
                return
            scope = scope.outer
        for source in self.sources:
            source.take(name)
