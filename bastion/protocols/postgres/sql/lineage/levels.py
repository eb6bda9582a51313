"""What can be named at one level of a query, exactly: as PostgreSQL resolves it, or not at all."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bastion.protocols.postgres.sql.lineage.values import NOTHING, Column, Rows, Untraceable, Value, merged
from bastion.protocols.postgres.sql.scope import SYSTEM_COLUMNS


@dataclass(frozen=True, slots=True)
class Table:
    """Something that a column can be qualified with."""

    alias: str
    rows: Rows
    schema: str = ""

    def column(self, name: str) -> Value | None:
        """Return the column of this name, or None if there surely is none."""
        found = [column.value for column in self.rows.columns if column.name == name]
        if len(found) > 1:
            raise Untraceable("a column name that fits twice")
        if found:
            return found[0]
        return self.rows.rest


@dataclass(slots=True)
class Item:
    """One item of FROM: the columns that can be named without qualification, and the tables."""

    rows: Rows
    tables: tuple[Table, ...] = ()
    named: dict[str, list[Value]] = field(init=False)

    def __post_init__(self) -> None:
        self.named = {}
        for name, value in self.rows.columns:
            self.named.setdefault(name, []).append(value)


def item_of(rows: Rows, alias: str, schema: str = "") -> Item:
    """Return the item that one table is."""
    return Item(rows, (Table(alias, rows, schema),) if alias else ())


class Level:
    """The names of one query, and the level around it."""

    __slots__ = ("items", "outer", "queries")

    def __init__(self, outer: "Level | None" = None, items: Iterable[Item] = ()) -> None:
        self.outer = outer
        self.items = list(items)
        self.queries: dict[str, Rows | None] = {}
        """The queries of WITH by name; None for one whose columns are not known yet."""

    def beside(self, items: Iterable[Item] = ()) -> "Level":
        """Return a level in the same place that sees other items."""
        other = Level(self.outer, items)
        other.queries = self.queries
        return other

    def query(self, name: str) -> Rows | None:
        """Return the query of WITH that has this name, or None."""
        level: Level | None = self
        while level is not None:
            if name in level.queries:
                found = level.queries[name]
                if found is None:
                    raise Untraceable("a query that refers to itself or to a later one")
                return found
            level = level.outer
        return None

    def own(self, name: str) -> Value | None:
        """Return the column of this name that this very level has, or None."""
        found = [value for item in self.items for value in item.named.get(name, ())]
        if len(found) > 1:
            raise Untraceable("a column name that fits twice")
        return found[0] if found else None

    def column(self, name: str) -> Value:
        """Return what an unqualified name stands for: a column, else the row of a table."""
        perhaps: list[Value] = []
        level: Level | None = self
        while level is not None:
            found = level.own(name)
            if found is not None:
                return merged((found, *perhaps)) if perhaps else found
            perhaps += [item.rows.rest for item in level.items if item.rows.rest is not None]
            level = level.outer
        table = self.table(name)
        if table is not None:
            return merged((table.rows.whole, *perhaps)) if perhaps else table.rows.whole
        if perhaps:
            return merged(perhaps)
        if name in SYSTEM_COLUMNS:
            return NOTHING
        raise Untraceable("a name that is not that of a column")

    def table(self, alias: str, schema: str = "") -> Table | None:
        """Return the nearest table of this name."""
        level: Level | None = self
        while level is not None:
            found = [
                table
                for item in level.items
                for table in item.tables
                if table.alias == alias and (not schema or table.schema == schema)
            ]
            if len(found) > 1:
                raise Untraceable("a table name that fits twice")
            if found:
                return found[0]
            level = level.outer
        return None

    def qualified(self, schema: str, alias: str, name: str) -> Value:
        """Return the column of a table."""
        table = self.table(alias, schema)
        if table is None:
            raise Untraceable("a name that is not that of a table")
        found = table.column(name)
        if found is not None:
            return found
        if name in SYSTEM_COLUMNS:
            return NOTHING
        raise Untraceable("a function written as a column")

    def star(self) -> Rows:
        """Return the columns of all items, in order."""
        rows = Rows([])
        for item in self.items:
            rows.extend(item.rows.columns, item.rows.rest)
        return rows


def common(left: Item, right: Item) -> list[str]:
    """Return the column names that a NATURAL join is by."""
    if left.rows.rest is not None or right.rows.rest is not None:
        raise Untraceable("a NATURAL join of columns that are not known")
    return [column.name for column in left.rows.columns if column.name in right.named]


def columns(names: Iterable[str], value: Value) -> list[Column]:
    """Return columns of these names that all come from the same."""
    return [Column(name, value) for name in names]
