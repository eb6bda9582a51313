"""What the gateway asks the target of itself, and what it makes of the answers."""

import pytest

from bastion.errors import LimitExceeded, ProtocolError, UnreadableStream
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres import renewing
from bastion.protocols.postgres.codec import target_codec
from bastion.protocols.postgres.messages import Frames
from bastion.protocols.postgres.renewing import Renewal, name_for
from bastion.protocols.postgres.sql.building import SEEN, SIGHT, decoded, sight
from tests.protocols.postgres.wire import complete, described, error, fields, ready, renewal, row, split, types

ONE = "PBECC"
"""The messages that run one statement and leave no name behind."""
IDLE, OPEN = ord("I"), ord("T")


def told(asked: Renewal, *data: bytes) -> tuple[bytes, bytes]:
    """Have the target say something; return what the client and the target get of it."""
    client, target = b"", b""
    for message in target_codec().decode(b"".join(data)):
        passed, sent = asked.take(message)
        client += passed.data if passed else b""
        target += sent.data if sent else b""
    return client, target


def statements(sent: bytes) -> list[str]:
    return [body.split(b"\0")[1].decode() for kind, body in split(sent) if kind == "P"]


def test_an_open_transaction_is_left_as_it_was() -> None:
    sent = Renewal(SEEN, OPEN, name_for(0)).opening().data
    assert types(sent) == ONE * 5 + "S"
    first, settings, text, *last = statements(sent)
    assert first == "SAVEPOINT bastion_catalog"
    assert "search_path" in settings
    assert text == SEEN
    assert last == ["ROLLBACK TO SAVEPOINT bastion_catalog", "RELEASE SAVEPOINT bastion_catalog"]


def test_where_none_is_open_nothing_is_left() -> None:
    sent = Renewal(SIGHT, IDLE, name_for(0)).opening().data
    first, _, text, last = statements(sent)
    assert first == "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
    assert text == SIGHT
    assert last == "ROLLBACK"


def test_no_name_of_the_clients_is_touched() -> None:
    sent = Renewal(SEEN, OPEN, name_for(3)).opening().data
    assert name_for(3) != name_for(0)
    for kind, body in split(sent):
        if kind in "PBE":
            assert body.startswith(name_for(3) + b"\0")
        if kind == "C":
            assert body[1:] == name_for(3) + b"\0"


@pytest.mark.parametrize(("status", "letter"), [(IDLE, "I"), (OPEN, "T")])
def test_the_client_hears_nothing_of_it(status: int, letter: str) -> None:
    asked = Renewal(SIGHT, status, name_for(0))
    sent = asked.opening().data
    chatter = m.notice(m.NOTICE_RESPONSE, [("S", "DEBUG"), ("C", "00000"), ("M", "parse bastion_catalog")])
    assert told(asked, chatter, renewal(sent, letter, schema="pg_temp_3", contents="x", among=chatter)) == (b"", b"")
    assert asked.done
    assert asked.failure is None
    found = sight(decoded(asked.rows))
    assert (found.schema, found.contents, found.is_current) == ("pg_temp_3", "x", True)


def test_what_may_come_at_any_time_is_passed_on() -> None:
    asked = Renewal(SIGHT, IDLE, name_for(0))
    notified = m.frame(m.NOTIFICATION_RESPONSE, b"\0\0\0\1channel\0payload\0")
    reported = m.frame(m.PARAMETER_STATUS, b"TimeZone\0UTC\0")
    answers = renewal(asked.opening().data, among=notified + reported)
    assert told(asked, answers, notified) == (notified + reported + notified, b"")


def test_an_answer_that_fails_is_followed_by_going_back() -> None:
    asked = Renewal(SEEN, OPEN, name_for(0))
    broken = m.frame(m.PARSE_COMPLETE) + m.frame(m.BIND_COMPLETE) + complete("SAVEPOINT")
    client, sent = told(asked, broken, error("55P03", "canceling statement due to lock timeout"), ready("E"))
    assert client == b""
    assert not asked.done
    assert types(sent) == "CC" + ONE * 2 + "S"
    assert statements(sent) == ["ROLLBACK TO SAVEPOINT bastion_catalog", "RELEASE SAVEPOINT bastion_catalog"]
    assert told(asked, renewal(sent, "T")) == (b"", b"")
    assert asked.done
    assert asked.status == OPEN
    assert asked.failure is not None
    assert asked.failure.sqlstate == "55P03"
    assert fields(asked.failure.encoded()[5:])["D"] == "The statement was not sent to the target."


def test_a_transaction_that_cannot_go_back_has_failed() -> None:
    asked = Renewal(SEEN, OPEN, name_for(0))
    told(asked, error("53200", "out of memory"), ready("E"))
    told(asked, error("3B001", "savepoint does not exist"), ready("E"))
    assert asked.done
    assert asked.status == ord("E")


@pytest.mark.parametrize(("status", "after"), [(IDLE, "T"), (IDLE, "E"), (OPEN, "I"), (OPEN, "E")])
def test_a_transaction_that_is_elsewhere_without_a_word_ends_the_session(status: int, after: str) -> None:
    asked = Renewal(SIGHT, status, name_for(0))
    with pytest.raises(UnreadableStream):
        told(asked, renewal(asked.opening().data, after))


def test_a_target_that_ends_the_connection_is_heard() -> None:
    asked = Renewal(SEEN, IDLE, name_for(0))
    fatal = error("57P01", "terminating connection due to administrator command", "FATAL")
    assert told(asked, fatal) == (fatal, b"")
    assert not asked.done


@pytest.mark.parametrize(
    "strange",
    [described(("a", 23, 0)), m.frame(m.COPY_IN_RESPONSE, b"\0\0\0"), m.frame(m.PORTAL_SUSPENDED), ready("I")],
)
def test_an_answer_to_something_else_ends_the_session(strange: bytes) -> None:
    with pytest.raises(ProtocolError):
        told(Renewal(SEEN, IDLE, name_for(0)), strange)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\1\0\0\0\0",
        b"\0\2\0\0\0\1a",
        b"\0\2\xff\xff\xff\xff\0\0\0\1b",
        b"\0\2\0\0\0\1a\0\0\0\2b",
        b"\0\3" + b"\0" * 12,
    ],
)
def test_a_row_of_another_shape_ends_the_session(body: bytes) -> None:
    asked = Renewal(SIGHT, IDLE, name_for(0))
    data = m.frame(m.DATA_ROW, body)
    asked.take(Frames(complete() * 2, [(m.COMMAND_COMPLETE, 0, len(complete()))] * 2))
    with pytest.raises(ProtocolError):
        asked.take(Frames(data, [(m.DATA_ROW, 0, len(data))]))


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "_HELD_AT_MOST", 1000)
    asked = Renewal(SEEN, IDLE, name_for(0))
    with pytest.raises(LimitExceeded):
        told(asked, complete() * 2, row(b"relations", b"[" + b"1," * 600 + b"1]"))


def test_only_a_target_that_waits_is_asked() -> None:
    with pytest.raises(AssertionError):
        Renewal(SEEN, ord("E"), name_for(0))
