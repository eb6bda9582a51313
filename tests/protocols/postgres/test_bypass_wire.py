"""Tricks with messages that would have had something run that nobody saw."""

from bastion.model.action import Access
from tests.protocols.postgres.wire import BOUND, PARSED, SYNC, Carrier, bind, complete, parse, query, ready


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
