"""Where held actions wait for people: asks, counts votes, expires, withdraws, and lets each approval be spent once."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from bastion.errors import ApprovalError
from bastion.gateway import records
from bastion.model.action import Action
from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.model.identity import Identity
from bastion.model.session import Session, SessionId
from bastion.model.verdict import Allow, Deny, Hold, Ruling

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Letters and digits that are not mistaken for one another when read aloud."""
_KEPT = 1000
"""Settled requests that `bastion approvals --all` can still list without asking the store."""

_SIZE_AT_MOST = 256 * 1024
"""Bytes of a statement and its arguments that people can be asked to look through."""

Outcome = Callable[[Approval], None]


class Ledger(Protocol):
    """Where approvals are kept for good."""

    def asked(self, approval: Approval) -> None:
        """Keep a new request."""
        ...

    def voted(self, approval: Approval, vote: Vote) -> None:
        """Keep one vote."""
        ...

    def settled(self, approval: Approval, state: State, reason: str, at: datetime) -> None:
        """Keep how a request ended."""
        ...

    def spend(self, approval: ApprovalId, at: datetime) -> bool:
        """Mark an approved request as used and return True, once; False ever after."""
        ...

    def append(self, session: SessionId, kind: str, data: bytes) -> int:
        """Append an entry to a session's recording."""
        ...


class Desk:
    """All requests that wait, and those that were settled lately."""

    def __init__(
        self, ledger: Ledger, now: Callable[[], datetime], *, capacity: int, per_session: int, per_identity: int
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._capacity = capacity
        self._per_session = per_session
        self._per_identity = per_identity
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[ApprovalId, tuple[Approval, Outcome, asyncio.TimerHandle]] = {}
        self._past: dict[ApprovalId, Approval] = {}
        self.arrived: Callable[[Approval], None] = lambda approval: None
        """Called with each new request; somebody may want to be told."""

    def ask(
        self, session: Session, action: Action, hold: Hold, policy_version: str, outcome: Outcome
    ) -> Approval | Deny:
        """Put a request on the desk; `outcome` is called with it exactly once, when it is settled.

        Returns a `Deny` instead when too many requests wait already: then `outcome` is never called.
        """
        if _size(action) > _SIZE_AT_MOST:
            return Deny("bastion:limit", f"what people are asked about may have at most {_SIZE_AT_MOST // 1024} KiB")
        here = sum(1 for approval in self.waiting() if approval.session.id == session.id)
        mine = sum(1 for approval in self.waiting() if approval.session.identity.key == session.identity.key)
        if len(self._waiting) >= self._capacity or here >= self._per_session or mine >= self._per_identity:
            return Deny("bastion:limit", "too many requests wait for approval; try again when some are settled")
        approval = Approval(
            id=self._new_id(),
            session=session,
            action=action,
            hold=hold,
            policy_version=policy_version,
            digest=digest(session, action, policy_version),
            asked=self._now(),
        )
        # The loop's clock is monotonic: setting the system's clock back gives nobody more time.
        timer = self._loop.call_later(hold.expires.total_seconds(), self._expire, approval.id)
        self._waiting[approval.id] = (approval, outcome, timer)
        self._ledger.asked(approval)
        self.arrived(approval)
        return approval

    def waiting(self) -> list[Approval]:
        """Return what waits, oldest first."""
        return [approval for approval, _, _ in self._waiting.values()]

    def past(self) -> list[Approval]:
        """Return what was settled lately, oldest first."""
        return list(self._past.values())

    def find(self, name: str) -> Approval | None:
        """Return the request of that id, if the desk still knows it."""
        identifier = ApprovalId(name)
        held = self._waiting.get(identifier)
        return held[0] if held else self._past.get(identifier)

    def remaining(self, approval: Approval) -> float:
        """Return how many seconds a request still waits; 0 once it is settled."""
        held = self._waiting.get(approval.id)
        return max(0.0, held[2].when() - self._loop.time()) if held else 0.0

    def vote(self, name: str, voter: Identity, *, approves: bool, reason: str, shown: str) -> Approval:
        """Count one vote and return the request as it stands then; `shown` is the digest the voter was shown.

        Raises `ApprovalError` for a request that is unknown, settled, changed, or not this person's to decide.
        """
        self._expire_overdue(ApprovalId(name))
        held = self._waiting.get(ApprovalId(name))
        if held is None:
            past = self._past.get(ApprovalId(name))
            if past is None:
                raise ApprovalError("no such request", hint="`bastion approvals` lists what waits")
            raise ApprovalError(f"this request is already settled: {past.state()}")
        approval = held[0]
        if not secrets.compare_digest(shown.encode(), approval.digest.encode()):
            raise ApprovalError("this is not the request that was shown", hint="look at it again, then decide")
        objection = approval.objection(voter, approves=approves)
        if objection:
            raise ApprovalError(objection)
        vote = Vote(voter, approves, reason, self._now())
        approval = approval.with_vote(vote)
        self._waiting[approval.id] = (approval, *held[1:])
        self._ledger.voted(approval, vote)
        self._ledger.append(approval.session.id, "vote", records.vote(approval, vote))
        if approval.state() is not State.WAITING:
            self._settle(approval, reason)
        return approval

    def withdraw(self, name: ApprovalId, reason: str) -> None:
        """Take a request back because its requester cancelled it or is gone; nothing happens if it is settled."""
        held = self._waiting.get(name)
        if held is not None:
            self._settle(replace(held[0], withdrawn=self._now()), reason)

    def withdraw_all(self, reason: str) -> None:
        """Take every request back, because what they were judged by no longer holds."""
        for name in list(self._waiting):
            self.withdraw(name, reason)

    def spend(self, approval: Approval) -> Ruling:
        """Return what a settled request amounts to; an approved one is used up by this and never allows again."""
        match approval.state():
            case State.APPROVED if self._ledger.spend(approval.id, self._now()):
                return Allow(tuple(d.rule for d in approval.hold.demands), approval.hold.masks)
            case State.APPROVED:
                return Deny("bastion:spent", "this approval was already used")
            case State.DENIED:
                against = next(v for v in approval.votes if not v.approves)
                said = f": {against.reason}" if against.reason else ""
                return Deny(approval.hold.demands[0].rule, f"denied by {against.voter.name}{said}")
            case State.EXPIRED:
                return Deny("bastion:expired", "nobody approved it in time")
            case State.WITHDRAWN | State.WAITING:
                return Deny("bastion:withdrawn", "the request was withdrawn")

    def _expire_overdue(self, name: ApprovalId) -> None:
        """End a request whose time is over by either clock: the monotonic one stands still while a machine sleeps."""
        held = self._waiting.get(name)
        if held is not None:
            approval, _, timer = held
            if self._now() >= approval.asked + approval.hold.expires or self._loop.time() >= timer.when():
                self._expire(name)

    def _expire(self, name: ApprovalId) -> None:
        held = self._waiting.get(name)
        if held is not None:
            self._settle(replace(held[0], expired=self._now()), "nobody approved it in time")

    def _settle(self, approval: Approval, reason: str) -> None:
        _, outcome, timer = self._waiting.pop(approval.id)
        timer.cancel()
        self._past[approval.id] = approval
        while len(self._past) > _KEPT:
            del self._past[next(iter(self._past))]
        self._ledger.settled(approval, approval.state(), reason, self._now())
        outcome(approval)

    def _new_id(self) -> ApprovalId:
        while True:
            identifier = ApprovalId("".join(secrets.choice(_ALPHABET) for _ in range(6)))
            if self.find(identifier) is None:
                return identifier


def _size(action: Action) -> int:
    return len(action.text) + sum(len(argument) for argument in action.arguments if argument is not None)


def digest(session: Session, action: Action, policy_version: str) -> str:
    """Return the SHA-256, in hex, that an approval is bound to: the exact action, who asks, where, which policy."""
    identity, target = session.identity, session.target
    options = sorted((k, str(v)) for k, v in target.options.items())
    parts = [
        action.digest(),
        session.id,
        identity.issuer,
        identity.subject,
        target.name,
        target.protocol,
        target.host,
        str(target.port),
        target.user,
        repr(options),
        policy_version,
    ]
    summed = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        summed.update(len(encoded).to_bytes(8, "big") + encoded)
    return summed.hexdigest()


def describe(approval: Approval, *, remaining: float, preview: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return a request as the control API shows it."""
    action, session = approval.action, approval.session
    requester, target = session.identity, session.target
    missing = {d.rule: n for d, n in approval.missing()}
    return {
        "id": approval.id,
        "state": str(approval.state()),
        "digest": approval.digest,
        "asked": approval.asked.isoformat(),
        "expires": (approval.asked + approval.hold.expires).isoformat(),
        "remaining_seconds": round(remaining, 1),
        "target": target.name,
        "protocol": target.protocol,
        "labels": dict(target.labels),
        "requester": {
            "subject": requester.subject,
            "name": requester.name,
            "kind": str(requester.kind),
            "actor": requester.actor,
        },
        "session": session.id,
        "reason": session.reason,
        "action": {
            "verb": action.verb,
            "access": action.access.name.lower(),
            "text": action.safe_text,
            "arguments": records.arguments(action),
            "resources": records.resources(action),
        },
        "demands": [
            {
                "rule": d.rule,
                "reason": d.reason,
                "approvers": sorted(d.approvers),
                "votes": d.votes,
                "missing": missing.get(d.rule, 0),
            }
            for d in approval.hold.demands
        ],
        "votes": [
            {"voter": v.voter.name, "approves": v.approves, "reason": v.reason, "at": v.at.isoformat()}
            for v in approval.votes
        ],
        "preview": dict(preview) if preview is not None else None,
    }
