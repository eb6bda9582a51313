"""A request that waits for people, and the votes on it.

The state is never stored: it is computed from the votes, the marks and the time, so it cannot disagree with them.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NewType

from bastion.model.action import Action
from bastion.model.identity import Identity, Kind
from bastion.model.session import Session
from bastion.model.verdict import Demand, Hold

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
        counts = ((d, d.votes - _people(self.votes, d, self.session.identity)) for d in self.hold.demands)
        return tuple((d, n) for d, n in counts if n > 0)

    def objection(self, voter: Identity) -> str:
        """Return why `voter` may not vote on this request, or an empty string if they may."""
        requester = self.session.identity
        if voter.kind is Kind.MACHINE:
            return "a machine identity cannot approve"
        if voter.actor:
            return "an agent cannot approve, whomever it acts for"
        if any(vote.voter.same_person(voter) for vote in self.votes):
            return "you have already voted on this request"
        if any(may_satisfy(d, voter, requester) for d in self.hold.demands):
            return ""
        if voter.same_person(requester):
            return "nobody approves their own request"
        groups = ", ".join(sorted(frozenset().union(*(d.approvers for d in self.hold.demands))))
        return f"approving this takes a member of: {groups}"

    def with_vote(self, vote: Vote) -> "Approval":
        """Return the request with one vote more."""
        return replace(self, votes=(*self.votes, vote))

    def _quorate(self) -> bool:
        return not self.missing()


def may_satisfy(demand: Demand, voter: Identity, requester: Identity) -> bool:
    """Tell whether a vote of `voter` counts towards `demand` of a request by `requester`."""
    if voter.kind is Kind.MACHINE or voter.actor or voter.key == requester.key:
        return False
    if voter.same_person(requester):
        owns = requester.kind is Kind.MACHINE and requester.owner == voter.subject
        return owns and demand.owner_may_approve
    return not demand.approvers.isdisjoint(voter.groups)


def _people(votes: Iterable[Vote], demand: Demand, requester: Identity) -> int:
    """Return how many different people approve, among those whose vote counts towards `demand`."""
    people: list[Identity] = []
    for vote in votes:
        counts = vote.approves and may_satisfy(demand, vote.voter, requester)
        if counts and not any(vote.voter.same_person(other) for other in people):
            people.append(vote.voter)
    return len(people)
