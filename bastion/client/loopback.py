"""A loopback endpoint: accepts local clients, has the protocol lead each in, then carries bytes and reads none.

A slow reader slows the other side: neither direction holds more than one piece and what the kernel holds.
"""

import asyncio
import os
import secrets
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

from bastion.client import wire
from bastion.errors import BastionError, GatewayError, UsageError
from bastion.protocols.clientside import FetchTicket, IssuedTicket, LoopbackAddress, LoopbackProtocol, Stream
from bastion.protocols.contract import load

_PIECE = 256 * 1024
_MOST_CLIENTS = 256
_LOCAL_PORT = 5432
"""The port in the name of a unix socket; it is nobody else's, because its directory is ours."""
_DIAL_TIMEOUT = 30.0

IssueTicket = Callable[[str], IssuedTicket]
"""Takes what a client calls itself; blocks."""


class LoopbackServer:
    """One endpoint for one target, on the running event loop."""

    def __init__(self, target: str, protocol: str, issue: IssueTicket, *, password: str = "") -> None:
        self._target = target
        self._issue = issue
        self._password = password
        kind: Callable[[str, str, FetchTicket, Callable[[Path, str], Coroutine[Any, Any, Stream]]], LoopbackProtocol]
        kind = load(protocol)
        self._protocol = kind(target, password, self._ticket, dial)
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[Any]] = set()

    async def listen_in(self, directory: Path) -> LoopbackAddress:
        """Listen on a unix socket in `directory`, a private one."""
        path = directory / self._protocol.socket_name(_LOCAL_PORT)
        self._server = await asyncio.start_unix_server(self._accepted, os.fspath(path), limit=_PIECE)
        path.chmod(0o600)
        return LoopbackAddress(self._target, os.fspath(directory), _LOCAL_PORT, self._password)

    async def listen_at(self, port: int) -> LoopbackAddress:
        """Listen on a port of this machine's own address; 0 takes a free one."""
        try:
            self._server = await asyncio.start_server(self._accepted, "127.0.0.1", port, limit=_PIECE)
        except OSError as error:
            raise UsageError(
                f"port {port} of 127.0.0.1 can't be listened on: {error.strerror}", hint="--port 0 takes a free one"
            ) from error
        return LoopbackAddress(
            self._target, "127.0.0.1", self._server.sockets[0].getsockname()[1], password=self._password
        )

    async def close(self) -> None:
        """Stop listening and hang up on every client."""
        if self._server is not None:
            self._server.close()
        ending = tuple(self._conversations)
        for conversation in ending:
            conversation.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _ticket(self, client: str) -> IssuedTicket:
        return await asyncio.to_thread(self._issue, client)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.current_task()
        if conversation is None or len(self._conversations) >= _MOST_CLIENTS or not _ours(writer):
            writer.transport.abort()
            return
        self._conversations.add(conversation)
        try:
            gateway = await self._protocol.lead_in((reader, writer))
            if gateway is not None:
                await _carry((reader, writer), gateway)
        except (OSError, asyncio.CancelledError):
            # A connection that breaks, or the end of the endpoint: either way this client is done.
            writer.transport.abort()
        finally:
            self._conversations.discard(conversation)
            writer.close()


async def dial(directory: Path, name: str) -> Stream:
    """Connect to a listener of the gateway's and prove that it is the gateway's."""
    connected = await asyncio.to_thread(wire.connect, directory, name, _DIAL_TIMEOUT)
    connected.setblocking(False)
    return await asyncio.open_unix_connection(sock=connected, limit=_PIECE)


def _ours(writer: asyncio.StreamWriter) -> bool:
    """Tell whether a client on a unix socket runs as this user; the directory's mode says so too, unless it changed."""
    connection: socket.socket = writer.get_extra_info("socket")
    if connection.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return True
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", packed)[1]) in (0, os.geteuid())


async def _carry(client: Stream, gateway: Stream) -> None:
    """Copy bytes both ways until both directions have ended, or either connection breaks."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(client[0], gateway[1]))
            both.create_task(_copy(gateway[0], client[1]))
    except* OSError:
        gateway[1].transport.abort()
    finally:
        gateway[1].close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    sink.transport.set_write_buffer_limits(high=_PIECE)
    while piece := await source.read(_PIECE):
        sink.write(piece)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


class PrivateLoopback:
    """An endpoint in a directory that only this user can enter, served by a thread of its own while it is open."""

    def __init__(self, target: str, protocol: str, issue: IssueTicket) -> None:
        self._asked = target, protocol, issue
        self._directory = tempfile.TemporaryDirectory(prefix="bastion-", dir=_short_directory())
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Event | None = None
        self._found: LoopbackAddress | BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="loopback", daemon=True)

    def __enter__(self) -> LoopbackAddress:
        self._thread.start()
        self._started.wait()
        match self._found:
            case LoopbackAddress() as address:
                return address
            case BastionError() as error:
                self._directory.cleanup()
                raise error
            case _ as error:
                self._directory.cleanup()
                raise GatewayError(f"no loopback endpoint could be opened: {error}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._done is not None:
            self._loop.call_soon_threadsafe(self._done.set)
            self._thread.join(timeout=5)
        self._directory.cleanup()

    def _serve(self) -> None:
        try:
            asyncio.run(self._live())
        except (OSError, BastionError) as error:
            self._found = error
        finally:
            self._started.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        server = LoopbackServer(*self._asked)
        self._found = await server.listen_in(Path(self._directory.name))
        self._started.set()
        await self._done.wait()
        await server.close()


class PublicLoopback:
    """An endpoint on a port of this machine, behind a random password, because every local user can reach a port."""

    def __init__(self, target: str, protocol: str, issue: IssueTicket, port: int) -> None:
        self._server = LoopbackServer(target, protocol, issue, password=secrets.token_urlsafe(24))
        self._port = port

    async def __aenter__(self) -> LoopbackAddress:
        return await self._server.listen_at(self._port)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()


def _short_directory() -> str | None:
    """Return where temporary directories go, unless a socket's path below it would be too long for the kernel."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < 70 else "/tmp"  # noqa: S108  (a fresh 0700 directory is made in it)
