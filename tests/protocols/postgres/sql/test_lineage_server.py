"""Lineage against real servers: the names of columns, and where canaries show."""

import base64
import string
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import Outputs
from tests.kit.postgres import Database, Server, fresh_database
from tests.protocols.postgres.sql.conftest import catalog_of
from tests.protocols.postgres.sql.watching import read, uses, watching

SCHEMA = """
CREATE TABLE people (id int PRIMARY KEY, name text, email text, ssn text, boss int, tags text[]);
CREATE TABLE cards (id int PRIMARY KEY, owner int, pan text, note text);
CREATE TABLE plain (id int PRIMARY KEY, email text, a int);
INSERT INTO people VALUES (1, 'Ada', 'QXada7f3aXQ', 'QX912664821XQ', NULL, '{a,b}'),
                          (2, 'Bob', 'QXbob19c2XQ', 'QX944180377XQ', 1, '{c}'),
                          (3, 'Cleo', NULL, 'QX958317746XQ', 2, NULL);
INSERT INTO cards VALUES (1, 1, 'QX492977120XQ', 'one'), (2, 2, 'QX530310447XQ', NULL),
                         (3, 3, 'QX601100039XQ', 'three');
INSERT INTO plain VALUES (1, 'open1', 10), (2, 'open2', 20);
CREATE VIEW contacts AS SELECT id, email AS contact, upper(ssn) AS loud, name FROM people;
CREATE VIEW joined AS SELECT p.*, c.pan FROM people p LEFT JOIN cards c ON c.owner = p.id;
CREATE MATERIALIZED VIEW kept AS SELECT id, pan, note FROM cards;
"""
CANARIES = ("QXada7f3aXQ", "QXbob19c2XQ", "QX912664821XQ", "QX944180377XQ", "QX958317746XQ", "QX492977120XQ",
            "QX530310447XQ", "QX601100039XQ")  # fmt: skip
PIECE = 4
PIECES = {
    disguise[at : at + PIECE]
    for canary in CANARIES
    for disguise in (canary, canary.upper(), canary.lower(), canary[::-1])
    for at in range(len(disguise) - PIECE + 1)
    if not set(disguise[at : at + PIECE]) <= set(string.hexdigits)  # any digest may show those
}
WHOLE = {code for c in CANARIES for code in (c.encode().hex(), base64.b64encode(c.encode()).decode()[:12])}


@pytest.fixture(scope="module")
def small(postgres: Server) -> Iterator[Database]:
    """A small schema, with canaries in its watched columns."""
    with fresh_database(postgres) as made:
        made.execute(SCHEMA)
        yield made


@pytest.fixture(scope="module")
def connection(small: Database) -> Iterator[psycopg.Connection]:
    """Asks the small schema."""
    with psycopg.connect(small.dsn("postgres"), autocommit=False) as made:
        made.execute("SET statement_timeout = '2s'")
        made.commit()
        yield made


@pytest.fixture(scope="module")
def watcher(small: Database) -> CatalogAnalyst:
    """Watches the columns with canaries."""
    return watching(catalog_of(small.dsn("postgres")), ("public.people.email", "public.people.ssn", "public.cards.pan"))


def gives_away(cell: object) -> bool:
    """Tell whether a cell shows a canary or a piece of one."""
    text = "" if cell is None else str(cell)
    return any(piece in text for piece in PIECES) or any(code in text for code in WHOLE)


def is_covered(outputs: tuple[Outputs, ...], number: int) -> bool:
    """Tell whether lineage says that a column comes from what is watched."""
    if not outputs:
        return False
    (found,) = outputs
    if number < len(found.columns):
        return bool(found.columns[number].origins)
    return bool(found.rest)


def check(watcher: CatalogAnalyst, connection: psycopg.Connection, text: str) -> bool:
    """Run a text and check that every column with a canary is to be covered; tell whether the server took it."""
    reading = read(watcher, text)
    refused = any("untraced" in how or "written" in how for how in uses(reading).values())
    try:
        with connection.cursor() as cursor:
            cursor.execute(text.encode())
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchmany(50) if cursor.description else []
    except psycopg.Error:
        return False
    finally:
        connection.rollback()
    if refused:
        return True
    for row in rows:
        for number, cell in enumerate(row):
            assert is_covered(reading.outputs, number) or not gives_away(cell), (text, number, reading.outputs)
    for outputs in reading.outputs:
        known = [column.name for column in outputs.columns]
        if outputs.rest is None:
            assert known == names, text
        else:
            assert known == names[: len(known)], text
    return True


# Random queries, mostly such as the server takes

TABLES = {
    "people": ("id", "name", "email", "ssn", "boss", "tags"),
    "cards": ("id", "owner", "pan", "note"),
    "plain": ("id", "email", "a"),
    "contacts": ("id", "contact", "loud", "name"),
    "joined": ("id", "name", "email", "ssn", "boss", "tags", "pan"),
    "kept": ("id", "pan", "note"),
}
UNARY = (
    "{0}", "{0}", "{0}::text", "upper({0}::text)", "reverse({0}::text)", "left({0}::text, 5)", "md5({0}::text)",
    "substring({0}::text FROM 2 FOR 6)", "encode(convert_to({0}::text, 'UTF8'), 'hex')", "to_json({0})",
    "encode(convert_to({0}::text, 'UTF8'), 'base64')", "coalesce({0}::text, 'none')", "ARRAY[{0}]", "ROW({0}, 1)",
    "CASE WHEN true THEN {0} END", "(SELECT {0})", "ARRAY(SELECT {0})", "({0} IS NULL)", "concat('<', {0}, '>')",
    "jsonb_build_object('k', {0})", "(jsonb_build_object('k', {0}) -> 'k')", "xmlforest({0} AS x)", "(ARRAY[{0}])[1]",
    "nullif({0}::text, '')", "greatest({0}::text, 'A')", "replace({0}::text, 'Q', 'Q')", "length({0}::text)",
    "regexp_replace({0}::text, 'Z', '')", "string_to_array({0}::text, 'z')", "(SELECT max({0}::text))",
    "unnest(ARRAY[{0}])",
)  # fmt: skip
AGGREGATES = (
    "max({0}::text)", "array_agg({0})", "string_agg({0}::text, ',')", "json_agg({0})", "count({0})", "min({0}::text)"
)  # fmt: skip
OPERATIONS = ("({0}::text || {1}::text)", "coalesce({0}::text, {1}::text)", "concat_ws('-', {0}, {1})", "ROW({0}, {1})")


class Draw:
    """Draws the pieces of one query."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._names = 0

    def one(self, *options: str) -> str:
        return options[self.number(0, len(options) - 1)]

    def flip(self, chance: int) -> bool:
        return self.number(1, chance) == 1

    def number(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))

    def name(self) -> str:
        self._names += 1
        return f"t{self._names}"

    def query(self, depth: int, outer: list[tuple[str, tuple[str, ...]]]) -> tuple[str, tuple[str, ...]]:
        """Return a query and the names of its columns; `outer` is what it may refer to around itself."""
        if depth > 0 and self.flip(6):
            width = self.number(1, 2)
            arms = [self.plain(depth - 1, outer, width)[0] for _ in range(2)]
            names = tuple(f"c{number}" for number in range(width))
            word = self.one("UNION ALL", "UNION", "UNION ALL", "EXCEPT", "INTERSECT")
            return f"({arms[0]}) {word} ({arms[1]})", names
        return self.plain(depth, outer, self.number(1, 3))

    def plain(self, depth: int, outer: list[tuple[str, tuple[str, ...]]], width: int) -> tuple[str, tuple[str, ...]]:
        inner: list[tuple[str, tuple[str, ...]]] = []
        items: list[str] = []
        heads: list[str] = []
        for _ in range(self.number(1, 2)):
            item, head = self.item(depth, inner, outer)
            items.append(item)
            heads += head
        joined = items[0]
        for item in items[1:]:
            joined += self.one(
                f", {item}", f" CROSS JOIN {item}", f" LEFT JOIN {item} ON true", f" NATURAL JOIN {item}"
            )
        scope = [*inner, *outer]
        grouped = self.flip(5)
        targets = [f"{self.expression(scope, depth, grouped)} AS c{number}" for number in range(width)]
        names = tuple(f"c{number}" for number in range(width))
        if self.flip(6) and not grouped:
            alias, columns = inner[0]
            targets.append(f"{alias}.*")
            names += columns
        with_ = f"WITH {', '.join(heads)} " if heads else ""
        tail = self.one("", "", "LIMIT 5", "WHERE true", f"WHERE {inner[0][0]}.{inner[0][1][0]} IS NOT NULL")
        distinct = "DISTINCT " if self.flip(8) and not grouped else ""
        return f"{with_}SELECT {distinct}{', '.join(targets)} FROM {joined} {tail}", names

    def item(
        self, depth: int, inner: list[tuple[str, tuple[str, ...]]], outer: list[tuple[str, tuple[str, ...]]]
    ) -> tuple[str, list[str]]:
        """Return an item of FROM and what it needs of WITH; its name is added to `inner`."""
        alias = self.name()
        kind = self.one("table", "table", "query", "lateral", "with", "values", "function") if depth else "table"
        heads: list[str] = []
        match kind:
            case "query" | "lateral":
                text, names = self.query(depth - 1, [*inner, *outer] if kind == "lateral" else list(outer))
                word = "LATERAL " if kind == "lateral" else ""
                found = f"{word}({text}) AS {alias}"
            case "with":
                text, names = self.query(depth - 1, list(outer))
                heads.append(f"w{alias} AS ({text})")
                found = f"w{alias} AS {alias}"
            case "values":
                value = self.expression([*inner, *outer], 0, grouped=False) if inner or outer else "1"
                found, names = f"LATERAL (VALUES ({value}::text), ('v')) AS {alias}(v)", ("v",)
            case "function":
                value = self.expression([*inner, *outer], 0, grouped=False) if inner or outer else "1"
                call = self.one(f"unnest(ARRAY[{value}]::text[])", f"json_each_text(json_build_object('k', {value}))")
                found, names = f"{call} AS {alias}", ("value",) if "json" in call else (alias,)
            case _:
                table = self.one(*TABLES)
                found, names = f"{table} AS {alias}", TABLES[table]
        if kind not in {"values", "function"} and self.flip(6):
            renamed = tuple(f"r{number}" for number in range(min(2, len(names))))
            found = f"{found}({', '.join(renamed)})"
            names = renamed + names[len(renamed) :]
        inner.append((alias, names))
        return found, heads

    def expression(self, scope: list[tuple[str, tuple[str, ...]]], depth: int, grouped: bool) -> str:
        column = self.column(scope)
        if grouped:
            return self.one(*AGGREGATES).format(column)
        if depth and self.flip(8):
            text, _ = self.plain(0, scope, 1)
            return f"({text} LIMIT 1)" if "LIMIT" not in text else f"({text})"
        if self.flip(4):
            return self.one(*OPERATIONS).format(self.expression(scope, 0, grouped=False), column)
        return self.one(*UNARY).format(column)

    def column(self, scope: list[tuple[str, tuple[str, ...]]]) -> str:
        alias, names = scope[self.number(0, len(scope) - 1)]
        if self.flip(10):
            return self.one(alias, f"to_json({alias})")
        name = self.one(*names)
        return self.one(f"{alias}.{name}", f"{alias}.{name}", name, f"({alias}).{name}")


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_canary_shows_only_where_lineage_says_so(
    watcher: CatalogAnalyst, connection: psycopg.Connection, data: st.DataObject
) -> None:
    text, _ = Draw(data).query(2, [])
    check(watcher, connection, text)
