"""Carries one conversation: decode → judge → record → (ask people) → forward, in that order and nowhere else.

On the common path all of it happens inside the callback that the bytes arrived in. What is owed to either end is
written at the end of the event loop's turn, after the commit that holds the entries before it; what can change
something goes to the target after a sync of the recording.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, cast

from bastion.errors import BastionError, LimitExceeded, RecordingError
from bastion.gateway import records
from bastion.gateway.bugs import bug
from bastion.gateway.desk import Desk
from bastion.gateway.hub import Hub
from bastion.gateway.judging import Judging
from bastion.model.action import Action
from bastion.model.approval import Approval
from bastion.model.session import Session
from bastion.model.verdict import Allow, Deny, Hold, Ruling
from bastion.protocols.contract import (
    Ask,
    Effect,
    End,
    Hangup,
    Interceptor,
    Judge,
    Note,
    Send,
    Side,
    Ticket,
    Waiting,
    Withdraw,
)
from bastion.store.writer import Recorder

_log = logging.getLogger("bastion")

_STALL = 256 * 1024
"""Bytes owed while a sync is under way, above which we stop reading."""
_OWED_AT_MOST = 64 * 1024 * 1024
"""Bytes owed to one end above which the conversation ends: a slow reader stops its writer long before."""
_LINGER = 5.0
"""Seconds that an end has to take what it is still owed after the conversation ended."""


class Conversation:
    """One client and one target, one interceptor between them, one recording of it."""

    def __init__(
        self,
        session: Session,
        ends: Mapping[Side, End],
        interceptor: Interceptor[Any],
        ask: Callable[[str, object], Awaitable[object]],
        *,
        recorder: Recorder,
        hub: Hub,
        judging: Judging,
        desk: Desk,
    ) -> None:
        self.session = session
        self._name = session.id
        self.needs_sync = False
        self.syncing = False
        self._loop = asyncio.get_running_loop()
        self._interceptor = interceptor
        self._ask = ask
        self._recorder = recorder
        self._hub = hub
        self._judging = judging
        self._desk = desk
        self._client = _Port(self, Side.CLIENT, ends[Side.CLIENT])
        self._target = _Port(self, Side.TARGET, ends[Side.TARGET])
        self._client.peer, self._target.peer = self._target, self._client
        self._held: dict[Ticket, Approval] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self.over: asyncio.Future[str] = self._loop.create_future()
        """Done, with the reason, when the conversation has ended."""
        self._reason = ""

    async def run(self) -> str:
        """Carry the conversation to its end and return why it ended."""
        for port in (self._client, self._target):
            port.begin()
        return await self.over

    def end(self, error: BastionError) -> None:
        """End the conversation from outside, telling the client why in its protocol's words."""
        if not self._reason:
            self._fail(error)

    def received(self, side: Side, data: bytes) -> None:
        """Take what `side` sent."""
        if self._reason:
            return
        port = self._client if side is Side.CLIENT else self._target
        try:
            for message in port.codec.decode(data):
                self._carry(self._interceptor.received(side, message))
                if self._reason:
                    return
        except BastionError as error:
            self._fail(error)
        except Exception as error:  # a bug must close the conversation, never let it go on unjudged
            self._fail(_bug(error))

    def hung_up(self, side: Side) -> None:
        """Take notice that `side` has closed its connection."""
        if self._reason:
            return
        self._attempt(lambda: self._interceptor.closed(side))
        if not self._reason:
            self._finish(f"the {side.value} hung up")

    def deliver(self) -> None:
        """Write everything that is owed to both transports."""
        for port in (self._target, self._client):
            if port.owed or port.parting:
                port.deliver()

    def stall(self) -> None:
        """Stop reading while a sync is under way, if much is owed already."""
        for port in (self._client, self._target):
            if port.size > _STALL:
                port.peer.pause("sync")

    def _attempt(self, effects: Callable[[], Iterable[Effect[Any]]]) -> None:
        try:
            self._carry(effects())
        except BastionError as error:
            self._fail(error)
        except Exception as error:  # as in `received`
            self._fail(_bug(error))

    def _carry(self, effects: Iterable[Effect[Any]]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._send(cast("Send[Any]", effect))
            elif kind is Judge:
                self._judge(cast("Judge", effect))
            elif kind is Note:
                self._note(cast("Note", effect))
            else:
                self._carry_rarer(effect)
            if self._reason:
                return

    def _carry_rarer(self, effect: Effect[Any]) -> None:
        match effect:
            case Withdraw(ticket=ticket, reason=reason):
                self._desk.withdraw(self._held[ticket].id, reason)
            case Ask(name=name, question=question):
                self._start(self._answer(name, question))
            case Hangup(reason=reason):
                self._finish(reason)
            case _:
                raise AssertionError(f"no such effect: {type(effect).__name__}")

    def _note(self, effect: Note) -> None:
        detail = effect.detail
        if isinstance(detail, bytes):
            if effect.kind != "output":
                raise AssertionError("only output is noted as bytes")
            self._recorder.append_output(self._name, detail)
        else:
            self._recorder.append_observed(self._name, effect.kind, records.noted(detail))

    def _send(self, effect: Send[Any]) -> None:
        port = self._client if effect.to is Side.CLIENT else self._target
        data = port.codec.encode(effect.message)
        port.owed.append(data)
        port.size += len(data)
        if port.size > _OWED_AT_MOST:
            raise LimitExceeded(f"more than {_OWED_AT_MOST} bytes are owed to the {effect.to.value}")
        self._hub.owe(self)

    def _judge(self, effect: Judge) -> None:
        action, ticket = effect.action, effect.ticket
        judgement = self._judging.judge(action)
        self._recorder.append(self._name, "judged", records.judged(judgement.record, ticket, action))
        match judgement.verdict:
            case Allow() as allowed:
                if judgement.syncs:
                    self._require_sync()
                else:
                    self._hub.owe(self)  # committed at the end of this turn, and only then sent
                self._carry(self._interceptor.ruled(ticket, allowed))
            case Deny() as denied:
                self._recorder.count_denied(self.session.id)
                self._require_sync()
                self._carry(self._interceptor.ruled(ticket, denied))
            case Hold() as hold:
                self._require_sync()
                self._hold(ticket, action, hold)

    def _require_sync(self) -> None:
        self.needs_sync = True
        self._hub.owe(self)

    def _hold(self, ticket: Ticket, action: Action, hold: Hold) -> None:
        approval = self._desk.ask(
            self.session, action, hold, self._judging.policy_version, lambda settled: self._settled(ticket, settled)
        )
        if isinstance(approval, Deny):
            self._recorder.append(self.session.id, "settled", records.not_asked(ticket, approval))
            self._recorder.count_denied(self.session.id)
            self._carry(self._interceptor.ruled(ticket, approval))
            return
        self._held[ticket] = approval
        self._recorder.append(self.session.id, "waiting", records.waiting(ticket, approval))
        notice = Waiting(approval.id, hold.demands, approval.asked + hold.expires)
        self._carry(self._interceptor.waiting(ticket, notice))

    def _settled(self, ticket: Ticket, approval: Approval) -> None:
        """Take the outcome of a held action, which the desk says exactly once."""
        if self._held.pop(ticket, None) is None or self._reason:
            return
        self._attempt(lambda: self._rule(ticket, approval))

    def _rule(self, ticket: Ticket, approval: Approval) -> Iterable[Effect[Any]]:
        ruling: Ruling = self._desk.spend(approval)
        if isinstance(ruling, Allow):
            # Policy may have changed while people were asked; the approval is for what it said then.
            again = self._judging.judge(approval.action).verdict
            if isinstance(again, Deny):
                ruling = again
        self._recorder.append(self.session.id, "settled", records.settled(ticket, approval, ruling))
        self._require_sync()
        return self._interceptor.ruled(ticket, ruling)

    async def _answer(self, name: str, question: object) -> None:
        try:
            answer = await self._ask(name, question)
        except BastionError as error:
            self.end(error)
            return
        if not self._reason:
            self._attempt(lambda: self._interceptor.answered(name, answer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.end(_bug(error))

    def _fail(self, error: BastionError) -> None:
        if not self._reason:
            try:
                for effect in self._interceptor.failed(error.message, error.hint, error.code):
                    if isinstance(effect, Send):
                        port = self._client if effect.to is Side.CLIENT else self._target
                        if not isinstance(error, RecordingError) or port is self._client:
                            port.parting.append(port.codec.encode(effect.message))
            except Exception as bug:  # the conversation ends either way
                error = _bug(bug)
            self._finish(f"{error.code}: {error.message}", broken=True)

    def _finish(self, reason: str, *, broken: bool = False) -> None:
        """Close both ends; what they are owed still arrives, unless the conversation broke."""
        if self._reason:
            return
        self._reason = reason or "ended"
        held, self._held = self._held, {}
        for approval in held.values():
            self._desk.withdraw(approval.id, "the session ended")
        for task in self._asking:
            task.cancel()
        if broken:
            self._client.drop()
            self._target.drop()
        self._loop.create_task(self._close())

    async def _close(self) -> None:
        """Record the end, let both ends have what they are owed, and close them."""
        try:
            self._recorder.append(self.session.id, "closed", records.closed(self._reason))
            self._recorder.close_session(self.session.id, self._reason)
            await self._recorder.synced()
        except RecordingError:
            self._client.drop()
            self._target.drop()
        finally:
            self._hub.forget(self)
        self.deliver()
        for port in (self._target, self._client):
            port.close()
        await asyncio.wait([port.lost for port in (self._target, self._client)], timeout=_LINGER)
        for port in (self._target, self._client):
            port.abort()
        if not self.over.done():
            self.over.set_result(self._reason)


class _Port(asyncio.Protocol):
    """One end of a conversation on its transport."""

    peer: "_Port"

    def __init__(self, conversation: Conversation, side: Side, end: End) -> None:
        self.codec = end.codec
        self.owed: list[bytes] = []
        self.parting: list[bytes] = []
        self.size = 0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._conversation = conversation
        self._side = side
        self._transport = end.transport
        self._early = end.early
        self._pauses: set[str] = set()

    def begin(self) -> None:
        """Take the transport over and read on."""
        if self._transport.is_closing():
            self.connection_lost(None)
            return
        self._transport.set_protocol(self)
        early, self._early = self._early, b""
        if early:
            self._conversation.received(self._side, early)
        if not self._pauses and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived."""
        self._conversation.received(self._side, data)

    def eof_received(self) -> bool:
        """Treat the end of input as the end of the conversation."""
        self._conversation.hung_up(self._side)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the transport is gone."""
        if not self.lost.done():
            self.lost.set_result(None)
        self._conversation.hung_up(self._side)

    def pause_writing(self) -> None:
        """Stop reading from the other end: this one takes nothing more for now."""
        self.peer.pause("slow reader")

    def resume_writing(self) -> None:
        """Read from the other end again."""
        self.peer.resume("slow reader")

    def pause(self, why: str) -> None:
        """Stop reading for one more reason."""
        if not self._pauses and not self._transport.is_closing():
            self._transport.pause_reading()
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """Drop one reason, and read on if it was the last."""
        if why in self._pauses:
            self._pauses.discard(why)
            if not self._pauses and not self._transport.is_closing():
                self._transport.resume_reading()

    def deliver(self) -> None:
        """Write what is owed."""
        if self.parting:
            self.owed += self.parting
            self.parting = []
        if not self.owed:
            return
        owed, self.owed = self.owed, []
        self.size = 0
        if not self._transport.is_closing():
            self._transport.write(owed[0] if len(owed) == 1 else b"".join(owed))
        if self.peer._pauses:
            self.peer.resume("sync")

    def drop(self) -> None:
        """Owe nothing any more but the parting words."""
        self.owed.clear()
        self.size = 0

    def close(self) -> None:
        """Close once everything written has gone out."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if not self.lost.done():
            self._transport.abort()


def _bug(error: BaseException) -> BastionError:
    return bug(error, "the session, which was ended")
