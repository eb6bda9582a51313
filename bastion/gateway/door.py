"""The door of every endpoint: spends tickets, opens sessions, hands out credentials, runs conversations."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from bastion.config import Limits
from bastion.errors import AccessRefused, BastionError, RecordingError
from bastion.gateway import records
from bastion.gateway.desk import Desk
from bastion.gateway.hub import Hub
from bastion.gateway.judging import Judging
from bastion.gateway.refusals import Refusals
from bastion.gateway.relay import Conversation
from bastion.identity.tickets import Tickets
from bastion.model.session import Session, SessionId
from bastion.model.target import Target
from bastion.model.text import visible
from bastion.policy.document import Policy
from bastion.policy.evaluation import reach
from bastion.protocols.contract import Claim, End, Interceptor, Side
from bastion.store.writer import Recorder
from bastion.vault.sources import Vault

_log = logging.getLogger("bastion")

_Reach: TypeAlias = tuple[frozenset[str], frozenset[str]]
"""What masks name at a target, and which masks cover anything for one session."""


class GatewayDoor:
    """Implements `bastion.protocols.contract.Door`."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        hub: Hub,
        desk: Desk,
        refusals: Refusals,
        tickets: Tickets,
        vault: Vault,
        targets: Callable[[], Mapping[str, Target]],
        policy: Callable[[], Policy],
        limits: Limits,
        now: Callable[[], datetime],
    ) -> None:
        self._recorder = recorder
        self._hub = hub
        self._desk = desk
        self._refusals = refusals
        self._tickets = tickets
        self._vault = vault
        self._targets = targets
        self._policy = policy
        self._limits = limits
        self._now = now
        self._admitted: dict[SessionId, Session] = {}
        self._reach: dict[SessionId, _Reach] = {}
        """The masks of each session when it was admitted."""
        self._conversations: dict[SessionId, Conversation] = {}

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are open now."""
        return list(self._admitted.values())

    async def admit(self, claim: Claim) -> Session:
        """Spend a ticket and open the session it was issued for."""
        ticket = self._tickets.spend(claim.secret, claim.target)
        target = self._targets().get(ticket.target)
        if target is None:
            raise AccessRefused(f"there is no target {ticket.target} any more", hint="`bastion targets` lists them")
        if not reach(self._policy(), ticket.identity, target):
            raise AccessRefused(f"no rule lets you reach {target.name} any more", hint="`bastion targets` lists others")
        self._check_limits(ticket.identity.key)
        session = Session(
            id=SessionId(_new_id(self._now())),
            identity=ticket.identity,
            target=target,
            started=self._now(),
            reason=ticket.reason,
            peer=claim.peer,
            client=claim.client or ticket.client,
        )
        self._admitted[session.id] = session
        self._reach[session.id] = self._masks(session)
        try:
            self._recorder.open_session(session)
            self._recorder.append(session.id, "opened", records.opened(session, self._policy().version))
            await self._recorder.synced()
        except BaseException:
            self._forget(session)
            raise
        return session

    def masked(self, target: Target) -> frozenset[str]:
        """Return the columns that masks of the policy in force name at a target, whomever they spare."""
        rules = (rule for rule in self._policy().masks if rule.where.has(target))
        return frozenset(column for rule in rules for column in rule.mask.columns)

    async def credential(self, target: Target) -> bytes:
        """Return the target's credential, fetched now."""
        return await self._vault.resolve(target.credential)

    async def converse(
        self,
        session: Session,
        ends: Mapping[Side, End],
        interceptor: Interceptor[Any],
        ask: Callable[[str, object], Awaitable[object]],
    ) -> str:
        """Carry the conversation to its end and return the reason it ended for."""
        conversation = Conversation(
            session,
            ends,
            interceptor,
            ask,
            recorder=self._recorder,
            hub=self._hub,
            judging=Judging(session, self._policy),
            desk=self._desk,
        )
        self._conversations[session.id] = conversation
        lifetime = self._limits.session_lifetime
        # The loop's clock is monotonic: setting the system's clock back lets no session live longer.
        timer = asyncio.get_running_loop().call_later(
            lifetime.total_seconds(),
            conversation.end,
            AccessRefused(f"the session has lasted {lifetime}, as long as one may", hint="open a new one"),
        )
        _log.info("session %s at %s has begun", session.id, session.target.name)
        if self._is_changed(session):
            conversation.end(_changed(session.target))
        try:
            reason = await conversation.run()
            _log.info("session %s has ended: %s", session.id, visible(reason))
            return reason
        finally:
            timer.cancel()
            del self._conversations[session.id]
            self._forget(session)

    async def refused(self, claim: Claim, reason: str) -> None:
        """Record that somebody was not let in."""
        if self._refusals.note("refused", claim.peer, {"target": claim.target, "reason": reason}):
            await self._recorder.synced()

    async def failed(self, session: Session, reason: str) -> None:
        """Record that an admitted session ended before it could converse."""
        self._forget(session)
        _log.info("session %s could not begin: %s", session.id, visible(reason))
        self._recorder.append(session.id, "closed", records.closed(reason))
        self._recorder.close_session(session.id, reason)
        await self._recorder.synced()

    async def emptied(self, seconds: float) -> None:
        """Return when no conversation is left, or after so many seconds."""
        running = [c.over for c in self._conversations.values()]
        if running:
            await asyncio.wait(running, timeout=seconds)

    def end_all(self, error: BastionError) -> None:
        """End every conversation, telling each client why."""
        for conversation in list(self._conversations.values()):
            conversation.end(error)

    def end_changed(self) -> None:
        """End every conversation with a target that is configured otherwise than when it began.

        Its labels count, and so do the columns that masks name there, since what was read of its statements until now
        says nothing of others; and whom they spare, since who was spared may have listened to what others say.
        """
        for conversation in list(self._conversations.values()):
            if self._is_changed(conversation.session):
                conversation.end(_changed(conversation.session.target))

    def recording_broke(self, error: RecordingError) -> None:
        """End everything: what cannot be recorded does not go on."""
        self.end_all(RecordingError("the recording cannot be written, so nothing may run", hint=error.hint))

    def _is_changed(self, session: Session) -> bool:
        target = session.target
        return self._targets().get(target.name) != target or self._reach[session.id] != self._masks(session)

    def _masks(self, session: Session) -> _Reach:
        """Return the columns that masks name at a session's target, and those of them that cover them for it."""
        target, identity = session.target, session.identity
        bearing = (m for m in self._policy().masks if m.mask.columns and m.bears(identity, target))
        return self.masked(target), frozenset(m.name for m in bearing)

    def _forget(self, session: Session) -> None:
        self._admitted.pop(session.id, None)
        self._reach.pop(session.id, None)

    def _check_limits(self, key: tuple[str, str]) -> None:
        if len(self._admitted) >= self._limits.sessions:
            raise AccessRefused("the gateway has as many sessions as it takes", hint="try again later")
        mine = sum(1 for session in self._admitted.values() if session.identity.key == key)
        if mine >= self._limits.sessions_per_identity:
            raise AccessRefused(f"you have {mine} sessions open, as many as one identity may have")


def _changed(target: Target) -> AccessRefused:
    return AccessRefused(f"{target.name} is no longer configured as it was", hint="open a new session")


def _new_id(now: datetime) -> str:
    """Return a session id that sorts by time and cannot be guessed."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(5)}"
