"""What is said about columns: read whole, as a real server says it, or refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import ProtocolError
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.covering.description import Column, read_copy_out, read_description
from tests.kit.pgwire import Connection
from tests.kit.postgres import Database

COLUMNS = st.builds(
    Column,
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8),
    st.integers(0, 2**32 - 1),
    st.integers(-6, 2**15 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(-1, 2**31 - 1),
    st.booleans(),
)


def described(columns: list[Column]) -> bytes:
    body = struct.pack(">H", len(columns))
    for c in columns:
        body += c.name.encode() + b"\0" + struct.pack(">IhIhih", c.relation, c.number, c.type, -1, c.modifier, c.binary)
    return m.frame(m.ROW_DESCRIPTION, body)


@given(st.lists(COLUMNS, max_size=5))
def test_columns_are_read_as_they_were_written(columns: list[Column]) -> None:
    wire = described(columns)
    assert read_description(b"x" + wire + b"y", 1, 1 + len(wire)) == tuple(columns)


@given(st.lists(COLUMNS, max_size=3), st.data())
def test_a_description_that_is_cut_or_longer_is_refused(columns: list[Column], data: st.DataObject) -> None:
    body = described(columns)[5:]
    wrong = body[: data.draw(st.integers(0, len(body) - 1))] if data.draw(st.booleans()) else body + b"x"
    wire = m.frame(m.ROW_DESCRIPTION, wrong)
    with pytest.raises(ProtocolError):
        read_description(wire, 0, len(wire))


@given(st.binary(max_size=60))
def test_any_bytes_raise_nothing_else(body: bytes) -> None:
    wire = m.frame(m.ROW_DESCRIPTION, body)
    for read in (read_description, read_copy_out):
        try:
            read(wire, 0, len(wire))
        except ProtocolError:
            continue


def test_a_real_server_tells_where_columns_come_from(database: Database) -> None:
    database.execute("create domain mail as varchar(30); create table person (id int, mail mail)")
    (oid,) = database.execute("select 'person'::regclass::oid::int8")[0]
    with Connection(database.server.directory / f".s.PGSQL.{database.server.port}") as connection:
        connection.login(user="postgres", database=database.name)
        (message,) = [x for x in connection.ask('select mail as "x y", id + 1 from person') if x.type == "T"]
    wire = m.frame(m.ROW_DESCRIPTION, message.body)
    assert read_description(wire, 0, len(wire)) == (
        Column("x y", oid, 2, 1043, 34, False),
        Column("?column?", 0, 0, 23, -1, False),
    )


@pytest.mark.parametrize(("options", "binary"), [("", False), ("(format csv)", False), ("(format binary)", True)])
def test_a_real_server_tells_what_it_copies(database: Database, options: str, binary: bool) -> None:
    with Connection(database.server.directory / f".s.PGSQL.{database.server.port}") as connection:
        connection.login(user="postgres", database=database.name)
        (message,) = [x for x in connection.ask(f"copy (select 1, 2, 3) to stdout {options}") if x.type == "H"]
    wire = m.frame(m.COPY_OUT_RESPONSE, message.body)
    assert read_copy_out(wire, 0, len(wire)) == (binary, 3)


@pytest.mark.parametrize("body", [b"", b"\0\0", b"\2\0\0", b"\0\0\1", b"\0\0\1\0\1", b"\1\0\1\0\0", b"\0\0\1\0\0\0"])
def test_what_announces_a_copy_is_whole_and_of_one_format(body: bytes) -> None:
    wire = m.frame(m.COPY_OUT_RESPONSE, body)
    with pytest.raises(ProtocolError):
        read_copy_out(wire, 0, len(wire))
