"""Tricks with messages that would have had something run that nobody saw."""

import pytest

from bastion.errors import LimitExceeded
from bastion.model.action import Access
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres import names
from bastion.protocols.postgres.messages import frame
from tests.protocols.postgres.wire import (
    BOUND,
    CLOSED,
    PARSED,
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


def test_others_hear_of_a_change_when_it_begins_and_when_it_is_done() -> None:
    told = Told()
    carrier = Carrier(analyst=told)
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(query("ddl"))
    assert told.changes == 1
    carrier.target(complete("DDL"), ready("T"))
    assert told.changes == 1
    carrier.client(query("commit"))
    carrier.target(complete("COMMIT"), ready())
    assert told.changes == 2
