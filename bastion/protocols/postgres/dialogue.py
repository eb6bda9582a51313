"""One connection during its start-up, while each side speaks in turn: read what came, write, hand it over."""

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Final, cast

from bastion.errors import LimitExceeded, ProtocolError

_HEADER: Final = Struct(">BI")
_BUFFERED_AT_MOST: Final = 256 * 1024
_LARGEST_MESSAGE: Final = 64 * 1024
"""No message of a start-up comes near this."""


class Dialogue(asyncio.Protocol):
    """A connection whose bytes are waited for. The gateway takes its transport over when the conversation begins."""

    transport: asyncio.Transport

    def __init__(self, opened: Callable[["Dialogue"], None] | None = None) -> None:
        self._opened = opened
        self._buffer = bytearray()
        self._ended = False
        self._arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = cast("asyncio.Transport", transport)
        if self._opened is not None:
            self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Keep what came."""
        self._buffer += data
        if len(self._buffer) > _BUFFERED_AT_MOST:
            self.transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> bool:
        """Take note that nothing more will come."""
        self._ended = True
        self._arrived.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that nothing more will come."""
        self._ended = True
        self._arrived.set()

    @property
    def buffered(self) -> int:
        """How many bytes have come that nobody has read."""
        return len(self._buffer)

    def write(self, data: bytes) -> None:
        """Send `data`."""
        if not self.transport.is_closing():
            self.transport.write(data)

    async def read(self) -> bytes:
        """Return what has come, at least one byte; nothing when the other side has ended."""
        await self._wait_for(1)
        return self._taken(len(self._buffer))

    async def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes; raise `ProtocolError` if there are not as many."""
        if not await self._wait_for(size):
            raise ProtocolError("the connection was closed during its start-up")
        return self._taken(size)

    async def message(self) -> tuple[int, bytes]:
        """Return the type and the body of the next message."""
        tag, length = _HEADER.unpack(await self.exactly(_HEADER.size))
        if length < 4:
            raise ProtocolError(f"a message cannot be {length} bytes long")
        if length > _LARGEST_MESSAGE:
            raise LimitExceeded(f"a start-up message of {length} bytes")
        return tag, await self.exactly(length - 4)

    async def ended(self) -> None:
        """Return when the other side has closed the connection; drop what still came."""
        while not self._ended:
            self._buffer.clear()
            await self._wait_for(1)

    def hand_over(self) -> bytes:
        """Stop reading and return what came early."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
        return self._taken(len(self._buffer))

    def close(self) -> None:
        """Close the connection once everything written has gone out."""
        self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    async def _wait_for(self, size: int) -> bool:
        while len(self._buffer) < size:
            if self._ended:
                return False
            self._arrived.clear()
            await self._arrived.wait()
        return True

    def _taken(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data
