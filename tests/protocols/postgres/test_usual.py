"""The usual shapes, taken as a whole, come to what they come to when each of their messages is taken by itself."""

from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from bastion.model.action import Action
from bastion.model.verdict import Ruling
from bastion.protocols.contract import Side
from bastion.protocols.postgres import interceptor, usual
from tests.protocols.postgres.test_pipelines import MESSAGE, NAMES, RULES, Conversation
from tests.protocols.postgres.wire import (
    ALLOW,
    BOUND,
    COPY_IN,
    DENY,
    PARSED,
    SUSPENDED,
    SYNC,
    Carrier,
    bind,
    complete,
    describe,
    error,
    execute,
    parse,
    query,
    ready,
    row,
)

TEXT = st.sampled_from(["select 1", "delete 1", "select missing", "begin", "commit", "prepare a select 3"])


def _executed(portal: str, statement: str, other: str, described: bool) -> list[bytes]:
    """Return the run that drivers send; `other` is the portal that is described and executed, as a rule the same."""
    return [bind(statement, portal), *([describe("P", other)] if described else []), execute(other), SYNC]


RUN = st.one_of(
    st.builds(lambda text: [query(text)], TEXT),
    st.builds(lambda text, name: [parse(text, name), SYNC], TEXT, NAMES),
    st.builds(lambda statement, described: _executed("", statement, "", described), NAMES, st.booleans()),
    st.builds(_executed, NAMES, NAMES, NAMES, st.booleans()),
    st.lists(MESSAGE, min_size=1, max_size=3),
)
STEP = st.one_of(
    st.tuples(st.just("client"), RUN),
    st.tuples(st.just("client"), RUN),
    st.tuples(st.just("target"), st.sampled_from([7, 30, 1000, 1000, 1000])),
    st.tuples(st.just("settle"), st.booleans()),
    st.tuples(st.just("interrupt"), st.none()),
)


def _came_to(rules: "dict[str, Ruling | None]", steps: list[tuple[str, Any]]) -> tuple[object, ...]:
    conversation = Conversation(rules)
    carrier = conversation.carrier
    carrier.client(SYNC)
    conversation.pump()
    for kind, what in steps:
        match kind:
            case "client":
                carrier.client(*what)
                conversation.pump()
            case "target":
                conversation.answer(what)
            case "settle":
                conversation.settle(what)
            case "interrupt":
                carrier.answer("interrupt", None)
    conversation.finish()
    answers = carrier.interceptor._answers
    return (
        carrier.sent,
        carrier.judged,
        [(note.kind, note.detail) for note in carrier.notes if note.kind != "output"],
        b"".join(note.detail for note in carrier.notes if isinstance(note.detail, bytes)),
        [(withdrawn.ticket, withdrawn.reason) for withdrawn in carrier.withdrawn],
        [ask.name for ask in carrier.asks],
        carrier.hangup,
        answers.status,
        {name: value.reading for names in (answers.statements, answers.portals) for name, value in names.settled()},
    )


@settings(max_examples=400, deadline=None)
@given(RULES, st.lists(STEP, max_size=25))
def test_both_ways_come_to_the_same(rules: "dict[str, Ruling | None]", steps: list[tuple[str, Any]]) -> None:
    usually = _came_to(rules, steps)
    with mock.patch.object(interceptor, "usual", return_value=None):
        assert usually == _came_to(rules, steps)


def taken_as_a_whole(*said: bytes, carrier: Carrier | None = None) -> bool:
    """Tell whether a session that has prepared `s` takes what a client says as one run."""
    carrier = carrier or prepared()
    with mock.patch.object(interceptor, "usual", wraps=usual.usual) as taken:
        found: list[object] = []
        taken.side_effect = lambda *given: found.append(usual.usual(*given)) or found[-1]
        carrier.client(*said)
    return any(run is not None for run in found)


def prepared(text: str = "select 1") -> Carrier:
    carrier = Carrier()
    carrier.client(parse(text, "s"), SYNC)
    carrier.target(PARSED, ready())
    return carrier


def test_what_drivers_send_all_the_time_is_taken_as_a_whole() -> None:
    assert taken_as_a_whole(query("select 1"))
    assert taken_as_a_whole(bind("s"), execute(""), SYNC)
    assert taken_as_a_whole(bind("s"), describe("P"), execute(""), SYNC)


def test_what_is_not_quite_usual_is_not() -> None:
    assert not taken_as_a_whole(query("select 1"), query("select 1"))
    assert not taken_as_a_whole(query("prepare a select 1"))
    assert not taken_as_a_whole(query("garbage"))
    assert not taken_as_a_whole(bind("unknown"), execute(""), SYNC)
    assert not taken_as_a_whole(bind("s"), execute("q"), SYNC)
    assert not taken_as_a_whole(bind("s", "p"), execute("p"), SYNC)
    assert not taken_as_a_whole(bind("s"), execute("", rows=1), SYNC)
    assert not taken_as_a_whole(bind("s"), describe("S"), execute(""), SYNC)
    assert not taken_as_a_whole(bind("s"), execute(""), execute(""), SYNC)
    assert not taken_as_a_whole(bind("s"), execute(""), SYNC, SYNC)
    assert not taken_as_a_whole(bind("s"), execute(""), SYNC, carrier=prepared("strange 1"))


def test_nothing_is_taken_as_a_whole_while_an_answer_is_owed() -> None:
    carrier = prepared()
    carrier.client(query("select 1"))
    assert not taken_as_a_whole(bind("s"), execute(""), SYNC, carrier=carrier)


def test_a_run_that_is_held_has_been_sent_up_to_what_is_held() -> None:
    carrier = prepared("delete 1")
    carrier.rule = lambda _: None
    assert carrier.client(bind("s"), execute(""), SYNC) == b""
    (judge,) = carrier.held
    assert carrier.client(query("select 2")) == bind("s")
    assert carrier.settle(DENY).endswith(SYNC)
    assert [action.text for action in carrier.judged] == ["delete 1", "select 2"]
    assert judge.action.text == "delete 1"


def test_an_answer_in_pieces_is_followed_piece_by_piece() -> None:
    carrier = prepared()
    carrier.client(bind("s"), execute(""), SYNC)
    assert carrier.target(BOUND, row(b"1")) == BOUND + row(b"1")
    assert carrier.interceptor._answers.running
    carrier.target(complete("SELECT 1"), ready())
    assert carrier.finished == [{"ticket": 1, "tag": "SELECT 1", "rows": 1}]


def test_each_run_is_judged_with_its_own_arguments() -> None:
    carrier = prepared()
    seen: list[Action] = []
    carrier.rule = lambda action: seen.append(action) or ALLOW
    for value in (b"1", b"2"):
        carrier.client(bind("s", values=[value]), execute(""), SYNC)
        carrier.target(BOUND, complete("SELECT 0"), ready())
    assert [action.arguments for action in seen] == [("1",), ("2",)]
    assert carrier.sent[Side.TARGET].count(execute("")) == 2


def test_the_unnamed_portal_of_a_run_is_what_is_executed_once_more() -> None:
    carrier = prepared()
    carrier.client(parse("select 2", "t"), SYNC)
    carrier.target(PARSED, ready())
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    for name in ("t", "s"):
        assert taken_as_a_whole(bind(name), execute(""), SYNC, carrier=carrier)
        carrier.target(BOUND, complete(), ready("T"))
    carrier.client(execute(""), SYNC)
    assert carrier.judged[-1].text == "select 1"


def test_what_a_run_binds_is_not_certain_to_the_next_one() -> None:
    carrier = prepared()
    carrier.client(parse("select 2", "t"), query("begin"))
    carrier.target(PARSED, complete("BEGIN"), ready("T"))
    carrier.client(bind("t"), execute("", rows=1), SYNC)
    carrier.target(BOUND, row(b"1"), SUSPENDED, ready("T"))
    assert taken_as_a_whole(bind("s"), execute(""), SYNC, carrier=carrier)
    # If the target refuses to bind it, the portal may still be the one of before.
    assert carrier.client(execute(""), SYNC) == b""
    assert carrier.target(BOUND, row(b"1"), complete(), ready("T"))
    assert carrier.judged[-1].text == "select 1"


def test_a_run_whose_bind_is_refused_has_not_run() -> None:
    carrier = prepared()
    assert taken_as_a_whole(bind("s"), execute(""), SYNC, carrier=carrier)
    carrier.target(error(), ready())
    assert carrier.finished == [{"ticket": 1, "tag": "", "rows": 0, "skipped": True}]


def test_nothing_is_taken_as_a_whole_while_a_sync_may_still_be_answered() -> None:
    carrier = prepared()
    carrier.client(query("copy"))
    carrier.target(COPY_IN)
    carrier.client(SYNC)  # which the target answers if the COPY has failed by the time it arrives
    carrier.target(error(), ready())
    assert not taken_as_a_whole(bind("s"), execute(""), SYNC, carrier=carrier)


def test_an_error_is_no_answer_to_a_whole_run() -> None:
    carrier = prepared()
    assert taken_as_a_whole(bind("s"), execute(""), SYNC, carrier=carrier)
    carrier.target(BOUND, error("22012"), ready())
    assert carrier.finished == [{"ticket": 1, "tag": "", "rows": 0, "sqlstate": "22012"}]
