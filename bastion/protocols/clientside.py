"""What passes between the command line and a protocol's own client tools.

A protocol's `ClientTools` name functions that take and return these. Nothing here opens a connection.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Protocol, TypeAlias

Json: TypeAlias = dict[str, object]
Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class IssuedTicket:
    """One admission to one target: spent by the first connection that shows it."""

    secret: str = field(repr=False)
    target: str
    directory: Path
    """Where the gateway's listeners are."""
    port: int


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """Where a loopback endpoint listens: a directory of unix sockets, or an address of this machine."""

    target: str
    host: str
    port: int
    password: str = field(default="", repr=False)
    """What the endpoint asks its clients for; empty where only its owner can reach it."""


class Printer(Protocol):
    """How client tools print: the command line's own output, so that one place decides what reaches a terminal."""

    @property
    def terminal(self) -> bool:
        """Whether a person reads what is written."""
        ...

    def write(self, text: str) -> None:
        """Write data as it is; the caller has made it fit for where it goes."""
        ...

    def write_bytes(self, data: bytes) -> None:
        """Write raw data, which only ever goes to a pipe or a file unchanged."""
        ...

    def data(self, value: object) -> None:
        """Write a value as JSON."""
        ...

    def say(self, text: str) -> None:
        """Tell the person something, at once and beside the data; text from outside is made harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to run without a terminal: statements given on the command line, or a file of them."""

    text: str = ""
    path: str = ""
    """The file to read, `-` for standard input; empty for `text`."""


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """What a person asked of `connect`, once the way to the target is open."""

    address: LoopbackAddress
    printer: Printer
    program: str = ""
    """The native program to run in place of the built-in one."""
    steps: tuple[Step, ...] = ()
    """What to run and then end; nothing for a conversation on the terminal."""
    form: str = "aligned"
    """`aligned`, `unaligned`, `csv` or `json`."""
    tuples_only: bool = False
    stop_on_error: bool = False
    once: bool = False
    """Whether a program asked: then a denial and an expired hold have exit statuses of their own."""
    data_dir: Path = Path()
    """Where the built-in client may keep its history."""


class LoopbackProtocol(Protocol):
    """The start-up of a protocol at a loopback endpoint: the only part of a conversation that is read there.

    Built as `class(target, password, ticket, dial)`.
    """

    @staticmethod
    def socket_name(port: int) -> str:
        """Return the name of the unix socket that clients of this protocol look for, and the gateway listens on."""
        ...

    async def lead_in(self, client: Stream) -> Stream | None:
        """Bring a client that has just connected to where bytes may flow both ways; return the gateway's end.

        Returns None when there is nothing to carry: the client was refused, in its own words, or only cancelled.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tried:
    """One shape of the leak test as one driver ran it."""

    family: str
    shape: str
    driver: str
    outcome: str
    """`covered`, `refused`, `held`; `shown` for a harmless shape; `-` where it could not be run; else what is wrong."""
    bad: bool = False
    """Whether it fails the test."""
    detail: str = ""


class LeakTest(Protocol):
    """Plants canaries at a target and tries every known way to get one past the masks.

    Built as `class(ticket, directory)`: `ticket(who)` admits once as `PLANTER` or `PROBER`, and `directory` is a
    private one for its own sockets.
    """

    drivers: ClassVar[tuple[str, ...]]
    """The drivers that it knows."""

    def __init__(self, ticket: Callable[[str], IssuedTicket], directory: Path) -> None:
        """Make the names and values of one run; touch nothing yet."""
        ...

    planted: bool
    """Whether there may be something at the target to take away."""

    @staticmethod
    def missing() -> Mapping[str, str]:
        """Return which of the drivers cannot be used on this machine, and why."""
        ...

    @property
    def removal(self) -> str:
        """Return what removes everything planted, to be run by hand where the test no longer can."""
        ...

    def rules(self, planter: str, prober: str) -> tuple[list[Json], list[Json]]:
        """Return the rules of the test's own policy, for two subjects, and its masks without whom they spare."""
        ...

    def plant(self) -> None:
        """Plant, as the planter. Raises `TargetError`."""
        ...

    def attempts(self, drivers: Sequence[str]) -> Iterator[Tried]:
        """Try everything, as the prober."""
        ...

    def remove(self) -> None:
        """Take away what was planted, as the planter. Raises `TargetError`."""
        ...


PLANTER: Final = "planter"
"""Whom the masks of a leak test spare."""
PROBER: Final = "prober"
FetchTicket: TypeAlias = Callable[[str], Awaitable[IssuedTicket]]
"""Takes what the client calls itself; raises `BastionError`."""
Dial: TypeAlias = Callable[[Path, str], Awaitable[Stream]]
"""Takes the directory and name of a socket of the gateway's, proves whose it is and connects to it."""
Hints: TypeAlias = Callable[[LoopbackAddress], list[tuple[str, str]]]
