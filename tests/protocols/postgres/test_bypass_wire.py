"""Tricks with messages that would have had something run that nobody saw."""

from dataclasses import replace

import pytest

from bastion.errors import LimitExceeded
from bastion.model.action import Access, Resource
from bastion.protocols.contract import Side
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres import names
from bastion.protocols.postgres.messages import frame
from bastion.protocols.postgres.sql.reading import Reading
from tests.protocols.postgres.test_interceptor import WAITING
from tests.protocols.postgres.wire import (
    ALLOW,
    BOUND,
    CLOSED,
    PARSED,
    SUBSTITUTE_FAILS,
    SYNC,
    Carrier,
    TinyAnalyst,
    bind,
    close,
    complete,
    execute,
    parse,
    query,
    ready,
    row,
)

_KIB = 1024


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a session keep little; returns how many bytes."""
    monkeypatch.setattr(names, "KEPT_AT_MOST", 256 * _KIB)
    return 256 * _KIB


def test_arguments_that_a_fetch_would_hide_are_not_run_by_it() -> None:
    carrier = Carrier()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(parse("delete"), bind("", "p", [b"7"]), SYNC)
    carrier.target(PARSED, BOUND, ready("T"))
    carrier.client(query("fetch p"))
    assert carrier.judged[-1].access is Access.UNKNOWN


def test_a_portal_without_arguments_can_be_fetched_from() -> None:
    carrier = Carrier()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(parse("select 1"), bind("", "p"), SYNC)
    carrier.target(PARSED, BOUND, ready("T"))
    carrier.client(query("fetch p"))
    assert carrier.judged[-1].access is Access.READ


def test_what_one_session_prepares_is_bounded(few: int) -> None:
    carrier = Carrier()
    text = "select " + "1" * 7000

    def prepare_on() -> None:
        for n in range(few // 7000):
            carrier.client(parse(text, f"s{n}"), SYNC)
            carrier.target(PARSED, ready())

    with pytest.raises(LimitExceeded):
        prepare_on()


def test_what_one_session_binds_is_bounded(few: int) -> None:
    carrier = Carrier()
    carrier.client(query("begin"), parse("select 1"), SYNC)
    carrier.target(complete("BEGIN"), ready("T"), PARSED, ready("T"))

    def bind_on() -> None:
        for n in range(few // _KIB + 1):
            carrier.client(bind("", f"p{n}", [b"1" * _KIB]), SYNC)
            carrier.target(BOUND, ready("T"))

    with pytest.raises(LimitExceeded):
        bind_on()


def test_what_is_given_back_does_not_count(few: int) -> None:
    carrier = Carrier()
    carrier.client(parse("select 1"), SYNC)
    carrier.target(PARSED, ready())
    for _ in range(3 * few // _KIB):
        carrier.client(bind("", "p", [b"1" * _KIB]), close("P", "p"), SYNC)
        carrier.target(BOUND, CLOSED, ready())


def test_what_cannot_be_read_is_on_the_record() -> None:
    carrier = Carrier()
    carrier.client(query("garbage"), parse("garbage; garbage"), SYNC, frame(m.FUNCTION_CALL, bytes(10)))
    told = [n.detail for n in carrier.notes if n.kind == "unread" and not isinstance(n.detail, bytes)]
    assert [t["text"] for t in told] == ["garbage", "garbage; garbage", ""]
    assert [t["sqlstate"] for t in told] == ["42601", "42601", "0A000"]


def test_tags_of_a_long_text_are_cut_with_a_mark() -> None:
    carrier = Carrier()
    carrier.client(query(";".join(["select 1"] * 800)))
    carrier.target(*[complete()] * 800, ready())
    (outcome,) = carrier.finished
    assert outcome["rows"] == 800
    assert outcome["tag"].startswith("SELECT 1; SELECT 1; ")
    assert outcome["tag"].endswith("; and more")
    assert len(outcome["tag"]) < 5000


class Told(TinyAnalyst):
    """Hears of changes by others."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def changed(self) -> None:
        self.changes += 1


def test_catalog_is_read_again_when_another_session_has_changed_it() -> None:
    old, new = Told(), Told()
    carrier = Carrier(analyst=old)
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    old.outdated = True
    assert carrier.client(query("select 1")) == b""
    assert carrier.answer("catalog", new) == query("select 1")
    assert new.asked


def test_what_is_prepared_is_read_again_too() -> None:
    old, new = Told(), Told()
    carrier = Carrier(analyst=old)
    carrier.client(parse("select 1", "s"), SYNC)
    carrier.target(PARSED, ready())
    old.outdated = True
    assert carrier.client(bind("s"), execute(), SYNC) == b""
    carrier.answer("catalog", new)
    assert [text for text, _ in new.asked] == [b"select 1"]


def test_catalog_is_read_once_more_when_it_was_changed_while_it_was_read() -> None:
    old, late, new = Told(), Told(), Told()
    carrier = Carrier(analyst=old)
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    old.outdated = late.outdated = True
    assert carrier.client(query("select 1")) == b""
    assert carrier.answer("catalog", late) == b""
    assert carrier.answer("catalog", new) == query("select 1")
    assert (late.asked, len(new.asked)) == ([], 1)


def test_a_catalog_that_others_never_leave_alone_is_not_read_for_ever() -> None:
    restless = Told()
    restless.outdated = True
    carrier = Carrier(analyst=restless)
    carrier.client(query("delete 1"))
    for _ in range(100):
        if not carrier.asks or carrier.asks[-1].name != "catalog":
            break
        carrier.answer("catalog", restless)
    assert b"delete 1" not in carrier.sent[Side.TARGET]
    assert b"40001" in carrier.target(SUBSTITUTE_FAILS, ready())
    assert carrier.judged == []


class Dated(TinyAnalyst):
    """Says of each action by which catalog it was read."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def _fresh(self, text: str) -> Reading:
        reading = super()._fresh(text)
        seen = Resource("version", str(self.number), "seen", Access.NONE)
        return replace(reading, action=replace(reading.action, resources=(*reading.action.resources, seen)))


def held(text: str, analyst: TinyAnalyst) -> Carrier:
    """Return a session in which people are asked about `text`, while somebody changes the catalog."""
    carrier = Carrier(lambda action: None if action.verb == "delete" else ALLOW, analyst=analyst)
    carrier.client(query(text))
    carrier.carry(carrier.interceptor.waiting(carrier.held[0].ticket, WAITING))
    analyst.outdated = True
    return carrier


def test_what_was_approved_is_what_runs_when_the_catalog_has_changed_meanwhile() -> None:
    carrier = held("delete 1", Dated(1))
    assert carrier.settle(ALLOW) == b""
    assert b"delete 1" not in carrier.answer("catalog", Dated(2))
    assert b"bastion:changed" in carrier.target(SUBSTITUTE_FAILS, ready())
    (outcome,) = carrier.finished
    assert (outcome["ticket"], outcome["sqlstate"]) == (1, "42501")
    assert len(carrier.judged) == 1
    # The approval is not left for what comes next.
    assert carrier.client(query("delete 2")) == b""
    assert len(carrier.held) == 1


def test_what_was_approved_runs_when_it_still_means_the_same() -> None:
    carrier = held("delete 1", Dated(1))
    assert carrier.settle(ALLOW) == b""
    assert carrier.answer("catalog", Dated(1)) == query("delete 1")
    assert len(carrier.judged) == 1


def test_an_approval_lapses_when_what_it_was_for_cannot_be_read_any_more() -> None:
    restless = Dated(1)
    carrier = held("delete 1", restless)
    carrier.settle(ALLOW)
    for _ in range(100):
        if not any(ask.name == "catalog" for ask in carrier.asks):
            break
        carrier.answer("catalog", restless)
    assert b"40001" in carrier.target(SUBSTITUTE_FAILS, ready())
    assert carrier.finished == [{"ticket": 1, "tag": "", "rows": 0, "skipped": True}]
    restless.outdated = False
    assert carrier.client(query("delete 2")) == b""
    assert len(carrier.held) == 1


def test_an_approval_lapses_when_its_run_fails_before_it_is_used() -> None:
    analyst = Dated(1)
    carrier = Carrier(lambda action: None if action.verb == "delete" else ALLOW, analyst=analyst)
    carrier.client(parse("delete 1", "s"), SYNC)
    carrier.target(PARSED, ready())
    carrier.client(parse("select 1", "t"), bind("t"), execute(), bind("s"), execute(), SYNC)
    carrier.carry(carrier.interceptor.waiting(carrier.held[0].ticket, WAITING))
    carrier.target(SUBSTITUTE_FAILS)
    carrier.settle(ALLOW)
    assert carrier.client(query("delete 2")) == b""
    carrier.target(ready())
    assert len(carrier.held) == 1


def test_others_hear_of_a_change_when_it_is_about_to_be_done_and_when_it_is() -> None:
    told = Told()
    carrier = Carrier(analyst=told)
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(query("ddl"))
    carrier.target(complete("DDL"), ready("T"))
    # Nobody else sees it yet; and to look for it, they would have to wait for this session's locks.
    assert told.changes == 0
    carrier.client(query("commit"))
    assert told.changes == 1
    carrier.target(complete("COMMIT"), ready())
    assert told.changes == 2


def test_others_hear_of_a_change_without_a_transaction_too() -> None:
    told = Told()
    carrier = Carrier(analyst=told)
    carrier.client(query("ddl"))
    assert told.changes == 1
    carrier.target(complete("DDL"), ready())
    assert told.changes == 2


def test_a_change_is_not_sent_before_all_else_is_answered() -> None:
    # Else it could happen long after others were told of it, and its answer stay behind what the client does not take.
    carrier = Carrier()
    assert carrier.client(query("select 1"), query("ddl")) == query("select 1")
    carrier.target(row(), complete(), ready())
    assert carrier.sent[Side.TARGET].endswith(query("ddl"))
    carrier = Carrier()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    assert carrier.client(query("ddl"), query("commit")) == query("ddl")
    carrier.target(complete("DDL"), ready("T"))
    assert carrier.sent[Side.TARGET].endswith(query("commit"))


def test_a_change_behind_another_statement_of_its_run_is_not_known_to_be_seen_in_time() -> None:
    carrier = Carrier()
    changed = parse("ddl") + bind() + execute()
    carrier.client(parse("begin"), bind(), execute(), changed, SYNC)
    assert carrier.judged[-1].access is not Access.UNKNOWN
    carrier = Carrier()
    carrier.client(parse("select 1"), bind(), execute(), changed, SYNC)
    assert carrier.judged[-1].access is Access.UNKNOWN


def test_what_sql_has_prepared_is_read_again_too() -> None:
    old, new = Told(), Dated(2)
    carrier = Carrier(analyst=old)
    carrier.client(query("prepare p delete 1"))
    carrier.target(complete("PREPARE"), ready())
    carrier.client(query("prepare q select 1; prepare r select 2"))
    carrier.target(complete("PREPARE"), complete("PREPARE"), ready())
    old.outdated = True
    carrier.client(query("execute p"))
    carrier.answer("catalog", new)
    assert {r.name for r in carrier.judged[-1].resources} >= {"delete 1", "2"}
    carrier.target(complete("DELETE 1"), ready())
    # What stood beside others may have meant something else by them.
    carrier.client(query("execute q"))
    assert [action.access for action in carrier.judged[-2:]] == [Access.WRITE, Access.UNKNOWN]
