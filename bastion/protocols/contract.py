"""What every protocol folder provides, and all that it may ask of the gateway.

A *codec* turns bytes into messages and back, for one side. An *interceptor* turns messages into effects; it is
pure, so a test is `assert list(i.received(CLIENT, m)) == [...]`. The gateway carries effects out, and it alone
knows the order decode → judge → record → (ask people) → forward. No protocol can get that order wrong, because
none is asked to keep it.

What the gateway guarantees when it carries effects out:

- `Send` to the target happens after every entry noted or judged before it is recorded as durably as its access
  demands: synced for what can change something, otherwise written, so that it survives the gateway's own death.
- `Send` to the client happens after every entry before it is at least written.
- `Judge` is answered exactly once, through `ruled` with the same ticket: within the same call on the common path,
  later when people are asked, and then `waiting` comes first.
- Between a `Judge` that waits and its `ruled`, messages of both sides still arrive; holding them, in order and
  bounded, is the interceptor's task, because only it knows which of them depend on the answer.
"""

import enum
import importlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, NewType, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from bastion.model.action import Action, Resource
from bastion.model.entry import Entry
from bastion.model.session import Session
from bastion.model.target import Target
from bastion.model.verdict import Demand, Ruling

M = TypeVar("M")
Ticket = NewType("Ticket", int)
"""Names one `Judge` within one conversation."""


class Side(enum.Enum):
    """An end of a conversation."""

    CLIENT = "client"
    TARGET = "target"


# The effects of the common path are not frozen: each is made once for every statement, and freezing triples that.


@dataclass(slots=True)
class Send(Generic[M]):
    """Send `message` to `to`."""

    to: Side
    message: M


@dataclass(slots=True)
class Judge:
    """Ask for a ruling on `action`; answered by `ruled` with the same ticket."""

    ticket: Ticket
    action: Action


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Give up a `Judge` that waits: the client cancelled it. Answered by `ruled` with a denial."""

    ticket: Ticket
    reason: str


@dataclass(slots=True)
class Note:
    """Put something on the record: `output` with raw bytes, any other kind with JSON-able values."""

    kind: str
    detail: bytes | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the endpoint do something outside this conversation, such as cancelling or reading the catalog.

    Answered by `answered` with the same name. `question` is a value of the protocol's own.
    """

    name: str
    question: object


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the conversation; what was sent before still arrives."""

    reason: str


Effect: TypeAlias = Send[M] | Judge | Withdraw | Note | Ask | Hangup


class Codec(Protocol[M]):
    """Bytes to messages and back, for one side of one conversation."""

    def decode(self, data: bytes) -> Iterable[M]:
        """Return the messages that `data` completes and keep the rest.

        Raises `ProtocolError` on anything else, then or behind the last message that was whole.
        """
        ...

    def encode(self, message: M) -> bytes:
        """Return the bytes of `message`."""
        ...


class Interceptor(ABC, Generic[M]):
    """Stands between the two sides of one conversation: messages in, effects out. Pure."""

    @abstractmethod
    def received(self, side: Side, message: M) -> Iterable[Effect[M]]:
        """Return what follows from a message that `side` sent."""

    @abstractmethod
    def ruled(self, ticket: Ticket, ruling: Ruling) -> Iterable[Effect[M]]:
        """Return what follows from the answer to the `Judge` named `ticket`."""

    @abstractmethod
    def waiting(self, ticket: Ticket, notice: "Waiting") -> Iterable[Effect[M]]:
        """Return how the client hears that people are being asked."""

    def answered(self, name: str, answer: object) -> Iterable[Effect[M]]:
        """Return what follows from the answer to the `Ask` named `name`."""
        raise AssertionError(f"nothing was asked under the name {name}")

    @abstractmethod
    def closed(self, side: Side) -> Iterable[Effect[M]]:
        """Return what follows when `side` has hung up."""

    @abstractmethod
    def failed(self, reason: str, hint: str, code: str) -> Iterable[Effect[M]]:
        """Return how the client hears, in its protocol's words, that the gateway ends the conversation."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a client is told while people are being asked."""

    approval: str
    """The identifier that `bastion approve` takes."""
    demands: tuple[Demand, ...]
    expires: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What a client shows to be let in: the secret of a ticket, and the target it named, if it named one."""

    secret: str = field(repr=False)
    target: str = ""
    peer: str = ""
    client: str = ""


class Door(Protocol):
    """All that an endpoint may ask of the gateway."""

    async def admit(self, claim: Claim) -> Session:
        """Spend a ticket and open the session it was issued for.

        Raises `AuthenticationFailed`, `AccessRefused` (also for too many sessions), or `RecordingError`.
        """
        ...

    def masked(self, target: Target) -> frozenset[str]:
        """Return the columns that masks of the policy in force name at a target, whomever they spare.

        A conversation ends when they change.
        """
        ...

    async def credential(self, target: Target) -> bytes:
        """Return the target's credential, fetched now; empty where the target asks for none. Raises `TargetError`."""
        ...

    async def converse(
        self,
        session: Session,
        ends: Mapping[Side, "End"],
        interceptor: Interceptor[Any],
        ask: Callable[[str, object], Awaitable[object]],
    ) -> str:
        """Carry the conversation to its end and return the reason it ended for.

        Takes both ends over, closes them, and closes the session's recording. `ask` carries out each `Ask`.
        """
        ...

    async def refused(self, claim: Claim, reason: str) -> None:
        """Record that somebody was not let in."""
        ...

    async def failed(self, session: Session, reason: str) -> None:
        """Record that an admitted session ended before it could converse."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """One open connection, and the codec that reads it.

    The connection is handed over with reading paused and everything that was read so far in `early`.
    """

    transport: Any
    """An `asyncio.Transport`; the gateway sets its own protocol on it."""
    codec: Codec[Any]
    early: bytes = b""


class Endpoint(Protocol):
    """A protocol's listener and everything else that touches its sockets, as the gateway runs it."""

    async def listen(self, directory: Path) -> None:
        """Open the protocol's unix socket in `directory`, a private one."""
        ...

    async def close(self) -> None:
        """Stop accepting; conversations that run are ended by the gateway."""
        ...

    async def classify(self, target: Target, text: str) -> Action:
        """Return what `text` would mean at `target`, for `policy explain`. Raises `TargetError`."""
        ...

    async def preview(self, session: Session, action: Action) -> Mapping[str, object]:
        """Return what an approver may want to know of a held action's impact, read from the target without changing it.

        JSON values, safe to show: never a cell of a result. Says under `unavailable` why there is nothing to say.
        """
        ...


class Clause(BaseModel):
    """The part of a policy rule that only some protocols understand, for instance `sql:`.

    A subclass declares its fields, which `policy check` validates with file, line and column, and says what matches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @abstractmethod
    def matches(self, action: Action, resource: Resource) -> bool:
        """Tell whether the rule speaks of this resource of this action, or of any part of it.

        Pure; looks at nothing else. This is what a rule that denies or holds asks.
        """

    def covers(self, action: Action, resource: Resource) -> bool:
        """Tell whether the rule speaks of the whole of this resource: what a rule asks before it permits it.

        Differs from `matches` where a resource has parts that a rule can name, such as columns of a table.
        """
        return self.matches(action, resource)

    def uses_arguments(self) -> bool:
        """Tell whether `matches` depends on bound arguments, so that its answer is not reused for others."""
        return False


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a recording as a terminal shows it: `text` appears `at` microseconds since the Unix epoch."""

    at: int
    text: str


class Transcript(Protocol):
    """Turns the entries of one session into what the person saw."""

    def moments(self, entries: Iterable[Entry]) -> Iterator[Moment]:
        """Yield the session as terminal output. `text` holds no control but line ends, colours and tabs of ours."""
        ...


@dataclass(frozen=True, slots=True)
class ClientTools:
    """What the command line does for one protocol, named by import path so that nothing loads before it is used."""

    connect: str
    """`module:function`, called as `function(ConnectRequest) -> int`, an exit status."""
    hints: str
    """`module:function`, called as `function(LoopbackAddress) -> list[tuple[str, str]]`: a label and a command line."""
    loopback: str
    """`module:class`, the client-side endpoint that fetches a ticket for each connection it accepts."""
    leaks: str = ""
    """`module:class`, a `clientside.LeakTest` of this protocol; empty where it has no masks to test."""


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """What a protocol folder exports as `SPEC` from its `spec.py`; folders are found, not listed."""

    name: str
    default_port: int
    options: type[BaseModel]
    """The settings of a target that only this protocol understands, such as `database` and `tls`."""
    clauses: Mapping[str, type[Clause]]
    """The rule clauses that speak of this protocol's actions, by their key in the policy."""
    covers: frozenset[str]
    """The kinds of mask it can honour; a policy that asks it for others is refused at load."""
    interceptor: Callable[..., Interceptor[Any]]
    endpoint: str
    """`module:class`, called as `class(door, clock, socket_mode)`; loaded only by the gateway."""
    transcript: str
    """`module:class`, called without arguments."""
    client: ClientTools


def installed() -> dict[str, ProtocolSpec]:
    """Return every protocol that has a folder, by name."""
    found = {}
    for folder in sorted(p.name for p in Path(__file__).parent.iterdir() if (p / "spec.py").is_file()):
        spec: ProtocolSpec = importlib.import_module(f"bastion.protocols.{folder}.spec").SPEC
        found[spec.name] = spec
    return found


def load(reference: str) -> Any:
    """Return the object that a `module:name` reference of a spec points at."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
