"""What is known of a value while a statement is followed: which watched columns and which functions it comes from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from bastion.protocols.postgres.sql.reading import FUNCTION, Origin


class Untraceable(Exception):
    """Something was met whose meaning is not known exactly. Says what, in words that quote no constant."""


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value comes from."""

    origins: frozenset[Origin] = frozenset()
    """Watched columns, and functions of which nobody knows what their results show."""
    bare: bool = False
    """Whether it is the unchanged value of each of its origins."""
    constant: bool = False
    """Whether the user supplied it: a literal or a parameter."""
    fields: "tuple[Column, ...] | None" = None
    """The columns of a whole row."""

    @property
    def watched(self) -> frozenset[Origin]:
        """The watched columns among its origins."""
        if not self.origins:
            return self.origins
        return frozenset(origin for origin in self.origins if origin[0] != FUNCTION)

    @property
    def derived(self) -> "Value":
        """Something computed from it."""
        return Value(self.origins)


class Column(NamedTuple):
    """A column of a row type."""

    name: str
    value: Value


NOTHING: Final = Value()
"""Comes from nothing that matters."""
CONSTANT: Final = Value(constant=True)


def merged(values: Iterable[Value]) -> Value:
    """Return what is computed from all of the values."""
    origins: frozenset[Origin] = frozenset().union(*(value.origins for value in values))
    return Value(origins) if origins else NOTHING


def either(one: Value, other: Value) -> Value:
    """Return what is one value or the other, unchanged."""
    if one == other:
        return one
    return merged((one, other))


@dataclass(slots=True)
class Rows:
    """The columns of a query's result, in order."""

    columns: list[Column]
    rest: Value | None = None
    """What further columns come from, where not all of them are known; None where these are all."""

    def add(self, name: str, value: Value) -> None:
        """Append a column. Whoever names it names no constant: it may stand for one of many."""
        if self.rest is None:
            self.columns.append(Column(name, NOTHING if value.constant else value))
        else:
            self.rest = merged((self.rest, value))

    def extend(self, columns: Iterable[Column], rest: Value | None = None) -> None:
        """Append columns, and after them perhaps others that are not known."""
        for name, value in columns:
            self.add(name, value)
        if rest is not None:
            self.rest = merged((self.rest or NOTHING, rest))

    def at(self, index: int) -> Value:
        """Return the column of this place, from 0."""
        if 0 <= index < len(self.columns):
            return self.columns[index].value
        if self.rest is None:
            raise Untraceable("a column that a query does not have")
        return self.rest

    def renamed(self, names: list[str]) -> "Rows":
        """Return the same rows with other names for the first columns."""
        columns = [Column(new, old.value) for new, old in zip(names, self.columns, strict=False)]
        if len(names) > len(self.columns):
            if self.rest is None:
                raise Untraceable("more names than columns")
            columns += [Column(name, self.rest) for name in names[len(self.columns) :]]
        return Rows(columns + self.columns[len(names) :], self.rest)

    @property
    def whole(self) -> Value:
        """All of a row as one value."""
        values = [column.value for column in self.columns]
        if self.rest is not None:
            return merged((*values, self.rest))
        return Value(merged(values).origins, fields=tuple(self.columns))
