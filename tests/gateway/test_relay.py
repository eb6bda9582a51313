"""The order that matters: recorded, then forwarded; and what cannot be recorded goes nowhere."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from bastion.gateway.desk import Desk
from bastion.gateway.hub import Hub
from bastion.gateway.judging import Judgement, Judging
from bastion.gateway.relay import Conversation
from bastion.model.action import Access, Action
from bastion.model.verdict import Deny
from bastion.protocols.contract import End, Side
from tests.kit import nouns, toy

BOB = nouns.identity("bob", "dba")


class Judges:
    """Judges as the toy says, until told to deny everything."""

    policy_version = "v1"

    def __init__(self) -> None:
        self.denies = False

    def judge(self, action: Action) -> Judgement:
        verdict = Deny("new-rule", "not any more") if self.denies else toy.verdict(action)
        return Judgement(action, verdict, action.access > Access.READ, b"{}")


@dataclass
class Rig:
    log: toy.Log = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tape = toy.Tape(self.log)
        self.client, self.target = toy.Wire(self.log, "client"), toy.Wire(self.log, "target")
        self.desk = Desk(toy.Ledger(self.log), lambda: nouns.NOON, capacity=3, per_session=2, per_identity=3)
        self.judges = Judges()
        self.hub = Hub(self.tape, lambda error: self.conversation.end(error))
        self.conversation = Conversation(
            nouns.session(),
            {Side.CLIENT: End(self.client, toy.Lines()), Side.TARGET: End(self.target, toy.Lines())},
            toy.Toy(),
            self.answer,
            recorder=cast("Any", self.tape),
            hub=self.hub,
            judging=cast("Judging", self.judges),
            desk=self.desk,
        )
        self.running = asyncio.ensure_future(self.conversation.run())

    async def answer(self, name: str, question: object) -> object:
        return f"{name}, {question}"

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    def at(self, *event: str) -> int:
        return self.log.index(event)

    def saw(self, side: str) -> str:
        return "".join(event[1] for event in self.log if event[0] == side)


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.settle()
    return made


async def test_a_read_leaves_in_the_same_turn_once_its_entry_is_written(rig: Rig) -> None:
    rig.client.feed("read 1\n")
    assert rig.saw("target") == ""
    await rig.settle()
    assert rig.log == [("append", "judged"), ("written",), ("target", "read 1\n")]
    rig.target.feed("one\n")
    assert rig.saw("client") == ""
    await rig.settle()
    assert rig.saw("client") == "one\n"


async def test_a_write_leaves_only_when_its_entry_is_synced(rig: Rig) -> None:
    rig.tape.may_sync.clear()
    rig.client.feed("write 1\nread 2\n")
    await rig.settle()
    assert rig.saw("target") == ""
    rig.tape.may_sync.set()
    await rig.settle()
    assert rig.saw("target") == "write 1\nread 2\n"
    assert rig.log.index(("synced",)) < rig.at("target", "write 1\nread 2\n")


async def test_what_comes_while_a_sync_is_under_way_waits_for_a_sync_of_its_own(rig: Rig) -> None:
    rig.tape.may_sync.clear()
    rig.client.feed("write 1\n")
    await rig.settle()
    rig.client.feed("write 2\n")
    await rig.settle()
    rig.tape.may_sync.set()
    await rig.settle()
    assert rig.saw("target") == "write 1\nwrite 2\n"
    assert [event for event in rig.log if event[0] in {"synced", "target"}][:2] == [("synced",), ("synced",)]


async def test_a_read_that_comes_just_as_a_sync_ends_does_not_overtake_its_entry(rig: Rig) -> None:
    rig.tape.may_sync.clear()
    rig.client.feed("write 1\n")
    await rig.settle()
    rig.tape.may_sync.set()
    rig.client.feed("read 2\n")
    await rig.settle()
    left = next(i for i, event in enumerate(rig.log) if event[0] == "target" and "read 2" in event[1])
    judged = max(i for i, event in enumerate(rig.log) if event == ("append", "judged"))
    assert ("written",) in rig.log[judged:left]


async def test_a_denial_is_synced_before_it_is_told(rig: Rig) -> None:
    rig.tape.may_sync.clear()
    rig.client.feed("deny 1\n")
    await rig.settle()
    assert rig.saw("client") == ""
    rig.tape.may_sync.set()
    await rig.settle()
    assert rig.saw("client") == "no: not here\n"
    assert rig.saw("target") == ""


async def test_a_held_action_runs_once_somebody_else_approves(rig: Rig) -> None:
    rig.client.feed("hold 1\n")
    await rig.settle()
    (approval,) = rig.desk.waiting()
    assert rig.saw("client") == f"wait: {approval.id}\n"
    assert rig.saw("target") == ""
    rig.desk.vote(approval.id, BOB, approves=True, reason="", shown=approval.digest)
    await rig.settle()
    assert rig.saw("target") == "hold 1\n"
    last_sync = max(i for i, event in enumerate(rig.log) if event == ("synced",))
    assert rig.at("append", "vote") < rig.at("append", "settled") < last_sync < rig.at("target", "hold 1\n")


async def test_a_policy_that_changed_meanwhile_still_denies(rig: Rig) -> None:
    rig.client.feed("hold 1\n")
    await rig.settle()
    (approval,) = rig.desk.waiting()
    rig.judges.denies = True
    rig.desk.vote(approval.id, BOB, approves=True, reason="", shown=approval.digest)
    await rig.settle()
    assert rig.saw("target") == ""
    assert rig.saw("client").endswith("no: not any more\n")


async def test_a_cancelled_hold_is_withdrawn(rig: Rig) -> None:
    rig.client.feed("hold 1\n")
    await rig.settle()
    rig.client.feed("cancel\n")
    await rig.settle()
    assert ("settled", "withdrawn") in rig.log
    assert rig.saw("client").endswith("no: the request was withdrawn\n")


async def test_nothing_runs_for_a_session_that_ended(rig: Rig) -> None:
    rig.client.feed("hold 1\n")
    await rig.settle()
    (approval,) = rig.desk.waiting()
    rig.client.close()
    await rig.running
    assert ("settled", "withdrawn") in rig.log
    assert rig.desk.waiting() == []
    assert "hold 1" not in rig.saw("target")
    assert rig.desk.past() == [rig.desk.find(approval.id)]


async def test_too_many_holds_are_denied_not_queued(rig: Rig) -> None:
    rig.client.feed("hold 1\nhold 2\nhold 3\n")
    await rig.settle()
    assert len(rig.desk.waiting()) == 2
    assert "too many requests" in rig.saw("client")
    told = next(i for i, event in enumerate(rig.log) if event[0] == "client" and "too many" in event[1])
    assert ("synced",) in rig.log[rig.at("append", "settled") : told]


@pytest.mark.parametrize("line", ["read 1\n", "write 1\n", "deny 1\n", "hold 1\n"])
async def test_what_cannot_be_recorded_ends_the_session(rig: Rig, line: str) -> None:
    rig.tape.broken = True
    rig.client.feed(line)
    assert await rig.running == "recording: the disk is full"
    assert rig.saw("target") == "closed"
    assert rig.saw("client") == "failed: recording\nclosed"


async def test_a_sync_that_fails_ends_the_session_and_nothing_ran(rig: Rig) -> None:
    rig.tape.may_sync.clear()
    rig.client.feed("write 1\n")
    await rig.settle()
    rig.tape.broken = True
    rig.tape.may_sync.set()
    await rig.running
    assert rig.saw("target") == "closed"
    assert rig.saw("client") == "failed: recording\nclosed"


async def test_a_result_that_cannot_be_committed_is_not_shown(rig: Rig) -> None:
    rig.client.feed("read 1\n")
    rig.target.feed("secret\n")
    rig.tape.broken = True
    await rig.running
    assert "secret" not in rig.saw("client")


@pytest.mark.parametrize(("line", "code"), [("nonsense\n", "protocol"), ("bug\n", "bastion")])
async def test_what_cannot_be_read_closes_the_conversation(rig: Rig, line: str, code: str) -> None:
    rig.client.feed("read 1\n")
    await rig.settle()
    rig.client.feed("read 2\n" + line + "read 3\n")
    reason = await rig.running
    assert reason.startswith(code)
    assert rig.saw("target") == "read 1\nclosed"
    assert rig.saw("client") == f"failed: {code}\nclosed"


async def test_the_end_is_recorded_and_what_is_owed_arrives(rig: Rig) -> None:
    rig.client.feed("read 1\n")
    rig.target.feed("one\n")
    rig.client.feed("bye\n")
    assert await rig.running == "bye"
    assert rig.saw("client") == "one\nclosed"
    assert rig.at("append", "closed") < rig.at("client", "closed")


async def test_a_slow_reader_stops_only_the_other_end(rig: Rig) -> None:
    assert rig.client.protocol is not None
    rig.client.protocol.pause_writing()
    assert (rig.client.reading, rig.target.reading) == (True, False)
    rig.client.protocol.resume_writing()
    assert rig.target.reading


async def test_a_question_is_answered_without_stopping_the_rest(rig: Rig) -> None:
    rig.client.feed("ask why\n")
    await rig.settle()
    assert rig.saw("client") == "answer: question, ask why\n"


async def test_two_approvers_race_and_one_is_told_it_is_settled(rig: Rig) -> None:
    rig.client.feed("hold 1\n")
    await rig.settle()
    (approval,) = rig.desk.waiting()
    carol = nouns.identity("carol", "dba")
    rig.desk.vote(approval.id, BOB, approves=True, reason="", shown=approval.digest)
    with pytest.raises(Exception, match="already settled: approved"):
        rig.desk.vote(approval.id, carol, approves=False, reason="", shown=approval.digest)
    await rig.settle()
    assert rig.saw("target") == "hold 1\n"
