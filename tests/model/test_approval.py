"""Who may approve what, and where a request stands: computed, never stored."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.model.identity import Identity, Kind
from bastion.model.verdict import Allow, Hold
from tests.kit import nouns


def request(asker: Identity, hold: Hold | None = None) -> Approval:
    held = nouns.hold() if hold is None else hold
    return Approval(ApprovalId("abc123"), nouns.session(asker), nouns.action(), held, "v1", "digest", nouns.NOON)


def approving(voter: Identity) -> Vote:
    return Vote(voter, True, "", nouns.NOON)


ALICE = nouns.identity("alice", "engineers", "dba")
BOB = nouns.identity("bob", "dba")
CAROL = nouns.identity("carol", "dba")
MALLORY = nouns.identity("mallory", "engineers")
AGENT = nouns.identity("agent-7", "engineers", kind=Kind.MACHINE, owner="alice")
ROBOT = nouns.identity("robot", "dba", kind=Kind.MACHINE)


def test_a_member_of_the_group_approves() -> None:
    asked = request(ALICE)
    assert asked.objection(BOB) == ""
    assert asked.with_vote(approving(BOB)).state() is State.APPROVED


@pytest.mark.parametrize(
    ("asker", "voter", "said"),
    [
        (ALICE, ALICE, "nobody approves their own request"),
        (ALICE, replace(ALICE, token_id="another", groups=frozenset({"dba", "admins"})), "own request"),
        (AGENT, ALICE, "nobody approves their own request"),
        (ALICE, AGENT, "a machine identity cannot approve"),
        (ALICE, ROBOT, "a machine identity cannot approve"),
        (ALICE, replace(BOB, actor="copilot"), "an agent cannot approve"),
        (AGENT, replace(ALICE, actor="copilot"), "an agent cannot approve"),
        (ALICE, MALLORY, "takes a member of: dba"),
    ],
)
def test_who_may_not_approve(asker: Identity, voter: Identity, said: str) -> None:
    asked = request(asker)
    assert said in asked.objection(voter)
    assert asked.with_vote(approving(voter)).state() is State.WAITING


def test_an_owner_approves_his_agent_only_where_the_rule_says_so() -> None:
    asked = request(AGENT, nouns.hold(owner=True))
    fresh = replace(ALICE, logged_in=asked.asked)
    assert asked.objection(fresh) == ""
    assert asked.with_vote(approving(fresh)).state() is State.APPROVED
    assert "nobody approves their own" in request(AGENT, nouns.hold()).objection(fresh)


@pytest.mark.parametrize("logged_in", [None, nouns.NOON - timedelta(hours=1)])
def test_an_owner_has_to_have_logged_in_since_his_agent_asked(logged_in: datetime | None) -> None:
    asked = request(AGENT, nouns.hold(owner=True))
    stale = replace(ALICE, logged_in=logged_in)
    assert "fresh login" in asked.objection(stale) or "log in again" in asked.objection(stale)
    assert asked.with_vote(approving(stale)).state() is State.WAITING
    assert asked.objection(stale, approves=False) == ""


def test_the_same_name_at_another_issuer_is_somebody_else() -> None:
    stranger = replace(ALICE, issuer="https://elsewhere.example.com")
    assert request(ALICE).objection(stranger) == ""


def test_two_votes_take_two_people() -> None:
    asked = request(ALICE, nouns.hold(votes=2)).with_vote(approving(BOB))
    assert asked.state() is State.WAITING
    assert asked.objection(replace(BOB, token_id="second")) == "you have already voted on this request"
    assert asked.with_vote(approving(replace(BOB, token_id="second"))).state() is State.WAITING
    assert asked.with_vote(approving(CAROL)).state() is State.APPROVED


def test_a_second_account_of_one_person_is_no_second_person() -> None:
    second = nouns.identity("bob-admin", "dba", owner="bob")
    asked = request(ALICE, nouns.hold(votes=2)).with_vote(approving(BOB))
    assert asked.objection(second) == "you have already voted on this request"
    assert asked.with_vote(approving(second)).state() is State.WAITING


def test_an_agent_that_acts_for_the_owner_is_not_the_owner() -> None:
    acting = replace(ALICE, actor="copilot")
    asked = request(AGENT, nouns.hold(owner=True))
    assert asked.objection(acting) == "an agent cannot approve, whomever it acts for"
    assert asked.with_vote(approving(acting)).state() is State.WAITING


def test_every_demand_must_be_met() -> None:
    both = Hold(nouns.hold("dba").demands + nouns.hold("security").demands, nouns.hold().expires)
    asked = request(ALICE, both).with_vote(approving(BOB))
    assert asked.state() is State.WAITING
    assert asked.with_vote(approving(nouns.identity("sue", "security"))).state() is State.APPROVED


def test_one_no_is_final() -> None:
    asked = request(ALICE, nouns.hold(votes=2)).with_vote(Vote(BOB, False, "not today", nouns.NOON))
    assert asked.state() is State.DENIED
    assert asked.with_vote(approving(CAROL)).with_vote(approving(nouns.identity("dan", "dba"))).state() is State.DENIED


def test_a_verdict_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="no truth value"):
        bool(Allow(("r",)))


@given(st.lists(st.sampled_from([ALICE, BOB, CAROL, MALLORY, AGENT, ROBOT]), max_size=6), st.integers(1, 3))
def test_approved_means_enough_distinct_others(voters: list[Identity], votes: int) -> None:
    asked = request(ALICE, nouns.hold(votes=votes))
    for voter in voters:
        asked = asked.with_vote(approving(voter))
    others = {v.key for v in voters if v in (BOB, CAROL)}
    assert (asked.state() is State.APPROVED) == (len(others) >= votes)
