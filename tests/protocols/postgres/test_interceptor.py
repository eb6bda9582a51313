"""What the interceptor answers to what, message by message."""

from datetime import UTC, datetime

import pytest

from bastion.errors import LimitExceeded, ProtocolError, UnreadableStream
from bastion.model.action import Access
from bastion.model.verdict import Demand
from bastion.protocols.contract import Hangup, Judge, Send, Side, Waiting
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.interceptor import SessionFacts
from bastion.protocols.postgres.messages import Frames, frame
from bastion.protocols.postgres.questions import ReadText
from bastion.protocols.postgres.understanding import PATHS_AT_MOST
from tests.protocols.postgres.wire import (
    ALLOW,
    BOUND,
    CLOSED,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    DENY,
    FLUSH,
    NO_DATA,
    PARAMETERS,
    PARSED,
    SUBSTITUTE_FAILS,
    SUSPENDED,
    SYNC,
    TERMINATE,
    Carrier,
    TinyAnalyst,
    bind,
    close,
    complete,
    describe,
    described,
    error,
    execute,
    fields,
    meaning,
    parse,
    query,
    ready,
    renewal,
    row,
    split,
    types,
)

WAITING = Waiting(
    "7KQ-2", (Demand("writes", "A second pair of eyes.", frozenset({"dba"}), 1),), datetime(2026, 5, 4, 12, tzinfo=UTC)
)


def refusing(*words: str) -> Carrier:
    return Carrier(lambda action: DENY if any(w in action.text for w in words) else ALLOW)


def holding() -> Carrier:
    return Carrier(lambda action: None if "delete" in action.text else ALLOW)


def test_query_is_judged_before_it_is_sent() -> None:
    carrier = Carrier()
    assert carrier.client(query("select 1")) == query("select 1")
    assert carrier.log == [("judge", "select 1"), ("send target", "Q")]


def test_nothing_is_sent_without_a_ruling() -> None:
    carrier = Carrier(lambda _: None)
    assert carrier.client(query("select 1"), SYNC, query("select 2")) == b""
    assert [a.text for a in carrier.judged] == ["select 1"]


def test_answers_are_recorded_before_the_client_has_them() -> None:
    carrier = Carrier()
    carrier.client(query("select 1"))
    answer = described(("a", 23, 0)) + row(b"1") + row(b"2") + complete("SELECT 2") + ready()
    assert carrier.target(answer) == answer
    assert carrier.log[-3:] == [("note", "output"), ("note", "finished"), ("send client", "TDDCZ")]
    assert carrier.finished == [{"ticket": 1, "tag": "SELECT 2", "rows": 2}]


def test_each_execute_is_judged_with_its_arguments() -> None:
    carrier = Carrier()
    pipeline = parse("select $1", "s", [23])
    for number in (b"1", b"2", None):
        pipeline += bind("s", values=[number]) + execute()
    assert carrier.client(pipeline, SYNC) == pipeline + SYNC
    assert [a.arguments for a in carrier.judged] == [("1",), ("2",), (None,)]
    assert carrier.judged[0].facts == {"types": [23], "formats": []}


def test_binary_arguments_stay_bytes() -> None:
    carrier = Carrier()
    carrier.client(parse("select $1 $2"), bind(values=[b"\0\1", b"x"], formats=[1, 0]), execute(), SYNC)
    assert carrier.judged[0].arguments == (b"\0\1", "x")
    assert carrier.judged[0].facts["formats"] == [1, 0]


def test_same_value_in_another_format_has_another_digest() -> None:
    carrier = Carrier()
    for formats in ([0], [1]):
        carrier.client(parse("select $1"), bind(values=[b"1111"], formats=formats), execute(), SYNC)
    one, other = carrier.judged
    assert one.digest() != other.digest()


def test_refused_query_is_replaced_and_so_is_its_error() -> None:
    carrier = refusing("drop")
    sent = carrier.client(query("drop"))
    assert types(sent) == "Q"
    assert b"drop" not in sent
    shown = carrier.target(SUBSTITUTE_FAILS, ready())
    assert types(shown) == "EZ"
    told = fields(split(shown)[0][1])
    assert told["C"] == "42501"
    assert "no-such-thing" in told["M"]
    assert carrier.finished == [{"ticket": 1, "tag": "", "rows": 0, "sqlstate": "42501"}]


def test_refused_execute_fails_the_run_up_to_sync() -> None:
    carrier = refusing("delete")
    sent = carrier.client(
        parse("select 1"), bind(), execute(), parse("delete"), bind(), execute(), bind(), execute(), SYNC
    )
    assert types(sent) == "PBEPBPS"
    assert split(sent)[-2][1].startswith(b"bastion_refuses_this\0")
    shown = carrier.target(PARSED, BOUND, row(b"1"), complete(), PARSED, BOUND, SUBSTITUTE_FAILS, ready())
    assert types(shown) == "12DC12EZ"
    assert carrier.client(query("select 2")) == query("select 2")


def test_only_the_error_of_the_substitute_is_replaced() -> None:
    carrier = refusing("drop")
    carrier.client(query("drop"))
    fatal = error("57P01", "terminating connection due to administrator command", "FATAL")
    assert carrier.target(fatal) == fatal


def test_a_client_cannot_send_the_substitute_and_have_its_error_replaced() -> None:
    carrier = Carrier()
    carrier.client(query("bastion_refuses_this"))
    assert carrier.target(SUBSTITUTE_FAILS, ready()) == SUBSTITUTE_FAILS + ready()


def test_unreadable_text_is_answered_and_not_sent() -> None:
    carrier = Carrier()
    sent = carrier.client(query("garbage"), parse("garbage", "x"), bind("x"), execute(), SYNC)
    assert b"garbage" not in sent
    assert types(sent) == "QPS"
    shown = carrier.target(SUBSTITUTE_FAILS, ready(), SUBSTITUTE_FAILS, ready())
    assert [fields(body)["C"] for tag, body in split(shown) if tag == "E"] == ["42601", "42601"]
    assert fields(split(shown)[0][1])["P"] == "3"
    assert carrier.judged == []


def test_function_call_is_refused_and_the_session_goes_on() -> None:
    carrier = Carrier()
    call = frame(m.FUNCTION_CALL, b"\0\0\0\1" + b"\0\0" + b"\0\0" + b"\0\0")
    assert types(carrier.client(call)) == "Q"
    shown = carrier.target(SUBSTITUTE_FAILS, ready())
    assert fields(split(shown)[0][1])["C"] == "0A000"


def test_held_statement_is_told_at_once_and_goes_unchanged_when_allowed() -> None:
    carrier = holding()
    assert carrier.client(query("delete 1")) == b""
    carrier.carry(carrier.interceptor.waiting(carrier.held[0].ticket, WAITING))
    ((tag, body),) = split(carrier.sent[Side.CLIENT])
    told = fields(body)
    assert (tag, told["C"]) == ("N", "01000")
    assert "7KQ-2" in told["M"]
    assert "bastion approve 7KQ-2" in told["H"]
    assert carrier.settle(ALLOW) == query("delete 1")


def test_what_comes_behind_a_hold_waits_in_order() -> None:
    carrier = holding()
    pipeline = parse("delete 1"), bind(), execute(), parse("select 1"), bind(), execute(), SYNC
    assert types(carrier.client(*pipeline)) == "PB"
    assert carrier.client(query("select 2")) == b""
    assert types(carrier.settle(ALLOW)) == "EPBESQ"
    assert [a.text for a in carrier.judged] == ["delete 1", "select 1", "select 2"]


def test_denied_hold_drops_the_rest_of_its_run() -> None:
    carrier = holding()
    carrier.client(parse("delete 1"), bind(), execute(), bind(), execute(), SYNC, query("select 2"))
    assert types(carrier.settle(DENY)) == "PSQ"


def test_target_is_heard_while_something_is_held() -> None:
    carrier = holding()
    carrier.client(query("delete 1"))
    notification = frame(m.NOTIFICATION_RESPONSE, b"\0\0\0\1channel\0payload\0")
    assert carrier.target(notification) == notification


def test_cancel_withdraws_what_is_held() -> None:
    carrier = holding()
    carrier.client(query("delete 1"))
    carrier.carry(carrier.interceptor.waiting(carrier.held[0].ticket, WAITING))
    carrier.answer("interrupt", None)
    assert [w.ticket for w in carrier.withdrawn] == [1]
    carrier.settle(DENY)
    shown = carrier.target(SUBSTITUTE_FAILS, ready())
    assert fields(split(shown)[0][1])["C"] == "57014"


def test_cancel_reaches_what_runs() -> None:
    carrier = Carrier()
    carrier.client(query("select slow"))
    carrier.answer("interrupt", None)
    assert [ask.name for ask in carrier.asks] == ["interrupt", "cancel"]


def test_cancel_of_nothing_does_nothing() -> None:
    carrier = Carrier()
    carrier.client(query("select 1"))
    carrier.target(complete(), ready())
    carrier.answer("interrupt", None)
    assert [ask.name for ask in carrier.asks] == ["interrupt"]


def test_held_execute_is_withdrawn_when_its_run_has_failed() -> None:
    carrier = holding()
    carrier.client(parse("delete 1"), bind(), execute(), SYNC)
    carrier.carry(carrier.interceptor.waiting(carrier.held[0].ticket, WAITING))
    carrier.target(error())
    assert [w.ticket for w in carrier.withdrawn] == [1]
    assert types(carrier.settle(DENY)) == "S"


def test_client_that_goes_takes_its_request_along() -> None:
    carrier = holding()
    carrier.client(query("delete 1"))
    assert carrier.client(TERMINATE) == TERMINATE
    assert carrier.hangup


def test_more_than_is_held_behind_a_hold_is_an_error() -> None:
    carrier = Carrier(lambda _: None, facts=SessionFacts(dict(PARAMETERS), (), held_messages=3))
    carrier.client(query("delete 1"))
    carrier.client(query("a"), query("b"), query("c"))
    with pytest.raises(LimitExceeded):
        carrier.client(query("d"))


def test_failed_parse_leaves_the_name_as_it_was() -> None:
    carrier = refusing("delete")
    carrier.client(parse("delete", "s"), SYNC)
    carrier.target(PARSED, ready())
    carrier.client(parse("select 1", "s"), SYNC)
    carrier.target(error("42P05"), ready())
    carrier.client(bind("s"), execute(), SYNC)
    assert carrier.judged[-1].text == "delete"


def test_uncertain_name_waits_for_the_answer() -> None:
    carrier = refusing("delete")
    carrier.client(parse("delete", "s"), SYNC)
    carrier.target(PARSED, ready())
    assert types(carrier.client(parse("select 1", "s"), SYNC, bind("s"), execute(), SYNC)) == "PS"
    carrier.target(error("42P05"), ready())
    assert carrier.judged[-1].text == "delete"


def test_new_name_needs_no_waiting() -> None:
    carrier = Carrier()
    assert types(carrier.client(parse("select 1", "s"), SYNC, bind("s"), execute(), SYNC)) == "PSBES"


def test_portal_keeps_what_it_was_bound_with() -> None:
    carrier = Carrier()
    carrier.client(parse("delete"), bind("", "a"), parse("select 1"), execute("a"), SYNC)
    assert [a.text for a in carrier.judged] == ["delete"]


def test_sql_prepare_and_parse_share_their_names() -> None:
    carrier = Carrier()
    carrier.client(query("prepare s delete"))
    carrier.target(complete("PREPARE"), ready())
    carrier.client(bind("s"), execute(), SYNC)
    assert meaning(carrier.judged[-1]) == ("delete",)
    carrier.client(parse("delete 2", "t"), SYNC)
    carrier.target(BOUND, complete(), ready(), PARSED, ready())
    carrier.client(query("execute t"))
    assert meaning(carrier.judged[-1]) == ("delete 2",)


def test_cursors_and_portals_share_their_names() -> None:
    carrier = Carrier()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(query("declare c delete"))
    carrier.target(complete("DECLARE CURSOR"), ready("T"))
    carrier.client(execute("c"), SYNC)
    assert meaning(carrier.judged[-1]) == ("delete",)


def test_names_that_differ_behind_their_63rd_byte_are_one() -> None:
    carrier = Carrier()
    long = "n" * 63
    carrier.client(parse("select 1", long + "x"), SYNC)
    carrier.target(PARSED, ready())
    carrier.client(close("S", long + "y"), parse("delete", long + "z"), bind(long + "x"), execute(), SYNC)
    assert carrier.judged[-1].text == "delete"


def test_unknown_name_is_unknown() -> None:
    carrier = refusing("never")
    carrier.client(execute("nowhere"), SYNC)
    assert carrier.judged[-1].access is Access.UNKNOWN
    carrier.client(query("execute nowhere"))
    assert carrier.judged[-1].access is Access.UNKNOWN


def test_partly_done_text_leaves_names_unknown() -> None:
    carrier = Carrier()
    carrier.client(query("prepare s select 1"))
    carrier.target(complete("PREPARE"), ready())
    carrier.client(query("deallocate s; prepare s delete; select broken"))
    carrier.target(complete("DEALLOCATE"), complete("PREPARE"), error(), ready())
    carrier.client(bind("s"), execute(), SYNC)
    assert carrier.judged[-1].access is Access.UNKNOWN


def test_portals_end_with_their_transaction() -> None:
    carrier = Carrier()
    carrier.client(parse("select 1"), bind("", "p"), SYNC)
    carrier.target(PARSED, BOUND, ready("I"))
    carrier.client(execute("p"), SYNC)
    assert carrier.judged[-1].access is Access.UNKNOWN


def test_what_could_run_when_planned_is_judged_when_bound() -> None:
    carrier = refusing("strange")
    assert types(carrier.client(parse("strange f"), bind(), execute(), SYNC)) == "PPS"
    allowed = Carrier()
    assert types(allowed.client(parse("strange f"), bind(), execute(), SYNC)) == "PBES"
    assert len(allowed.judged) == 1


def test_second_run_of_what_was_judged_when_bound_is_judged_again() -> None:
    carrier = Carrier()
    carrier.client(parse("strange f"), bind(), execute(), execute(), SYNC)
    assert len(carrier.judged) == 2


def test_portions_of_one_approved_execution_are_one() -> None:
    carrier = holding()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(parse("delete returning"), bind("", "c"), execute("c", 2), SYNC)
    carrier.carry(carrier.interceptor.waiting(carrier.held[0].ticket, WAITING))
    carrier.settle(ALLOW)
    carrier.target(PARSED, BOUND, row(b"1"), row(b"2"), SUSPENDED, ready("T"))
    assert types(carrier.client(execute("c", 2), SYNC)) == "ES"
    carrier.target(row(b"3"), complete("DELETE 3"), ready("T"))
    assert types(carrier.client(execute("c", 2), SYNC)) == ""
    assert len(carrier.judged) == 3


def test_statement_is_read_again_when_the_path_may_have_changed() -> None:
    analyst = TinyAnalyst()
    carrier = Carrier(analyst=analyst)
    carrier.client(parse("select 1", "s"), SYNC)
    carrier.target(PARSED, ready())
    carrier.client(query("path other"))
    carrier.target(complete("SET"), ready())
    carrier.client(bind("s"), execute(), SYNC)
    assert analyst.asked[-1] == (b"select 1", frozenset({("public",), ("other",)}))


def test_paths_are_bounded() -> None:
    carrier = Carrier()
    for number in range(PATHS_AT_MOST - 1):
        carrier.client(query(f"path p{number}"))
        carrier.target(complete("SET"), ready())
    with pytest.raises(LimitExceeded):
        carrier.client(query("path one_more"))


def test_catalog_is_read_again_after_ddl() -> None:
    carrier = Carrier()
    carrier.client(query("ddl"))
    carrier.target(complete("CREATE TABLE"), ready())
    # Nobody else would see it if it were temporary.
    sent = carrier.client(query("select 1"))
    assert carrier.target(renewal(sent)) == b""
    assert "catalog" in [ask.name for ask in carrier.asks]
    assert carrier.answer("catalog", TinyAnalyst()) == query("select 1")


def test_statement_is_read_again_with_the_new_catalog() -> None:
    carrier = Carrier()
    carrier.client(parse("select 1", "s"), query("ddl"))
    carrier.target(PARSED, complete("ALTER TABLE"), ready())
    carrier.target(renewal(carrier.client(bind("s"), execute(), SYNC)))
    renewed = TinyAnalyst()
    assert types(carrier.answer("catalog", renewed)) == "BES"
    assert renewed.asked


def test_pipelined_ddl_is_waited_for() -> None:
    carrier = Carrier()
    assert types(carrier.client(query("ddl"), query("select 1"))) == "Q"
    before = len(carrier.sent[Side.TARGET])
    carrier.target(complete("CREATE TABLE"), ready())
    carrier.target(renewal(carrier.sent[Side.TARGET][before:]))
    assert "catalog" in [ask.name for ask in carrier.asks]


def test_large_text_is_read_elsewhere() -> None:
    carrier = Carrier()
    text = "select " + "x" * 9000
    assert carrier.client(query(text), query("select 2")) == b""
    (ask,) = [ask for ask in carrier.asks if ask.name == "read"]
    assert isinstance(ask.question, ReadText)
    reading = TinyAnalyst().read(ask.question.text, ask.question.paths)
    assert carrier.answer("read", reading) == query(text) + query("select 2")


def test_copy_in_data_is_recorded_and_passed() -> None:
    carrier = Carrier()
    carrier.client(query("copy in"))
    carrier.target(COPY_IN)
    data = frame(m.COPY_DATA, b"1\n") + frame(m.COPY_DATA, b"2\n")
    assert carrier.client(data, COPY_DONE) == data + COPY_DONE
    assert carrier.notes[-1].detail == data
    assert carrier.target(complete("COPY 2"), ready())
    assert carrier.finished == [{"ticket": 1, "tag": "COPY 2", "rows": 2}]


def test_sync_sent_ahead_of_copy_data_is_ignored_by_both() -> None:
    carrier = Carrier()
    carrier.client(parse("copy in"), bind(), execute(), SYNC)
    carrier.target(PARSED, BOUND, COPY_IN)
    carrier.client(frame(m.COPY_DATA, b"1\n"), COPY_DONE, SYNC)
    assert types(carrier.target(complete("COPY 1"), ready())) == "CZ"
    assert types(carrier.client(query("select 1"))) == "Q"


def test_failed_copy_in_ends_at_the_next_sync() -> None:
    carrier = Carrier()
    carrier.client(parse("copy in"), bind(), execute(), SYNC)
    carrier.target(PARSED, BOUND, COPY_IN)
    carrier.client(frame(m.COPY_DATA, b"bad\n"))
    carrier.target(error("22P02"))
    assert types(carrier.client(frame(m.COPY_DATA, b"more\n"), COPY_DONE, SYNC)) == "S"
    assert types(carrier.target(ready())) == "Z"


def test_a_query_in_the_middle_of_copy_data_ends_the_session() -> None:
    carrier = Carrier()
    carrier.client(query("copy in"))
    carrier.target(COPY_IN)
    with pytest.raises(ProtocolError):
        carrier.client(query("delete"))


def test_a_query_sent_ahead_into_copy_data_ends_the_session() -> None:
    carrier = Carrier()
    carrier.client(query("copy in"), frame(m.COPY_DATA, b"x\n"), query("select 1"))
    with pytest.raises(ProtocolError):
        carrier.target(COPY_IN)


def test_copy_out_passes() -> None:
    carrier = Carrier()
    carrier.client(query("copy out"))
    answer = COPY_OUT + frame(m.COPY_DATA, b"1\n") * 3 + COPY_DONE + complete("COPY 3") + ready()
    assert carrier.target(answer) == answer


def test_copy_data_of_nothing_is_dropped() -> None:
    carrier = Carrier()
    assert carrier.client(frame(m.COPY_DATA, b"x"), COPY_DONE) == b""


@pytest.mark.parametrize(("name", "value"), [(b"client_encoding", b"SJIS"), (b"standard_conforming_strings", b"off")])
def test_setting_that_would_change_the_reading_ends_the_session(name: bytes, value: bytes) -> None:
    carrier = Carrier()
    carrier.client(query("select 1"))
    with pytest.raises(UnreadableStream):
        carrier.target(frame(m.PARAMETER_STATUS, name + b"\0" + value + b"\0"))


def test_other_settings_pass_to_the_client() -> None:
    carrier = Carrier()
    said = frame(m.PARAMETER_STATUS, b"TimeZone\0UTC\0")
    assert carrier.target(said) == said


@pytest.mark.parametrize(
    "answer",
    [PARSED, BOUND, CLOSED, NO_DATA, SUSPENDED, COPY_IN, COPY_OUT, COPY_DONE, complete(), ready(), row(b"1"), error()],
    ids=lambda data: chr(data[0]),
)
def test_answer_to_nothing_ends_the_session(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        Carrier().target(answer)


def test_describe_and_close_pass_unjudged() -> None:
    carrier = Carrier()
    sent = parse("select 1", "s") + describe("S", "s") + close("S", "s") + FLUSH + SYNC
    assert carrier.client(sent) == sent
    parameters = frame(m.PARAMETER_DESCRIPTION, b"\0\0")
    assert carrier.target(PARSED, parameters, described(("a", 23, 0)), CLOSED, ready())
    assert carrier.judged == []


def test_terminate_ends_the_session() -> None:
    carrier = Carrier()
    assert carrier.client(query("select 1"), TERMINATE) == query("select 1") + TERMINATE
    assert carrier.hangup == "the client ended the session"


def test_each_side_hears_of_the_end_of_the_other() -> None:
    interceptor = Carrier().interceptor
    assert list(interceptor.closed(Side.CLIENT)) == [Send(Side.TARGET, Frames(TERMINATE)), Hangup("the client hung up")]
    said = list(interceptor.closed(Side.TARGET))[1]
    assert isinstance(said, Send)
    assert fields(split(said.message.data)[0][1])["C"] == "08006"


def test_failure_is_told_in_the_protocols_words() -> None:
    (said,) = Carrier().interceptor.failed("the recording cannot be written", "", "recording")
    assert isinstance(said, Send)
    told = fields(split(said.message.data)[0][1])
    assert (told["S"], told["C"]) == ("FATAL", "58030")


def test_what_is_judged_is_a_plain_list_of_effects() -> None:
    carrier = Carrier()
    carrier.client(query("select 0"))
    carrier.target(complete(), ready())
    (effect,) = carrier.interceptor.received(Side.CLIENT, Frames(query("select 1"), [(m.QUERY, 0, 14)]))
    assert isinstance(effect, Judge)
    assert list(carrier.interceptor.ruled(effect.ticket, ALLOW)) == [Send(Side.TARGET, Frames(query("select 1")))]


def test_columns_described_at_another_time_are_noted_before_their_rows() -> None:
    carrier = Carrier()
    carrier.client(parse("select 1", "s"), describe("S", "s"), SYNC)
    parameters = frame(m.PARAMETER_DESCRIPTION, b"\0\0")
    carrier.target(PARSED, parameters, described(("id", 23, 0)), ready())
    for _ in range(2):
        carrier.client(bind("s"), execute(), SYNC)
        carrier.target(BOUND, row(b"1"), complete(), ready())
    kinds = [note.kind for note in carrier.notes]
    assert kinds == ["output", "columns", "output", "finished", "output", "finished"]
    assert carrier.notes[1].detail == {"columns": [["id", 23, False]]}


def test_columns_that_were_just_described_are_not_noted() -> None:
    carrier = Carrier()
    carrier.client(parse("select 1"), bind(), describe("P"), execute(), SYNC)
    carrier.target(PARSED, BOUND, described(("id", 23, 0)), row(b"1"), complete(), ready())
    assert [note.kind for note in carrier.notes] == ["output", "finished"]
