"""Covers of cells: valid for their type in both formats, as real servers judge it, and nothing left of the value."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from bastion.model.mask import Cover, CoverKind
from bastion.protocols.postgres.covering import types as t
from bastion.protocols.postgres.covering.description import Column
from bastion.protocols.postgres.covering.rows import Constant
from bastion.protocols.postgres.covering.values import covering
from bastion.protocols.postgres.sql.loading import load
from tests.kit.postgres import Server, fresh_database
from tests.protocols.postgres.covering.sample import COVERED, UUID, WITHOUT

KEY = b"a session's key"
FULL = Cover(CoverKind.FULL)
PARTIAL = Cover(CoverKind.PARTIAL)
HASH = Cover(CoverKind.HASH)
NULL = Cover(CoverKind.NULL)

CITEXT = """
create type citext;
create function citext_in(cstring) returns citext language internal immutable strict as 'textin';
create function citext_out(citext) returns cstring language internal immutable strict as 'textout';
create function citext_receive(internal) returns citext language internal immutable strict as 'textrecv';
create function citext_send(citext) returns bytea language internal immutable strict as 'textsend';
create type citext (input = citext_in, output = citext_out, receive = citext_receive, send = citext_send,
                    internallength = variable, storage = extended, category = 'S');
"""
"""The extension's type, for a server that comes without the extension."""

SCHEMA = """
create type mood as enum ('sad', 'ok', 'happy');
create type pair as (a text, b int);
create type span as range (subtype = float8);
create domain mail as text check (value ~ '@');
create domain work_mail as mail check (length(value) > 3);
create domain age as int check (value >= 0);
create domain tags as text[];
"""

REFUSES_ITS_COVER = {"mail", "work_mail"}
"""Domains whose checks refuse the cover. Whoever reads it knows no checks: what is sent is of the base type."""

LOOSELY = {"numeric(10,2)", "money"}
"""Types whose text is written otherwise by the server, which takes ours."""


@dataclass(frozen=True)
class Place:
    """A database with types of its own, a connection to it, and what its catalog says of types."""

    connection: psycopg.Connection[Any]
    types: t.Types

    def column(self, type_: str, value: str, binary: bool) -> tuple[Column, bytes | None]:
        """Return a column of that type, and its only value as it is on the wire."""
        self.connection.execute(f"drop table if exists held; create table held (v {type_})")
        self.connection.execute("insert into held values (%s::text::" + type_ + ")", (value,))
        return self.held(binary)

    def held(self, binary: bool) -> tuple[Column, bytes | None]:
        found = self.connection.pgconn.exec_params(b"select v from held", [], result_format=int(binary))
        column = Column("v", 0, 0, found.ftype(0), found.fmod(0), binary)
        return column, found.get_value(0, 0)

    def keep(self, column: Column, value: bytes) -> bytes | None:
        """Store a value as the server got it, and return how the server writes it."""
        sent = self.connection.pgconn.exec_params(
            b"update held set v = $1", [value], [column.type], [int(column.binary)], int(column.binary)
        )
        assert not sent.error_message, sent.error_message
        return self.held(column.binary)[1]


@contextmanager
def placed(server: Server) -> Iterator[Place]:
    with fresh_database(server) as database, psycopg.connect(database.dsn(), autocommit=True) as connection:
        extension = connection.execute("select from pg_available_extensions where name = 'citext'").fetchone()
        connection.execute(("create extension citext;" if extension is not None else CITEXT) + SCHEMA)
        types = {row[0]: Facts(*row[1:]) for row in connection.execute(TYPES)}
        yield Place(connection, types)


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with placed(request.getfixturevalue(request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def machine_place(postgres: Server) -> Iterator[Place]:
    with placed(postgres) as made:
        yield made


@dataclass(frozen=True)
class Facts:
    name: str
    kind: str
    base: int
    element: int
    category: str


TYPES = """
select oid::int8, typname::text, typtype::text, typbasetype::int8, typelem::int8, typcategory::text from pg_type
"""


def decoded(column: Column, value: bytes) -> object:
    return Transformer().get_loader(column.type, Format(column.binary)).load(value)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("type_", COVERED)
def test_a_full_cover_is_what_the_server_would_write(place: Place, type_: str, binary: bool) -> None:
    value, written = COVERED[type_]
    column, cell = place.column(type_, value, binary)
    assert cell is not None
    covered = covering(FULL, KEY, column.type, binary, place.types, modifier=column.modifier)(cell)
    assert covered is not None
    if type_ not in REFUSES_ITS_COVER:
        again = place.keep(column, covered)
        assert again == covered or type_ in LOOSELY
        assert place.held(False)[1] == written.encode()
    assert b"canary" not in covered
    decoded(column, covered)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("type_", WITHOUT)
def test_what_no_cover_is_known_of_becomes_null(place: Place, type_: str, binary: bool) -> None:
    column, cell = place.column(type_, WITHOUT[type_], binary)
    assert cell is not None
    for cover in (FULL, PARTIAL, HASH, NULL, Cover(CoverKind.FIXED, text="ok")):
        assert covering(cover, KEY, column.type, binary, place.types, modifier=column.modifier)(cell) is None


VARYING = [
    ("text", "4111111111111111", PARTIAL, "************1111"),
    ("text", "anna@canary.example.com", PARTIAL, "a***@***.com"),
    ("varchar(12)", "an@canary.de", PARTIAL, "a***@***.de"),
    ("varchar(8)", "ab@cd.de", PARTIAL, "a***@***"),
    ("char(20)", "4111111111111111", PARTIAL, "************1111    "),
    ("name", "4111111111111111", PARTIAL, "************1111"),
    ("citext", "4111111111111111", PARTIAL, "************1111"),
    ("mail", "anna@canary.example.com", PARTIAL, "a***@***.com"),
    ("uuid", UUID, PARTIAL, "00000000-0000-0000-0000-000000007a21"),
    ("uuid", UUID, Cover(CoverKind.PARTIAL, 16), "00000000-0000-0000-9c55-0d5c8f0b7a21"),
    ("uuid", UUID, Cover(CoverKind.PARTIAL, 17), "00000000-0000-0000-0000-000000000000"),
    ("json", '"4111111111111111"', PARTIAL, '"************1111"'),
    ("jsonb", '"4111111111111111"', PARTIAL, '"************1111"'),
    ("jsonb", '{"a": "4111111111111111"}', PARTIAL, '"********"'),
    ("int4", "123456789", PARTIAL, "0"),
    ("date", "1985-04-12", PARTIAL, "1900-01-01"),
    ("date", "1985-04-12", HASH, "1900-01-01"),
    ("numeric", "12345", HASH, "0"),
    ("text[]", "{canary}", HASH, "{********}"),
    ("text", "canary", Cover(CoverKind.FIXED, text="hidden"), "hidden"),
    ("varchar(3)", "can", Cover(CoverKind.FIXED, text="hidden"), "hid"),
    ("char(8)", "canary", Cover(CoverKind.FIXED, text="hidden"), "hidden  "),
    ("name", "canary", Cover(CoverKind.FIXED, text="ä" * 40), "ä" * 31),
    ("text", "canary", Cover(CoverKind.FIXED, text=""), ""),
    ("jsonb", "[1]", Cover(CoverKind.FIXED, text='say "no"'), r'"say \"no\""'),
    ("int2", "7", Cover(CoverKind.FIXED, text="-32768"), "-32768"),
    ("int2", "7", Cover(CoverKind.FIXED, text="32768"), "0"),
    ("int4", "7", Cover(CoverKind.FIXED, text="hidden"), "0"),
    ("oid", "7", Cover(CoverKind.FIXED, text="-1"), "0"),
    ("float4", "7", Cover(CoverKind.FIXED, text="1.5"), "1.5"),
    ("float8", "7", Cover(CoverKind.FIXED, text="-0.1"), "-0.1"),
    ("numeric", "7", Cover(CoverKind.FIXED, text="-1234567.8900"), "-1234567.8900"),
    ("numeric", "7", Cover(CoverKind.FIXED, text="0.00001"), "0.00001"),
    ("numeric", "7", Cover(CoverKind.FIXED, text="-0.00"), "0.00"),
    ("numeric", "7", Cover(CoverKind.FIXED, text="10000"), "10000"),
    ("numeric", "7", Cover(CoverKind.FIXED, text="nan"), "0"),
    ("bool", "f", Cover(CoverKind.FIXED, text="Yes"), "t"),
    ("bool", "t", Cover(CoverKind.FIXED, text="maybe"), "f"),
    ("date", "1985-04-12", Cover(CoverKind.FIXED, text="2000-02-29"), "2000-02-29"),
    ("date", "1985-04-12", Cover(CoverKind.FIXED, text="2001-02-29"), "1900-01-01"),
    ("time", "12:34", Cover(CoverKind.FIXED, text="23:59:59.5"), "23:59:59.5"),
    ("timestamp", "1985-04-12", Cover(CoverKind.FIXED, text="2000-01-01 00:00:01"), "2000-01-01 00:00:01"),
    ("timestamptz", "1985-04-12", Cover(CoverKind.FIXED, text="2000-01-01T02:00:00+02:00"), "2000-01-01 00:00:00+00"),
    ("timestamptz", "1985-04-12", Cover(CoverKind.FIXED, text="0001-01-01T02:00:00+14:00"), "1900-01-01 00:00:00+00"),
    (
        "uuid",
        UUID,
        Cover(CoverKind.FIXED, text="11111111-1111-1111-1111-111111111111"),
        "11111111-1111-1111-1111-111111111111",
    ),
    ("bytea", "\\xdead", Cover(CoverKind.FIXED, text="no"), "\\x6e6f"),
    ("inet", "192.168.7.9/24", Cover(CoverKind.FIXED, text="10.0.0.1/8"), "10.0.0.1/8"),
    ("inet", "192.168.7.9/24", Cover(CoverKind.FIXED, text="2001:db8::1"), "2001:db8::1"),
    ("cidr", "192.168.7.0/24", Cover(CoverKind.FIXED, text="10.0.0.0/8"), "10.0.0.0/8"),
    ("cidr", "192.168.7.0/24", Cover(CoverKind.FIXED, text="10.0.0.1/8"), "0.0.0.0/32"),
    ("text[]", "{canary}", Cover(CoverKind.FIXED, text='a "b" \\ {c}'), r'{"a \"b\" \\ {c}"}'),
    ("text[]", "{canary}", Cover(CoverKind.FIXED, text="null"), '{"null"}'),
    ("text[]", "{canary}", Cover(CoverKind.FIXED, text=""), '{""}'),
    ("int4[]", "{7}", Cover(CoverKind.FIXED, text="12"), "{12}"),
]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("type_", "value", "cover", "written"), VARYING)
def test_other_covers_are_valid_as_well(
    place: Place, type_: str, value: str, cover: Cover, written: str, binary: bool
) -> None:
    column, cell = place.column(type_, value, binary)
    assert cell is not None
    covered = covering(cover, KEY, column.type, binary, place.types, modifier=column.modifier)(cell)
    assert covered is not None
    if type_ != "mail":
        assert place.keep(column, covered) == covered
        assert place.held(False)[1] == written.encode()
    decoded(column, covered)


HASHED = {
    "text": "canary",
    "varchar(30)": "canary",
    "char(30)": "canary",
    "varchar(5)": "canar",
    "citext": "canary",
    "int2": "1234",
    "int4": "-1234",
    "int8": "1234",
    "oid": "1234",
    "xid8": "1234",
    "uuid": UUID,
    "bytea": "\\xdeadbeef",
    "json": '{"a": "canary"}',
    "jsonb": '{"a": "canary"}',
}


@pytest.mark.parametrize("type_", HASHED)
def test_a_digest_is_valid_and_the_same_in_both_formats(place: Place, type_: str) -> None:
    seen = []
    for binary in (False, True):
        column, cell = place.column(type_, HASHED[type_], binary)
        assert cell is not None
        cover = covering(HASH, KEY, column.type, binary, place.types, modifier=column.modifier)
        covered = cover(cell)
        assert covered is not None
        assert covered == cover(cell) != covering(HASH, b"another", column.type, binary, place.types)(cell)
        assert place.keep(column, covered) == covered
        seen.append(place.held(False)[1])
        decoded(column, covered)
    assert seen[0] == seen[1]
    assert seen[0] is not None
    assert b"canary" not in seen[0]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(
    ("cover", "written"),
    [
        (FULL, r"\*{8}"),
        (PARTIAL, r"\*{8}"),
        (HASH, r"h:[0-9a-f]{16}"),
        (Cover(CoverKind.FIXED, text="<&>"), "&lt;&amp;&gt;"),
    ],
)
def test_a_covered_document_in_xml_is_one(machine_place: Place, cover: Cover, written: str, binary: bool) -> None:
    """On the machine's server: the embedded one was built without XML."""
    column, cell = machine_place.column("xml", "<a>canary</a>", binary)
    assert cell is not None
    covered = covering(cover, KEY, column.type, binary, machine_place.types)(cell)
    assert covered is not None
    assert machine_place.keep(column, covered) == covered
    assert re.fullmatch(written, covered.decode())
    decoded(column, covered)


def test_a_digest_of_a_number_does_not_depend_on_its_width() -> None:
    wide, narrow = (covering(HASH, KEY, oid, True, {}) for oid in (20, 23))
    whole = int.from_bytes(wide((1234).to_bytes(8, "big")) or b"", "big")
    assert whole % 2**31 == int.from_bytes(narrow((1234).to_bytes(4, "big")) or b"", "big")


@pytest.mark.parametrize("kind", CoverKind)
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("oid", [25, 23, 2950, 3802, 1009, 600, 0])
def test_what_is_computed_shows_nothing_but_a_constant(oid: int, binary: bool, kind: CoverKind) -> None:
    cover = covering(Cover(kind, text="x"), KEY, oid, binary, {}, derived=True)
    assert isinstance(cover, Constant)
    assert cover.nulls


@pytest.mark.parametrize("kind", CoverKind)
def test_a_column_keeps_its_nulls(kind: CoverKind) -> None:
    cover = covering(Cover(kind, text="x"), KEY, 25, False, {})
    assert not (isinstance(cover, Constant) and cover.nulls)


OIDS = sorted({*t.FULL, *t.TEXTS, *t.ARRAYS, *t.RANGES, *t.MULTIRANGES, 0, 22, 600, 2249, 99999})
COVERS = st.builds(Cover, st.sampled_from(CoverKind), st.integers(-3, 40), st.text(st.characters(codec=None)))


@given(st.sampled_from(OIDS), st.booleans(), COVERS, st.binary(), st.integers(-1, 70_000), st.booleans())
def test_any_bytes_are_covered(oid: int, binary: bool, cover: Cover, cell: bytes, modifier: int, derived: bool) -> None:
    covered = covering(cover, KEY, oid, binary, {}, modifier=modifier, derived=derived)(cell)
    assert covered is None or isinstance(covered, bytes)


@pytest.mark.parametrize("kind", [CoverKind.FULL, CoverKind.PARTIAL, CoverKind.HASH])
@pytest.mark.parametrize("oid", [25, 1042, 114, 3802, 2950, 20, 17, 142])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_what_cannot_be_read_is_covered_in_full(oid: int, binary: bool, kind: CoverKind) -> None:
    covered = covering(Cover(kind), KEY, oid, binary, {})(b"canary canary \xff\xfe canary")
    if not (oid == 17 and binary and kind is CoverKind.HASH):
        assert covered == covering(FULL, KEY, oid, binary, {})(b"")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_fixed_text_that_no_cell_can_hold_does_not_make_one_invalid(text: str) -> None:
    for oid in (25, 114, 3802, 142, 17, 1009):
        covered = covering(Cover(CoverKind.FIXED, text=text), KEY, oid, False, {})(b"canary")
        assert covered is not None
        assert b"\0" not in covered
        covered.decode()


def test_a_document_that_nests_without_end_is_covered() -> None:
    for kind in (CoverKind.PARTIAL, CoverKind.HASH):
        covered = covering(Cover(kind), KEY, t.JSON, False, {})(b"[" * 1_000_000)
        assert covered is not None
        assert len(covered) < 30


def test_domains_that_are_made_of_each_other_are_covered_by_null() -> None:
    types = {50_000: Facts("a", "d", 50_001, 0, "S"), 50_001: Facts("b", "d", 50_000, 0, "S")}
    assert covering(FULL, KEY, 50_000, False, types)(b"canary") is None


async def test_the_catalog_tells_what_coverings_have_to_know(postgres: Server) -> None:
    """The catalog that statements are read by can be given to coverings, and agrees with the constants here."""
    async with await psycopg.AsyncConnection.connect(postgres.dsn()) as connection:
        types = (await load(connection)).types_by_oid
    facts: t.Types = types
    for array, element in t.ARRAYS.items():
        assert facts[array].element == element, array
        assert t.element_of(array, {}) == t.element_of(array, facts) == element
    for oid in t.RANGES | t.MULTIRANGES:
        assert facts[oid].kind == ("r" if oid in t.RANGES else "m")
    assert {facts[oid].kind for oid in (*t.FULL, *t.INTEGERS)} == {"b"}
