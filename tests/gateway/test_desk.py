"""The desk: how much one person may put on it, and when a request is over, whatever the clocks do."""

import asyncio
from datetime import datetime, timedelta

import pytest

from bastion.errors import ApprovalError
from bastion.gateway.desk import Desk
from bastion.model.action import Action
from bastion.model.approval import Approval, State
from bastion.model.identity import Identity
from bastion.model.verdict import Deny
from tests.kit import nouns, toy

CAROL = nouns.identity("carol", "dba")


class Counter:
    """A desk with a clock that can be set, and what became of each request."""

    def __init__(self) -> None:
        self.now = nouns.NOON
        self.settled: list[State] = []
        self.desk = Desk(toy.Ledger([]), self.time, capacity=5, per_session=2, per_identity=3)

    def time(self) -> datetime:
        return self.now

    def ask(self, who: Identity, session: str = "s-1") -> Approval | Deny:
        return self.desk.ask(
            nouns.session(who, session), nouns.action(), nouns.hold(), "v1", lambda a: self.settled.append(a.state())
        )

    def vote(self, asked: Approval | Deny) -> Approval:
        assert isinstance(asked, Approval)
        return self.desk.vote(asked.id, CAROL, approves=True, reason="", shown=asked.digest)


@pytest.fixture
async def counter() -> Counter:
    return Counter()


async def test_one_identity_cannot_fill_the_desk(counter: Counter) -> None:
    alice = nouns.identity("alice")
    asked = [counter.ask(alice, f"s-{n}") for n in range(5)]
    assert [isinstance(a, Deny) for a in asked] == [False, False, False, True, True]
    assert isinstance(counter.ask(nouns.identity("bob"), "t-1"), Approval)


@pytest.mark.parametrize(
    "action", [nouns.action("select 1" + " " * 300_000), nouns.action().called_with(("x" * 200_000, b"y" * 100_000))]
)
async def test_what_nobody_can_look_through_is_not_put_to_people(counter: Counter, action: Action) -> None:
    denied = counter.desk.ask(nouns.session(), action, nouns.hold(), "v1", lambda a: None)
    assert isinstance(denied, Deny)
    assert denied.rule == "bastion:limit"
    assert counter.desk.waiting() == []


async def test_what_was_settled_makes_room(counter: Counter) -> None:
    alice = nouns.identity("alice")
    asked = [counter.ask(alice, f"s-{n}") for n in range(3)]
    counter.vote(asked[0])
    assert isinstance(counter.ask(alice, "s-9"), Approval)


async def test_a_request_that_slept_past_its_end_is_over(counter: Counter) -> None:
    """A machine that was suspended: the monotonic clock stood still, and the time of day went on."""
    asked = counter.ask(nouns.identity("alice"))
    counter.now += timedelta(minutes=15)
    with pytest.raises(ApprovalError, match="settled: expired"):
        counter.vote(asked)
    assert counter.settled == [State.EXPIRED]


async def test_setting_the_clock_back_gives_nobody_more_time() -> None:
    counter = Counter()
    brief = nouns.hold(expires=timedelta(milliseconds=10))
    over = asyncio.Event()
    asked = counter.desk.ask(nouns.session(), nouns.action(), brief, "v1", lambda a: over.set())
    counter.now -= timedelta(days=1)
    await asyncio.wait_for(over.wait(), 5)
    with pytest.raises(ApprovalError, match="settled: expired"):
        counter.vote(asked)
