"""Which columns of a database are watched: those that a policy names, and those that hold the same values.

A table and its partitions or children share their columns, and a generated column may show what it is computed from.
Views are not in here: they are followed to the columns that they read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.lineage.values import NOTHING, Column, Value
from bastion.protocols.postgres.sql.reading import Origin

Watched: TypeAlias = Mapping[int, frozenset[str]]
"""The watched columns of each relation, by its OID."""

_KINDS: Final = frozenset({"r", "p", "f", "m", "v"})
"""Kinds of relation that hold or show rows of somebody's, as `pg_class.relkind`."""


def watch(catalog: Catalog, patterns: Iterable[str]) -> tuple[dict[int, frozenset[str]], list[str]]:
    """Return the columns that patterns of `schema.table.column` name, and the patterns that are no use here.

    `*` stands for any part of one name. A pattern is no use if it names no column; and if it names one of a partition
    or child but not of the whole, which shows it under another name.
    """
    found: dict[int, set[str]] = {}
    useless: list[str] = []
    for pattern in patterns:
        named = dict(_named(catalog, pattern))
        if not named or _partial(catalog, named):
            useless.append(pattern)
        for oid, columns in named.items():
            found.setdefault(oid, set()).update(columns)
    for oid in list(found):
        for relative in _relatives(catalog, oid):
            shared = found[oid].intersection(relative.columns)
            if shared:
                found.setdefault(relative.oid, set()).update(shared)
    for oid, columns in found.items():
        columns |= catalog.relations_by_oid[oid].generated
    return {oid: frozenset(columns) for oid, columns in found.items()}, useless


def _named(catalog: Catalog, pattern: str) -> Iterator[tuple[int, set[str]]]:
    parts = pattern.split(".")
    if len(parts) != 3:
        return
    schema, table, column = map(_expression, parts)
    for relation in catalog.relations_by_oid.values():
        if relation.kind not in _KINDS or (relation.system and "*" in parts[0]):
            continue
        if schema.fullmatch(relation.schema) and table.fullmatch(relation.name):
            columns = {name for name in relation.columns if column.fullmatch(name)}
            if columns:
                yield relation.oid, columns


def _expression(part: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, part.split("*"))), re.DOTALL)


def _partial(catalog: Catalog, named: Mapping[int, set[str]]) -> bool:
    """Tell whether a column of a part is named, but not the same column of the whole."""
    for oid, columns in named.items():
        for parent in _up(catalog, oid):
            if columns.intersection(parent.columns) - named.get(parent.oid, set()):
                return True
    return False


def _relatives(catalog: Catalog, oid: int) -> Iterator[Relation]:
    """Yield everything that shares rows with a relation, in both directions."""
    seen, waiting = {oid}, [oid]
    while waiting:
        at = waiting.pop()
        for other in (*catalog.children.get(at, ()), *catalog.parents.get(at, ())):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
                if other in catalog.relations_by_oid:
                    yield catalog.relations_by_oid[other]


def _up(catalog: Catalog, oid: int) -> Iterator[Relation]:
    """Yield what a relation is a part of."""
    seen, waiting = {oid}, [oid]
    while waiting:
        for other in catalog.parents.get(waiting.pop(), ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
                if other in catalog.relations_by_oid:
                    yield catalog.relations_by_oid[other]


class Watch:
    """Knows what each column of a relation is an origin of, for one catalog."""

    def __init__(self, catalog: Catalog, watched: Watched) -> None:
        self._catalog = catalog
        self._watched = watched
        self._columns: dict[int, tuple[Column, ...]] = {}

    def at(self, oid: int, number: int) -> frozenset[Origin]:
        """Return what a column is an origin of, by its relation's OID and its number there; nothing if none is."""
        watched = self._watched.get(oid)
        if not watched:
            return frozenset()
        relation = self._catalog.relations_by_oid[oid]
        return frozenset().union(*(self._value(relation, n).origins for n in watched if relation.numbers[n] == number))

    def of(self, relation: Relation) -> frozenset[str]:
        """Return the watched columns of a relation."""
        return self._watched.get(relation.oid, frozenset())

    def columns(self, relation: Relation) -> tuple[Column, ...]:
        """Return the columns of a relation with what each of them is by itself."""
        known = self._columns.get(relation.oid)
        if known is None:
            if relation.oid in self._watched:
                known = tuple(Column(name, self._value(relation, name)) for name in relation.columns)
            else:
                known = tuple(Column(name, NOTHING) for name in relation.columns)
            self._columns[relation.oid] = known
        return known

    def _value(self, relation: Relation, name: str) -> Value:
        if name not in self.of(relation):
            return NOTHING
        origins = self._origins(relation, name)
        if name not in relation.generated:
            return Value(origins, bare=True)
        others = self.of(relation) - relation.generated
        return Value(origins.union(*(self._origins(relation, other) for other in others)))

    def _origins(self, relation: Relation, name: str) -> frozenset[Origin]:
        wholes = (relation, *_up(self._catalog, relation.oid))
        return frozenset((r.full_name, name) for r in wholes if name in self.of(r))
