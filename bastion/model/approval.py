"""A request that waits for people, and the votes on it.

The state is never stored: it is computed from the votes, the marks and the time, so it cannot disagree with them.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NewType

from bastion.model.action import Action
from bastion.model.identity import Identity, Kind
from bastion.model.session import Session
from bastion.model.verdict import Demand, Hold

_SECOND = timedelta(seconds=1)
"""What a token's times are rounded down to."""

ApprovalId = NewType("ApprovalId", str)


class State(enum.StrEnum):
    """Where a request stands. All but WAITING are final."""

    WAITING = "waiting"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's answer to one request."""

    voter: Identity
    approves: bool
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for one execution of one exact action, bound to its digest."""

    id: ApprovalId
    session: Session
    action: Action
    hold: Hold
    policy_version: str
    digest: str
    """SHA-256 over the action, target, session, requester and policy version: what a vote is about."""
    asked: datetime
    votes: tuple[Vote, ...] = ()
    withdrawn: datetime | None = None
    expired: datetime | None = None
    """When the gateway's monotonic clock ran it out; wall-clock time never revives it."""

    def state(self) -> State:
        """Return where the request stands."""
        if any(not vote.approves for vote in self.votes):
            return State.DENIED
        if self._quorate():
            return State.APPROVED
        if self.withdrawn is not None:
            return State.WITHDRAWN
        if self.expired is not None:
            return State.EXPIRED
        return State.WAITING

    def missing(self) -> tuple[tuple[Demand, int], ...]:
        """Return each demand that is not yet met with the number of votes it still wants."""
        counts = ((d, d.votes - _people(self.votes, d, self.session.identity, self.asked)) for d in self.hold.demands)
        return tuple((d, n) for d, n in counts if n > 0)

    def objection(self, voter: Identity, *, approves: bool = True) -> str:
        """Return why `voter` may not approve this request, or not deny it, or an empty string if they may."""
        requester = self.session.identity
        if voter.kind is Kind.MACHINE:
            return "a machine identity cannot approve"
        if voter.actor:
            return "an agent cannot approve, whomever it acts for"
        if any(vote.voter.same_person(voter) for vote in self.votes):
            return "you have already voted on this request"
        if any(may_satisfy(d, voter, requester, self.asked) for d in self.hold.demands):
            return ""
        if voter.same_person(requester):
            if not any(_owns(d, voter, requester) for d in self.hold.demands):
                return "nobody approves their own request"
            if not approves:
                return ""
            if voter.logged_in is None:
                return "an owner approves by a fresh login, and your token does not say when you logged in (auth_time)"
            return "an owner approves by a login that is newer than the request: log in again"
        groups = ", ".join(sorted(frozenset().union(*(d.approvers for d in self.hold.demands))))
        return f"approving this takes a member of: {groups}"

    def with_vote(self, vote: Vote) -> "Approval":
        """Return the request with one vote more."""
        return replace(self, votes=(*self.votes, vote))

    def _quorate(self) -> bool:
        return not self.missing()


def may_satisfy(demand: Demand, voter: Identity, requester: Identity, asked: datetime) -> bool:
    """Tell whether a vote of `voter` counts towards `demand` of a request that `requester` made at `asked`.

    The owner of a machine has to have logged in since: what the machine can reach of its owner's older logins approves
    nothing that it asks.
    """
    if voter.kind is Kind.MACHINE or voter.actor or voter.key == requester.key:
        return False
    if voter.same_person(requester):
        return _owns(demand, voter, requester) and voter.logged_in is not None and voter.logged_in + _SECOND > asked
    return not demand.approvers.isdisjoint(voter.groups)


def _owns(demand: Demand, voter: Identity, requester: Identity) -> bool:
    """Tell whether the demand lets `voter` approve as the owner of the machine that asks."""
    return demand.owner_may_approve and requester.kind is Kind.MACHINE and requester.owner == voter.subject


def _people(votes: Iterable[Vote], demand: Demand, requester: Identity, asked: datetime) -> int:
    """Return how many different people approve, among those whose vote counts towards `demand`."""
    people: list[Identity] = []
    for vote in votes:
        counts = vote.approves and may_satisfy(demand, vote.voter, requester, asked)
        if counts and not any(vote.voter.same_person(other) for other in people):
            people.append(vote.voter)
    return len(people)
