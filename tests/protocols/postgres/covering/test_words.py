"""Errors, notices and notifications beside a mask: of what real servers send, nothing is left of a value."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from bastion.errors import ProtocolError
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.covering.words import conditions, quiet_notification, withheld
from tests.kit.pgwire import Connection
from tests.kit.postgres import Server, fresh_database

CANARY = "canar"
"""As much of the value as fits into a code."""

SCHEMA = """
create table person (id int primary key, mail text unique check (mail <> 'canary@forbidden'), age int);
insert into person values (1, 'canary', 42);
create function tell(value text) returns text language plpgsql as $$
begin
  raise notice 'it is %', value using detail = value, hint = value, column = value, table = value;
  raise exception '%', value using errcode = '23505', detail = value, hint = value, column = value,
    constraint = value, datatype = value, table = value, schema = value;
end $$;
create function spell(value text) returns text language plpgsql as $$
begin
  raise exception 'x' using errcode = upper(left(value, 5));
end $$;
"""

TELLING = {
    "select mail::int from person": ("22P02", "invalid text representation"),
    "insert into person values (2, 'canary')": ("23505", "unique violation"),
    "insert into person values (2, 'canary@forbidden')": ("23514", "check violation"),
    "select tell(mail) from person": ("23505", "unique violation"),
    "select spell(mail) from person": ("P0001", "a condition of its own"),
    "do $$ begin perform (select mail::date from person); end $$": ("22007", "invalid datetime format"),
    "copy (select mail from person) to '/canary/canary'": ("58P01", "undefined file"),
    "select canary from person": ("42703", "undefined column"),
}


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    server: Server = request.getfixturevalue(request.param)
    with fresh_database(server) as database:
        database.execute(SCHEMA)
        with Connection(server.directory / f".s.PGSQL.{server.port}") as made:
            made.login(user="postgres", database=database.name)
            yield made


@pytest.mark.parametrize("statement", TELLING)
def test_no_word_of_a_value_is_left(connection: Connection, statement: str) -> None:
    answers = connection.ask(statement)
    (error,) = (message.fields for message in answers if message.type == "E")
    notices = [message.fields for message in answers if message.type == "N"]
    assert CANARY in str(error).lower()
    sqlstate, words = TELLING[statement]
    for fields in (error, *notices):
        shown = dict(withheld({kind: value.encode() for kind, value in fields.items()}))
        assert CANARY not in str(shown).lower()
        assert shown["S"] == fields["S"]
        assert shown["V"] == fields["V"]
    shown = dict(withheld({kind: value.encode() for kind, value in error.items()}))
    assert shown["C"] == sqlstate
    assert shown["M"] == f"{words}, in words that bastion withholds because they could quote a masked value"
    assert shown.keys() <= {"S", "V", "C", "M", "P", "s", "t", "c", "d", "n"}


def test_which_constraint_it_was_is_shown() -> None:
    fields = {"S": b"ERROR", "V": b"ERROR", "C": b"23505", "M": b"duplicate key", "D": b"Key (mail)=(canary)"}
    fields |= {"s": b"public", "t": b"person", "n": b"person_mail_key", "F": b"nbtinsert.c", "R": b"_bt_check_unique"}
    assert withheld(fields) == [
        ("S", "ERROR"),
        ("V", "ERROR"),
        ("C", "23505"),
        ("M", "unique violation, in words that bastion withholds because they could quote a masked value"),
        ("s", "public"),
        ("t", "person"),
        ("n", "person_mail_key"),
    ]


def test_where_it_went_wrong_in_the_clients_own_text_is_shown() -> None:
    assert ("P", "8") in withheld(
        {"S": b"ERROR", "C": b"42703", "M": b"x", "P": b"8", "p": b"9", "q": b"select canary"}
    )


def test_a_message_that_is_no_error_has_words() -> None:
    shown = dict(withheld({"S": b"NOTICE", "V": b"NOTICE", "C": b"00000", "M": b"canary"}))
    assert shown["M"].startswith("a message, in words")
    assert shown["C"] == "00000"


@pytest.mark.parametrize(
    ("sqlstate", "words"), [("23999", "integrity constraint violation"), ("SSN12", "a condition of its own")]
)
def test_a_code_of_somebodys_own_is_not_shown(sqlstate: str, words: str) -> None:
    shown = dict(withheld({"S": b"ERROR", "C": sqlstate.encode(), "M": b"x", "c": b"canary"}))
    assert shown["C"] == "P0001"
    assert shown["M"].startswith(f"{words}, in words")
    assert "c" not in shown


@given(
    st.dictionaries(st.sampled_from("SVCMDHPpqWstcdnFLRx"), st.binary(max_size=8).map(lambda b: b.replace(b"\0", b"")))
)
def test_whatever_it_says_there_is_an_answer(fields: dict[str, bytes]) -> None:
    shown = withheld(fields)
    assert dict(shown).keys() <= set("SVCMPstcdn")
    encoded = m.notice(m.ERROR_RESPONSE, shown)
    assert m.read_fields(encoded, 0, len(encoded)).keys() <= set("SVCMPstcdn")


def test_the_words_are_postgresql_s_names_of_its_conditions() -> None:
    """As psycopg has them, which takes them from PostgreSQL's source; it leaves out what is no error."""
    known = {error.sqlstate for error in errors._sqlcodes.values()}
    assert known <= conditions().keys()
    assert {sqlstate[:2] for sqlstate in conditions().keys() - known} == {"01"}
    for name, error in errors._sqlcodes.items():
        if name != error.sqlstate and name == name.upper():
            alike = [n for n, e in errors._sqlcodes.items() if e is error and n != e.sqlstate]
            assert conditions()[error.sqlstate].upper().replace(" ", "_") in alike


def notification(channel: bytes, payload: bytes) -> bytes:
    return m.frame(m.NOTIFICATION_RESPONSE, b"\0\0\1\2" + channel + b"\0" + payload + b"\0")


@pytest.mark.parametrize("payload", [b"", b"canary"])
def test_a_notification_keeps_its_channel_alone(payload: bytes) -> None:
    sent = notification(b"changes", payload)
    assert quiet_notification(b"xx" + sent + b"yy", 2, 2 + len(sent)) == notification(b"changes", b"")


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\1x\0", b"\0\0\0\1x\0y", b"\0\0\0\1x\0y\0z"])
def test_a_notification_is_whole(body: bytes) -> None:
    sent = m.frame(m.NOTIFICATION_RESPONSE, body)
    with pytest.raises(ProtocolError):
        quiet_notification(sent, 0, len(sent))
