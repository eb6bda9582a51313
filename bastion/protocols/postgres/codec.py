"""The byte streams of the two sides of a PostgreSQL conversation, once its start-up is over.

Each type of message must be one that the side may send, and its length must fit before it is believed. What arrives
together is yielded together: one `Frames` for each read, in which a run of rows has one mark. Plain loops over bytes
and integers, which a compiler such as mypyc takes as they are.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from bastion.errors import LimitExceeded, ProtocolError, UnreadableStream
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.messages import HEADER, Frames, Mark

MESSAGE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one message, header included, unless the target's options say otherwise."""

_BARE: Final = 4
"""The length of a message without a body, which counts itself."""

CLIENT_TYPES: Final[dict[int, tuple[int, int]]] = {
    m.QUERY: (5, 0),
    m.PARSE: (8, 0),
    m.BIND: (12, 0),
    m.DESCRIBE: (6, 1024),
    m.EXECUTE: (9, 1024),
    m.CLOSE: (6, 1024),
    m.SYNC: (_BARE, _BARE),
    m.FLUSH: (_BARE, _BARE),
    m.TERMINATE: (_BARE, _BARE),
    m.FUNCTION_CALL: (14, 0),
    m.COPY_DATA: (_BARE, 0),
    m.COPY_DONE: (_BARE, _BARE),
    m.COPY_FAIL: (5, 0),
}
"""What a client may send: the least and the greatest length of each, 0 for no limit of its own."""

TARGET_TYPES: Final[dict[int, tuple[int, int]]] = {
    m.DATA_ROW: (6, 0),
    m.COPY_DATA: (_BARE, 0),
    m.COMMAND_COMPLETE: (5, 1024),
    m.READY_FOR_QUERY: (5, 5),
    m.PARSE_COMPLETE: (_BARE, _BARE),
    m.BIND_COMPLETE: (_BARE, _BARE),
    m.CLOSE_COMPLETE: (_BARE, _BARE),
    m.ROW_DESCRIPTION: (6, 0),
    m.PARAMETER_DESCRIPTION: (6, 0),
    m.NO_DATA: (_BARE, _BARE),
    m.EMPTY_QUERY_RESPONSE: (_BARE, _BARE),
    m.PORTAL_SUSPENDED: (_BARE, _BARE),
    m.ERROR_RESPONSE: (5, 0),
    m.NOTICE_RESPONSE: (5, 0),
    m.NOTIFICATION_RESPONSE: (10, 0),
    m.PARAMETER_STATUS: (6, 0),
    m.COPY_IN_RESPONSE: (7, 0),
    m.COPY_OUT_RESPONSE: (7, 0),
    m.COPY_DONE: (_BARE, _BARE),
}
"""What a target may send in a conversation. Not CopyBothResponse: what follows one could not be read."""


class Codec:
    """Bytes to messages and back, for one side."""

    def __init__(self, types: dict[int, tuple[int, int]], runs: frozenset[int], limit: int = MESSAGE_LIMIT) -> None:
        self._types = types
        self._limit = limit
        self._bounds = {t: (a, min(z or limit - 1, limit - 1), t in runs) for t, (a, z) in types.items()}
        """By type: the least and the greatest length, and whether a run of such messages has one mark."""
        self._rest: list[bytes] = []
        self._held = 0
        self._wanted = 0

    def decode(self, data: bytes) -> Iterable[Frames]:
        """Return the messages that `data` completes, together; keep the rest. Raises `ProtocolError`."""
        if self._held:
            self._rest.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return ()
            data = b"".join(self._rest)
            self._rest.clear()
            self._held = 0
        marks: list[Mark] = []
        try:
            end = self._scan(data, marks)
        except ProtocolError as flaw:
            return _before(flaw, data, marks)
        if end != len(data):
            self._rest.append(data[end:])
            self._held = len(data) - end
            data = data[:end]
        return (Frames(data, marks),) if marks else ()

    def encode(self, message: Frames) -> bytes:
        """Return the bytes of `message`."""
        return message.data

    def _scan(self, data: bytes, marks: list[Mark]) -> int:
        """Mark the whole messages of `data` and return where they end."""
        at, size_of_data = 0, len(data)
        last = size_of_data - 5
        unpack, known = HEADER.unpack_from, self._bounds
        while at <= last:
            tag, length = unpack(data, at)
            bounds = known.get(tag)
            if bounds is None:
                raise UnreadableStream(f"a message of type {_shown(tag)} is not one that we read here")
            least, most, is_run = bounds
            if not least <= length <= most:
                raise self._misfit(tag, length)
            following = at + 1 + length
            if following > size_of_data:
                self._wanted = following - at
                return at
            start = at
            at = following
            if is_run:
                while at <= last and data[at] == tag:
                    length = unpack(data, at)[1]
                    following = at + 1 + length
                    if following > size_of_data or not least <= length <= most:
                        break
                    at = following
            marks.append((tag, start, at))
        self._wanted = 5
        return at

    def _misfit(self, tag: int, length: int) -> ProtocolError:
        least, most = self._types[tag]
        if length < least or length > most > 0:
            return ProtocolError(f"a message of type {_shown(tag)} cannot be {length} bytes long")
        return LimitExceeded(f"a message of {length} bytes is more than the {self._limit} that we hold")


def client_codec(limit: int = MESSAGE_LIMIT) -> Codec:
    """Return a codec for what a client sends."""
    return Codec(CLIENT_TYPES, frozenset({m.COPY_DATA}), limit)


def target_codec(limit: int = MESSAGE_LIMIT) -> Codec:
    """Return a codec for what a target sends."""
    return Codec(TARGET_TYPES, frozenset({m.DATA_ROW, m.COPY_DATA}), limit)


def _before(flaw: ProtocolError, data: bytes, marks: list[Mark]) -> Iterator[Frames]:
    """Yield what came before a flaw, which is as good as if it had come in a read of its own; then raise the flaw."""
    if marks:
        yield Frames(data[: marks[-1][2]], marks)
    raise flaw


def _shown(tag: int) -> str:
    return repr(chr(tag)) if 0x20 < tag < 0x7F else f"0x{tag:02x}"
