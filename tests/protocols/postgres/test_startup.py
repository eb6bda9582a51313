"""What a client may say before its conversation, and what of it counts."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import AccessRefused, BastionError, LimitExceeded, ProtocolError
from bastion.protocols.postgres import startup
from bastion.protocols.postgres.startup import (
    CancelAsked,
    EncryptionAsked,
    Greeting,
    PasswordGiven,
    Startup,
    application,
    target_startup,
    wishes,
)
from tests.protocols.postgres.wire import frame, query, split

SSL = struct.pack(">II", 8, 80877103)
GSS = struct.pack(">II", 8, 80877104)


def packet(*pairs: tuple[str, str], version: int = 0x30000) -> bytes:
    body = b"".join(n.encode() + b"\0" + v.encode() + b"\0" for n, v in pairs) + b"\0"
    return struct.pack(">II", len(body) + 8, version) + body


USER = ("user", "alice")


def said(data: bytes) -> Startup:
    (found,) = Greeting().received(data)
    assert isinstance(found, Startup)
    return found


def test_whole_greeting() -> None:
    greeting = Greeting()
    assert list(greeting.received(SSL)) == [EncryptionAsked()]
    assert list(greeting.received(GSS)) == [EncryptionAsked()]
    (opening,) = greeting.received(packet(USER, ("database", "prod-db")))
    assert opening == Startup(0, {"user": "alice", "database": "prod-db"})
    assert list(greeting.received(frame(ord("p"), b"ticket\0"))) == [PasswordGiven("ticket")]


@given(st.integers(1, 60))
def test_pieces_do_not_matter(size: int) -> None:
    greeting, found = Greeting(), []
    wire = packet(USER, ("database", "prod-db"), ("application_name", "psql"))
    for at in range(0, len(wire), size):
        found += greeting.received(wire[at : at + size])
    assert found == [said(wire)]


@pytest.mark.parametrize("request_", [SSL, GSS], ids=["ssl", "gss"])
def test_bytes_behind_a_request_for_encryption_are_refused(request_: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(Greeting().received(request_ + packet(USER)))


def test_bytes_behind_the_start_up_packet_are_refused() -> None:
    with pytest.raises(ProtocolError):
        list(Greeting().received(packet(USER) + frame(ord("p"), b"ticket\0")))


def test_bytes_behind_the_password_are_refused() -> None:
    greeting = Greeting()
    list(greeting.received(packet(USER)))
    with pytest.raises(ProtocolError):
        list(greeting.received(frame(ord("p"), b"ticket\0") + query("select 1")))


def test_encryption_is_asked_for_once() -> None:
    greeting = Greeting()
    list(greeting.received(SSL))
    with pytest.raises(ProtocolError):
        list(greeting.received(SSL))


def test_direct_tls_is_refused() -> None:
    with pytest.raises(ProtocolError, match="TLS"):
        list(Greeting().received(b"\x16\x03\x01\x02\x00\x01\x00"))


@pytest.mark.parametrize("length", [0, 4, 7, 10_001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_absurd_length_is_refused_before_it_is_held(length: int) -> None:
    with pytest.raises(ProtocolError):
        list(Greeting().received(struct.pack(">I", length)))


@pytest.mark.parametrize("length", [0, 4, 100_000, 0xFFFFFFFF])
def test_absurd_password_is_refused(length: int) -> None:
    greeting = Greeting()
    list(greeting.received(packet(USER)))
    with pytest.raises(ProtocolError):
        list(greeting.received(b"p" + struct.pack(">I", length)))


def test_query_in_place_of_a_password_is_refused() -> None:
    greeting = Greeting()
    list(greeting.received(packet(USER)))
    with pytest.raises(ProtocolError):
        list(greeting.received(query("select 1")))


@pytest.mark.parametrize(
    "wire",
    [
        packet(USER, USER),
        packet(USER, ("USER", "root")),
        packet(USER, ("", "x")),
        packet(USER, version=0x20000),
        packet(USER, version=0x40000),
        struct.pack(">II", 12, 0x30000) + b"user",
        struct.pack(">II", 14, 0x30000) + b"user\0\0",
        struct.pack(">II", 15, 0x30000) + b"user\0a\0",
        struct.pack(">II", 17, 0x30000) + b"user\0\xff\xfe\0\0",
    ],
)
def test_malformed_packet_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        wishes(said(wire))


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_any_bytes_raise_only_our_errors(one: bytes, two: bytes) -> None:
    greeting = Greeting()
    try:
        for data in (one, two):
            for found in greeting.received(data):
                if isinstance(found, Startup):
                    wishes(found)
    except BastionError:
        pass


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel_request(size: int) -> None:
    wire = startup.cancel_request(7, b"k" * size)
    assert list(Greeting().received(wire)) == [CancelAsked(7, b"k" * size)]


@pytest.mark.parametrize("size", [0, 3, 257])
def test_cancel_request_with_another_key_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError):
        list(Greeting().received(startup.cancel_request(7, b"k" * size)))


@pytest.mark.parametrize(
    ("minor", "version", "negotiates"), [(0, 0, False), (1, 0, True), (2, 2, False), (3, 2, True), (9999, 2, True)]
)
def test_version_is_negotiated(minor: int, version: int, negotiates: bool) -> None:
    opening = said(packet(USER, version=0x30000 + minor))
    assert (opening.version, opening.needs_negotiation) == (0x30000 + version, negotiates)


def test_protocol_options_are_declined_by_name() -> None:
    opening = said(packet(USER, ("_pq_.compression", "on"), version=0x30002))
    assert opening.needs_negotiation
    ((tag, body),) = split(startup.negotiation(opening))
    assert (tag, body) == ("v", struct.pack(">II", 0x30002, 1) + b"_pq_.compression\0")


def test_only_the_target_and_harmless_settings_count() -> None:
    found = wishes(
        said(
            packet(
                ("user", "postgres"),
                ("database", "prod-db"),
                ("application_name", "psql"),
                ("DateStyle", "ISO"),
                ("client_encoding", "'utf-8'"),
                ("options", "-c statement_timeout=5000 --extra_float_digits=2"),
            )
        )
    )
    assert (found.target, found.client) == ("prod-db", "psql")
    assert found.settings == {
        "application_name": "psql",
        "datestyle": "ISO",
        "statement_timeout": "5000",
        "extra_float_digits": "2",
    }


@pytest.mark.parametrize(
    "pair",
    [
        ("replication", "database"),
        ("replication", "true"),
        ("options", "-c role=other"),
        ("options", "-c standard_conforming_strings=off"),
        ("options", "-B 1000"),
        ("options", r"-c statement_timeout=1\ 2"),
        ("client_encoding", "SJIS"),
        ("search_path", "scratch"),
        ("standard_conforming_strings", "off"),
        ("session_authorization", "root"),
        ("application_name", "a\x1b[2J"),
        ("timezone", "x" * 500),
    ],
)
def test_what_would_change_who_or_how_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(AccessRefused):
        wishes(said(packet(USER, pair)))


def test_user_is_needed() -> None:
    with pytest.raises(ProtocolError):
        wishes(said(packet(("database", "x"))))


def test_settings_are_quoted() -> None:
    assert application({"application_name": "it's; drop"}) == "SET application_name TO 'it''s; drop'"


def test_target_is_told_what_is_configured_and_nothing_else() -> None:
    packet_ = target_startup("app_rw", "app", {"statement_timeout": "5000ms"})
    body = packet_[8:].split(b"\0")
    assert dict(zip(body[:-2:2], body[1::2], strict=False)) == {
        b"user": b"app_rw",
        b"database": b"app",
        b"application_name": b"bastion",
        b"client_encoding": b"UTF8",
        b"standard_conforming_strings": b"on",
        b"statement_timeout": b"5000ms",
    }


def test_long_password_is_refused() -> None:
    greeting = Greeting()
    list(greeting.received(packet(USER)))
    with pytest.raises(LimitExceeded):
        list(greeting.received(b"p" + struct.pack(">I", 5000)))
