"""Asks the target, over the session's own connection and unseen by the client, how the catalog looks to this session.

What an open transaction has changed, and what is temporary, no other connection sees. The questions are put while the
target waits for the client, by statements with a name that the client does not use, so that what it has prepared and
bound stays, its unnamed statement and portal included. They run below a savepoint, or where no transaction is open in
one of their own, which is then undone: no setting, snapshot or lock of it outlasts the answer. Everything that comes
until the target is ready again is an answer to them, but for what it may say at any time.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from bastion.errors import LimitExceeded, ProtocolError, UnreadableStream
from bastion.model.text import visible
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.messages import HEADER, Frames, Mark
from bastion.protocols.postgres.refusal import Refusal
from bastion.protocols.postgres.sql.building import SETTINGS, SIGHT

_NAME: Final = b"bastion_catalog"
_HELD_AT_MOST: Final = 256 * 1024 * 1024
"""Bytes of answers that are kept: more than a catalog of a million columns takes."""
_IN_TRANSACTION: Final = ord("T")
_IDLE: Final = ord("I")
_ANSWER: Final = 2
"""The place of the statement whose rows count: behind the savepoint and the settings."""
_SAVEPOINT: Final = "SAVEPOINT bastion_catalog"
_TO_SAVEPOINT: Final = ("ROLLBACK TO SAVEPOINT bastion_catalog", "RELEASE SAVEPOINT bastion_catalog")
_BEGIN: Final = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ROLLBACK: Final = ("ROLLBACK",)
_FATAL: Final = (b"FATAL", b"PANIC")
_COUNT: Final = struct.Struct(">HI")
_SIZE: Final = struct.Struct(">I")
_SILENT: Final = frozenset({m.PARSE_COMPLETE, m.BIND_COMPLETE, m.CLOSE_COMPLETE, m.NOTICE_RESPONSE})
_PASSED: Final = frozenset({m.NOTIFICATION_RESPONSE, m.PARAMETER_STATUS})


def name_for(number: int) -> bytes:
    """Return the `number`th name that the questions can go by, for where a client uses those before it."""
    return _NAME if number == 0 else b"%s_%d" % (_NAME, number)


class Renewal:
    """One question and what comes back."""

    def __init__(self, text: str, status: int, name: bytes) -> None:
        """`status` is that of the target's transaction, which must wait for the client, and not in a failed one."""
        if status not in (_IDLE, _IN_TRANSACTION):
            raise AssertionError("a target can be asked while it is idle or in a transaction that has not failed")
        self.is_whole = text != SIGHT
        """Whether it asks for the whole catalog."""
        self._status = status
        self._name = name
        opening = _BEGIN if status == _IDLE else _SAVEPOINT
        self._closing: tuple[str, ...] = _ROLLBACK if status == _IDLE else _TO_SAVEPOINT
        self._statements = (opening, SETTINGS, text, *self._closing)
        self._completed = 0
        self._cleaning = False
        self._held = 0
        self.rows: list[tuple[bytes, bytes]] = []
        """The answer, as pairs of a query's name and a row in JSON; what is in it counts once `done`."""
        self.failure: Refusal | None = None
        """Why there is no answer, as the client may hear it."""
        self.status = status
        """That of the transaction when `done`: other than before only if it has failed."""
        self.done = False

    def opening(self) -> Frames:
        """Return what is to be sent to the target first."""
        return Frames(b"".join(map(self._run, self._statements)) + m.frame(m.SYNC))

    def take(self, message: Frames) -> tuple[Frames | None, Frames | None]:
        """Take what the target sent; return what of it is for the client, and what is to be sent to the target now."""
        passed: list[bytes] = []
        marks: list[Mark] = []
        size = 0
        sent: Frames | None = None
        for mark in message.marks:
            tag, start, end = mark
            if tag in _SILENT:
                continue
            if self.done or tag in _PASSED or (tag == m.ERROR_RESPONSE and self._fails(message.data, start, end)):
                passed.append(message.data[start:end])
                marks.append((tag, size, size + end - start))
                size += end - start
            elif tag == m.DATA_ROW:
                self._rows(message.data, start, end)
            elif tag == m.COMMAND_COMPLETE:
                self._completed += 1
            elif tag == m.READY_FOR_QUERY:
                sent = self._ready(message.data[start + 5])
            elif tag != m.ERROR_RESPONSE:
                raise ProtocolError(f"the target sent {chr(tag)!r} where it was asked for its catalog")
        return (Frames(b"".join(passed), marks) if passed else None), sent

    def _ready(self, status: int) -> Frames | None:
        if self.failure is None and self._completed != len(self._statements):
            raise ProtocolError("the target left a question about its catalog unanswered")
        if self.failure is not None and not self._cleaning:
            self._cleaning = True
            return Frames(b"".join([self._close(), *map(self._run, self._closing), m.frame(m.SYNC)]))
        if status != self._status and (self._status == _IDLE or self.failure is None):
            raise UnreadableStream("the target's transaction is not where it was before it was asked for its catalog")
        self.status = status
        self.done = True
        return None

    def _fails(self, data: bytes, start: int, end: int) -> bool:
        """Take an error; tell whether it ends the connection, so that the client is to hear of it."""
        fields = m.read_fields(data, start, end)
        if fields.get("V", fields.get("S")) in _FATAL:
            return True
        if self.failure is None:
            said = fields.get("M", b"no reason given").decode("utf-8", "replace")
            self.failure = Refusal(
                visible(fields.get("C", b"XX000").decode("ascii", "replace")),
                f"what the catalog looks like to this session could not be read: {visible(said)}",
                detail="The statement was not sent to the target.",
            )
        return False

    def _rows(self, data: bytes, start: int, end: int) -> None:
        """Take a run of rows, which all are of one statement."""
        if self._completed != _ANSWER or self._cleaning:
            return
        self._held += end - start
        if self._held > _HELD_AT_MOST:
            raise LimitExceeded(f"the target's catalog takes more than the {_HELD_AT_MOST} bytes that we hold")
        self.rows += _pairs(data, start, end)

    def _run(self, text: str) -> bytes:
        name = self._name + b"\0"
        return b"".join(
            [
                m.frame(m.PARSE, name + text.encode() + b"\0\0\0"),
                m.frame(m.BIND, name + name + b"\0\0\0\0\0\0"),
                m.frame(m.EXECUTE, name + b"\0\0\0\0"),
                self._close(),
            ]
        )

    def _close(self) -> bytes:
        return m.frame(m.CLOSE, b"P" + self._name + b"\0") + m.frame(m.CLOSE, b"S" + self._name + b"\0")


def _pairs(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two values of each row of a run."""
    at = start
    while at < end:
        _, length = HEADER.unpack_from(data, at)
        stop = at + 1 + length
        name, value = _values(data, at + 5, stop)
        yield name, value
        at = stop


def _values(data: bytes, at: int, stop: int) -> Sequence[bytes]:
    if at + _COUNT.size > stop:
        raise ProtocolError("expected a row of two values")
    count, size = _COUNT.unpack_from(data, at)
    middle = at + _COUNT.size + size
    if count != 2 or middle + _SIZE.size > stop:
        raise ProtocolError("expected a row of two values")
    (rest,) = _SIZE.unpack_from(data, middle)
    if middle + _SIZE.size + rest != stop:
        raise ProtocolError("expected a row to end after its values")
    return data[at + _COUNT.size : middle], data[middle + _SIZE.size : stop]
