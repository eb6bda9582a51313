"""A protocol of lines, a recorder and transports that keep one common log: for proving the order of things.

`read x`, `write x`, `hold x` and `deny x` are judged as they say; everything the target says goes to the client.
"""

import asyncio
from collections.abc import Iterable, Iterator

from bastion.errors import ProtocolError, RecordingError
from bastion.model.action import Access, Action, Resource
from bastion.model.approval import Approval, State, Vote
from bastion.model.verdict import Allow, Deny, Ruling, Verdict
from bastion.protocols.contract import (
    Ask,
    Effect,
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
from tests.kit import nouns

Log = list[tuple[str, ...]]


class Lines:
    """The codec."""

    def __init__(self) -> None:
        self._rest = b""

    def decode(self, data: bytes) -> Iterator[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line == b"nonsense":
                raise ProtocolError("nonsense")
            if line == b"bug":
                raise ZeroDivisionError
            yield line.decode()

    def encode(self, message: str) -> bytes:
        return message.encode() + b"\n"


class Toy(Interceptor[str]):
    """The interceptor: judges each line of the client."""

    def __init__(self) -> None:
        self._asked: dict[Ticket, str] = {}

    def received(self, side: Side, message: str) -> Iterable[Effect[str]]:
        if side is Side.TARGET:
            yield Note("output", message.encode())
            yield Send(Side.CLIENT, message)
        elif message == "cancel":
            yield Withdraw(next(iter(self._asked)), "cancelled")
        elif message.startswith("ask "):
            yield Ask("question", message)
        elif message == "bye":
            yield Hangup("bye")
        else:
            ticket = Ticket(len(self._asked) + 1)
            self._asked[ticket] = message
            yield Judge(ticket, action(message))

    def ruled(self, ticket: Ticket, ruling: Ruling) -> Iterable[Effect[str]]:
        line = self._asked.pop(ticket)
        match ruling:
            case Allow():
                yield Send(Side.TARGET, line)
            case Deny(reason=reason):
                yield Send(Side.CLIENT, f"no: {reason}")

    def waiting(self, ticket: Ticket, notice: Waiting) -> Iterable[Effect[str]]:
        yield Send(Side.CLIENT, f"wait: {notice.approval}")

    def answered(self, name: str, answer: object) -> Iterable[Effect[str]]:
        yield Send(Side.CLIENT, f"answer: {answer}")

    def closed(self, side: Side) -> Iterable[Effect[str]]:
        if side is Side.CLIENT:
            yield Send(Side.TARGET, "bye")

    def failed(self, reason: str, hint: str, code: str) -> Iterable[Effect[str]]:
        yield Send(Side.CLIENT, f"failed: {code}")


def action(line: str) -> Action:
    verb = line.split(" ")[0]
    access = Access.WRITE if verb in {"write", "hold"} else Access.READ
    return Action("toy", verb, line, (Resource("line", line, verb, access),))


def verdict(asked: Action) -> Verdict:
    match asked.verb:
        case "read" | "write":
            return Allow(("fine",))
        case "hold":
            return nouns.hold()
        case _:
            return Deny("no-such-thing", "not here")


class Tape:
    """A recorder that writes what it is told into the common log, and fails when told to."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.broken = False
        self.may_sync = asyncio.Event()
        self.may_sync.set()

    def append(self, session: str, kind: str, data: bytes) -> int:
        self._check()
        self.log.append(("append", kind))
        return len(self.log)

    def append_observed(self, session: str, kind: str, data: bytes) -> None:
        self.append(session, kind, data)

    def append_output(self, session: str, data: bytes) -> None:
        self._check()
        self.log.append(("append", "output"))

    def written(self) -> None:
        self._check()
        self.log.append(("written",))

    async def synced(self) -> None:
        self._check()
        await self.may_sync.wait()
        self._check()
        self.log.append(("synced",))

    def count_denied(self, session: str) -> None:
        self._check()

    def open_session(self, session: object) -> None:
        self._check()

    def close_session(self, session: str, reason: str) -> None:
        self._check()

    def _check(self) -> None:
        if self.broken:
            raise RecordingError("the disk is full")


class Ledger:
    """A store of approvals in memory."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.spent: set[str] = set()

    def asked(self, approval: Approval) -> None:
        self.log.append(("asked", approval.id))

    def voted(self, approval: Approval, vote: Vote) -> None:
        self.log.append(("voted", vote.voter.subject))

    def settled(self, approval: Approval, state: State, reason: str, at: object) -> None:
        self.log.append(("settled", str(state)))

    def spend(self, approval: str, at: object) -> bool:
        first = approval not in self.spent
        self.spent.add(approval)
        return first

    def append(self, session: str, kind: str, data: bytes) -> int:
        self.log.append(("append", kind))
        return 0


class Wire(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self, log: Log, name: str) -> None:
        super().__init__()
        self.log = log
        self.name = name
        self.protocol: asyncio.Protocol | None = None
        self.reading = False
        self.closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def feed(self, text: str) -> None:
        assert self.protocol is not None
        self.protocol.data_received(text.encode())

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.log.append((self.name, bytes(data).decode()))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.log.append((self.name, "closed"))
            assert self.protocol is not None
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()
