"""What happens to the client's messages while the gateway asks the target for the session's own view of the catalog."""

import pytest

from bastion.errors import LimitExceeded
from bastion.model.action import Access
from bastion.protocols.contract import Note, Side
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.interceptor import SessionFacts
from bastion.protocols.postgres.messages import frame
from bastion.protocols.postgres.questions import SeenCatalog
from tests.protocols.postgres.wire import (
    BOUND,
    COPY_IN,
    PARAMETERS,
    PARSED,
    SUBSTITUTE_FAILS,
    SYNC,
    TERMINATE,
    Carrier,
    TinyAnalyst,
    bind,
    complete,
    error,
    execute,
    fields,
    parse,
    query,
    ready,
    renewal,
    split,
    types,
)


def changed(carrier: Carrier) -> Carrier:
    """Have a transaction open that has changed the catalog."""
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(query("ddl"))
    carrier.target(complete("ALTER TABLE"), ready("T"))
    return carrier


def told(carrier: Carrier, sent: bytes, *, contents: str = "c") -> bytes:
    """Answer what the gateway has asked, and what it makes of that; return what the target got for it."""
    before = len(carrier.sent[Side.TARGET])
    assert carrier.target(renewal(sent, "T", schema="pg_temp_3", contents=contents)) == b""
    if any(ask.name == "view" for ask in carrier.asks):
        carrier.answer("view", TinyAnalyst())
    return carrier.sent[Side.TARGET][before:]


def test_a_text_waits_until_the_view_is_read() -> None:
    carrier = changed(Carrier())
    sent = carrier.client(query("select 1"))
    assert types(sent).endswith("S")
    assert b"select 1" not in sent
    carrier.target(renewal(sent, "T"))
    (asked,) = (ask.question for ask in carrier.asks if ask.name == "view")
    assert isinstance(asked, SeenCatalog)
    own = TinyAnalyst()
    assert carrier.answer("view", own) == query("select 1")
    assert [text for text, _ in own.asked] == [b"select 1"]
    assert carrier.judged[-1].access is Access.READ


def test_nothing_of_it_is_for_the_client_and_that_it_was_asked_is_on_the_record() -> None:
    carrier = changed(Carrier())
    noted, heard = len(carrier.notes), carrier.sent[Side.CLIENT]
    told(carrier, carrier.client(query("select 1")))
    assert carrier.notes[noted:] == [Note("looked", {"at": "the catalog as the session sees it"})]
    assert carrier.sent[Side.CLIENT] == heard


def test_what_comes_meanwhile_waits_in_turn() -> None:
    carrier = changed(Carrier())
    sent = carrier.client(query("select 1"))
    assert carrier.client(query("select 2"), query("select 3")) == b""
    assert told(carrier, sent) == query("select 1") + query("select 2") + query("select 3")


def test_what_comes_meanwhile_is_bounded() -> None:
    carrier = changed(Carrier(facts=SessionFacts(dict(PARAMETERS), ("public",), held_messages=3)))
    carrier.client(query("select 1"))
    with pytest.raises(LimitExceeded):
        carrier.client(*[query("select 2")] * 10)


def test_one_view_serves_until_the_next_change() -> None:
    carrier = changed(Carrier())
    told(carrier, carrier.client(query("select 1")))
    carrier.target(complete(), ready("T"))
    assert carrier.client(query("select 2")) == query("select 2")
    carrier.target(complete(), ready("T"))
    carrier.client(query("back"))
    carrier.target(complete("ROLLBACK"), ready("T"))
    assert "P" in types(carrier.client(query("select 2")))


def test_transactions_end_without_a_question() -> None:
    for text in ("commit", "rollback", "back", "back; commit"):
        carrier = changed(Carrier())
        assert carrier.client(query(text)) == query(text)
        assert carrier.judged[-1].access is not Access.UNKNOWN


def test_a_failed_transaction_is_not_asked_and_nothing_in_it_certain() -> None:
    carrier = changed(Carrier())
    carrier.client(query("back"))
    carrier.target(error(), ready("E"))
    assert carrier.client(query("select 1")) == query("select 1")
    assert carrier.judged[-1].access is Access.UNKNOWN
    carrier.target(error("25P02"), ready("E"))
    carrier.client(query("back; select 1"))
    assert carrier.judged[-1].access is Access.UNKNOWN
    carrier.target(error("25P02"), ready("E"))
    assert carrier.client(query("back")) == query("back")
    assert carrier.judged[-1].access is not Access.UNKNOWN


def test_a_cancel_refuses_the_message_that_waits_and_reaches_nothing_else() -> None:
    carrier = changed(Carrier())
    sent = carrier.client(query("select 1"))
    carrier.answer("interrupt", None)
    assert "cancel" not in [ask.name for ask in carrier.asks]
    substitute = told(carrier, sent)
    assert b"select 1" not in substitute
    assert types(substitute) == "Q"
    said = split(carrier.target(SUBSTITUTE_FAILS, ready("E")))
    assert [kind for kind, _ in said] == ["E", "Z"]
    assert fields(said[0][1])["C"] == "57014"


@pytest.mark.parametrize("messages", [(query("select 1"),), (parse("select 1"), bind(), execute(), SYNC)])
def test_a_view_that_cannot_be_had_is_an_ordinary_error(messages: tuple[bytes, ...]) -> None:
    carrier = changed(Carrier())
    carrier.client(*messages)
    going_back = len(carrier.sent[Side.TARGET])
    assert carrier.target(error("55P03", "canceling statement due to lock timeout"), ready("E")) == b""
    sent = carrier.sent[Side.TARGET][going_back:]
    before = len(carrier.sent[Side.TARGET])
    assert carrier.target(renewal(sent, "T")) == b""
    substitute = carrier.sent[Side.TARGET][before:]
    assert b"select 1" not in substitute
    said = split(carrier.target(SUBSTITUTE_FAILS, ready("E")))
    assert fields(said[0][1])["C"] == "55P03"
    # The next statement is asked for again, once the transaction allows that.
    carrier.client(query("rollback"))
    carrier.target(complete("ROLLBACK"), ready("I"))
    assert carrier.client(query("select 1")).startswith(b"P")


def test_a_client_that_goes_meanwhile_takes_the_target_along() -> None:
    carrier = changed(Carrier())
    carrier.client(query("select 1"))
    carrier.carry(carrier.interceptor.closed(Side.CLIENT))
    assert carrier.sent[Side.TARGET].endswith(TERMINATE)
    assert carrier.hangup == "the client hung up"


def test_a_target_that_goes_meanwhile_is_told_of() -> None:
    carrier = changed(Carrier())
    carrier.client(query("select 1"))
    fatal = error("57P01", "terminating connection", "FATAL")
    assert carrier.target(fatal) == fatal
    carrier.carry(carrier.interceptor.closed(Side.TARGET))
    assert carrier.hangup == "the target hung up"


def test_notifications_that_come_meanwhile_arrive() -> None:
    carrier = changed(Carrier())
    sent = carrier.client(query("select 1"))
    notified = frame(m.NOTIFICATION_RESPONSE, b"\0\0\0\1a\0b\0")
    assert carrier.target(renewal(sent, "T", among=notified)) == notified


def test_nobody_asks_within_a_run() -> None:
    carrier = Carrier()
    carrier.client(parse("ddl"), bind(), execute())
    carrier.target(PARSED, BOUND, complete("ALTER TABLE"))
    # The Sync of a question would end the client's own run, and commit what is in it.
    sent = carrier.client(parse("select 1"), bind(), execute(), SYNC)
    assert types(sent) == "PBES"
    assert carrier.judged[-1].access is Access.UNKNOWN


def test_nobody_asks_before_the_answers_are_there() -> None:
    carrier = Carrier()
    assert types(carrier.client(query("ddl"), query("select 1"))) == "Q"
    before = len(carrier.sent[Side.TARGET])
    carrier.target(complete("ALTER TABLE"))
    assert carrier.sent[Side.TARGET][before:] == b""
    carrier.target(ready("T"))
    assert types(carrier.sent[Side.TARGET][before:]).startswith("PBECC")


def test_nobody_asks_while_data_is_copied() -> None:
    carrier = Carrier()
    carrier.client(parse("strange copy"), bind(), execute(), SYNC)
    assert carrier.target(PARSED, BOUND, COPY_IN) == PARSED + BOUND + COPY_IN
    assert carrier.client(frame(m.COPY_DATA, b"1\n"), frame(m.COPY_DONE), SYNC)
    assert carrier.client(parse("select 1"), bind(), execute(), SYNC) == b""
    before = len(carrier.sent[Side.TARGET])
    carrier.target(complete("COPY 1"), ready())
    assert types(carrier.sent[Side.TARGET][before:]).startswith("PBECC")


def test_names_that_the_client_uses_are_left_alone() -> None:
    carrier = Carrier()
    carrier.client(parse("select 1", "bastion_catalog"), SYNC)
    carrier.target(PARSED, ready())
    sent = changed(carrier).client(query("select 1"))
    assert b"bastion_catalog_1\0" in sent
    assert b"bastion_catalog\0SAVE" not in sent
    assert told(carrier, sent) == query("select 1")


def test_a_write_that_was_bound_before_a_change_is_not_certain() -> None:
    carrier = Carrier()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(parse("delete 1"), bind(portal="w"), parse("select 1", "s"), bind("s", "r"), SYNC)
    carrier.target(PARSED, BOUND, PARSED, BOUND, ready("T"))
    carrier.client(query("ddl"))
    carrier.target(complete("CREATE TRIGGER"), ready("T"))
    told(carrier, carrier.client(execute("r"), SYNC))
    carrier.target(complete(), ready("T"))
    carrier.client(execute("w"), SYNC)
    assert [action.access for action in carrier.judged[-2:]] == [Access.READ, Access.UNKNOWN]


def test_a_snapshot_that_hides_what_others_commit_leaves_all_unknown() -> None:
    carrier = changed(Carrier())
    sent = carrier.client(query("select 1"))
    before = len(carrier.sent[Side.TARGET])
    carrier.target(renewal(sent, "T", isolation="serializable"))
    assert carrier.sent[Side.TARGET][before:] == query("select 1")
    assert carrier.judged[-1].access is Access.UNKNOWN
    carrier.target(complete(), ready("T"))
    # It is not asked over and over.
    assert carrier.client(query("select 1")) == query("select 1")


def test_a_function_costs_one_look() -> None:
    carrier = Carrier()
    carrier.client(query("strange f"))
    carrier.target(complete(), ready())
    sent = carrier.client(query("select 1"))
    before = len(carrier.sent[Side.TARGET])
    carrier.target(renewal(sent))
    assert carrier.sent[Side.TARGET][before:] == query("select 1")
    assert not any(ask.name in ("view", "catalog") for ask in carrier.asks)


def test_a_shared_catalog_that_is_locked_is_read_by_the_session_itself() -> None:
    class Old(TinyAnalyst):
        outdated = True

    carrier = Carrier(analyst=Old())
    assert carrier.client(query("select 1")) == b""
    sent = carrier.answer("catalog", None)
    assert types(sent).startswith("PBECC")
    carrier.target(renewal(sent))
    assert carrier.answer("view", TinyAnalyst()) == query("select 1")
