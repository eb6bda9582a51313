"""A PostgreSQL client that can send any byte: protocol 3.0 by hand, for what no driver would do.

Message formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROTOCOL = 196608
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102
_PATIENCE = 10.0

Items = Mapping[str, str] | Sequence[Sequence[str]]


class Closed(Exception):
    """The other end hung up; often just what a test wants."""


@dataclass
class Message:
    """One message from the other end, with whatever parts of it tests look at."""

    type: str
    body: bytes = field(repr=False)
    fields: dict[str, str] = field(default_factory=dict)
    """Of an ErrorResponse or NoticeResponse."""
    row: list[bytes | None] = field(default_factory=list)
    text: str = ""
    """The tag of a CommandComplete, the status of a ReadyForQuery, the payload of a NotificationResponse."""


def string(value: str | bytes) -> bytes:
    """Return a null-terminated string."""
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def frame(kind: str, body: bytes = b"", length: int | None = None) -> bytes:
    """Return a message; `length` lies about its size."""
    size = len(body) + 4 if length is None else length
    return kind.encode() + struct.pack("!I", size & 0xFFFFFFFF) + body


def startup(items: Items) -> bytes:
    """Return a StartupMessage; pairs may repeat a key."""
    pairs = items.items() if isinstance(items, Mapping) else [(k, v) for k, v in items]
    body = struct.pack("!I", PROTOCOL) + b"".join(string(k) + string(v) for k, v in pairs) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def request(code: int, *numbers: int) -> bytes:
    """Return one of the messages that stand in place of a StartupMessage."""
    return struct.pack(f"!II{len(numbers)}I", 8 + 4 * len(numbers), code, *numbers)


def query(text: str | bytes) -> bytes:
    """Return a Query."""
    return frame("Q", string(text))


def parse(name: str, text: str | bytes, types: Iterable[int] = ()) -> bytes:
    """Return a Parse."""
    return frame("P", string(name) + string(text) + _many("I", list(types)))


def bind(
    portal: str,
    statement: str,
    values: Sequence[Any] = (),
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    """Return a Bind. A value is text, None, or {"hex": …}."""
    head = string(portal) + string(statement)
    return frame("B", head + _many("H", formats) + _values(values) + _many("H", result_formats))


def describe(kind: str, name: str) -> bytes:
    """Return a Describe of a statement (S) or a portal (P)."""
    return frame("D", kind.encode() + string(name))


def execute(portal: str = "", rows: int = 0) -> bytes:
    """Return an Execute."""
    return frame("E", string(portal) + struct.pack("!I", rows))


def close(kind: str, name: str) -> bytes:
    """Return a Close of a statement (S) or a portal (P)."""
    return frame("C", kind.encode() + string(name))


def function_call(oid: int, values: Sequence[Any] = (), formats: Sequence[int] = (), result_format: int = 0) -> bytes:
    """Return a FunctionCall."""
    head = struct.pack("!I", oid) + _many("H", formats) + _values(values)
    return frame("F", head + struct.pack("!H", result_format))


SYNC = frame("S")
FLUSH = frame("H")
TERMINATE = frame("X")
COPY_DONE = frame("c")


def _many(form: str, numbers: Sequence[int]) -> bytes:
    return struct.pack("!H", len(numbers)) + b"".join(struct.pack(f"!{form}", n) for n in numbers)


def _values(values: Sequence[Any]) -> bytes:
    encoded = struct.pack("!H", len(values))
    for value in values:
        if value is None:
            encoded += struct.pack("!i", -1)
        else:
            data = bytes.fromhex(value["hex"]) if isinstance(value, dict) else str(value).encode()
            encoded += struct.pack("!i", len(data)) + data
    return encoded


class Connection:
    """One connection. `address` is a unix socket's path, or host and port; `password` answers when asked for one."""

    def __init__(
        self, address: Path | tuple[str, int], password: Callable[[], str] = str, *, patience: float = _PATIENCE
    ) -> None:
        self._password = password
        self._patience = patience
        self._pending = b""
        self.seen: list[Message] = []
        self.raw = bytearray()
        """Every byte received."""
        self.process = 0
        self.key = 0
        self.parameters: dict[str, str] = {}
        self.closed = False
        """Whether the other end hung up."""
        self.on_notice: Callable[[Message], None] = lambda message: None
        if isinstance(address, Path):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(patience)
            try:
                self.socket.connect(str(address))
            except OSError:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout=patience)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def __del__(self) -> None:
        # A test that fails half-way must not have the next one blamed for a socket left open.
        if "socket" in vars(self):
            self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are; raise `Closed` if nobody takes them."""
        try:
            self.socket.settimeout(self._patience)
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError):
            self.closed = True
            raise Closed from None

    def login(self, **items: str) -> "Connection":
        """Start up with `items` and return self when the other end is ready; raise `Closed` if it is not to be."""
        try:
            self.send(startup(items))
            if self.until("Z") is None:
                raise AssertionError("no ReadyForQuery")
        except BaseException:
            self.socket.close()
            raise
        return self

    def ask(self, text: str) -> list[Message]:
        """Run a simple query and return everything that was answered up to ReadyForQuery."""
        before = len(self.seen)
        self.send(query(text))
        self.until("Z")
        return self.seen[before:]

    def receive(self, patience: float | None = None) -> Message | None:
        """Return the next message, or None when none comes in time; raise `Closed` at the end."""
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        while True:
            if (message := self._take()) is not None:
                return message
            if not self._fill(deadline - time.monotonic()):
                return None

    def until(self, *types: str, patience: float | None = None) -> Message | None:
        """Read up to a message of one of `types`, and return it; None when none comes in time."""
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        while (message := self.receive(deadline - time.monotonic())) is not None:
            if message.type in types:
                return message
        return None

    def until_closed(self, patience: float | None = None) -> bool:
        """Read to the end; tell whether it came in time."""
        try:
            self.until("", patience=patience)
        except Closed:
            return True
        return False

    def byte(self, patience: float = 3.0) -> bytes:
        """Return one byte that belongs to no message, such as the answer to an SSLRequest; empty if none comes."""
        if not self._pending and not self._fill(patience):
            return b""
        first, self._pending = self._pending[:1], self._pending[1:]
        return first

    @property
    def errors(self) -> list[dict[str, str]]:
        """The fields of each ErrorResponse so far."""
        return [m.fields for m in self.seen if m.type == "E"]

    @property
    def notices(self) -> list[dict[str, str]]:
        """The fields of each NoticeResponse so far."""
        return [m.fields for m in self.seen if m.type == "N"]

    @property
    def rows(self) -> list[list[bytes | None]]:
        """Each DataRow so far."""
        return [m.row for m in self.seen if m.type == "D"]

    def _fill(self, patience: float) -> bool:
        if patience <= 0:
            return False
        self.socket.settimeout(patience)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if not data:
            self.closed = True
            raise Closed
        self._pending += data
        self.raw += data
        return True

    def _take(self) -> Message | None:
        if len(self._pending) < 5:
            return None
        size = int.from_bytes(self._pending[1:5], "big")
        if len(self._pending) < 1 + size:
            return None
        message = _decoded(chr(self._pending[0]), self._pending[5 : 1 + size])
        self._pending = self._pending[1 + size :]
        self.seen.append(message)
        self._note(message)
        return message

    def _note(self, message: Message) -> None:
        match message.type:
            case "K":
                self.process, self.key = struct.unpack("!II", message.body[:8])
            case "S":
                name, value = message.body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode(errors="replace")
            case "N":
                self.on_notice(message)
            case "R" if message.body[:4] == struct.pack("!I", 3):
                self.send(frame("p", string(self._password())))


def _decoded(kind: str, body: bytes) -> Message:
    message = Message(kind, body)
    match kind:
        case "E" | "N":
            for part in filter(None, body.split(b"\0")):
                message.fields[chr(part[0])] = part[1:].decode(errors="replace")
        case "D":
            at = 2
            for _ in range(int.from_bytes(body[:2], "big")):
                size = struct.unpack_from("!i", body, at)[0]
                message.row.append(None if size < 0 else body[at + 4 : at + 4 + size])
                at += 4 + max(size, 0)
        case "C":
            message.text = body.rstrip(b"\0").decode(errors="replace")
        case "Z":
            message.text = body.decode(errors="replace")
        case "A":
            message.text = body[4:].decode(errors="replace")
    return message
