"""The start-up of PostgreSQL at a loopback endpoint (PostgreSQL documentation, 55.2.1 and 55.7).

Only what comes before authentication is read here. The client's own start-up packet goes to the gateway, which
decides what of it counts; the ticket answers the gateway's question for a password. A target can't be chosen
through this endpoint: a client that names another is refused.
"""

import asyncio
import hmac
import struct
from pathlib import Path

from bastion.errors import AccessError, BastionError, GatewayError, LimitExceeded, ProtocolError
from bastion.protocols.clientside import Dial, FetchTicket, IssuedTicket, Stream

_CANCEL = 80877102
_SSL = 80877103
_GSS = 80877104
_MAJOR = 3
_LARGEST_STARTUP = 10_000
"""As PostgreSQL's own MAX_STARTUP_PACKET_LENGTH."""
_LARGEST_PASSWORD = 1_000
_LARGEST_ANSWER = 64 * 1024
_MOST_ANSWERS = 64
_PATIENCE = 60.0
"""Seconds that a client and the gateway have for the start-up together."""


class Loopback:
    """Leads PostgreSQL clients in to one target."""

    def __init__(self, target: str, password: str, ticket: FetchTicket, dial: Dial) -> None:
        self._target = target
        self._password = password
        self._ticket = ticket
        self._dial = dial
        self._seen: tuple[Path, int] | None = None

    @staticmethod
    def socket_name(port: int) -> str:
        """Return the name that libpq derives from a port."""
        return f".s.PGSQL.{port}"

    async def lead_in(self, client: Stream) -> Stream | None:
        """Authenticate the client, spend a ticket for it, and return the gateway's end behind the authentication."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._lead_in(client)
        except BastionError as error:
            await _refuse(client[1], error)
        except TimeoutError:
            await _refuse(client[1], GatewayError(f"the connection did not come about within {_PATIENCE:g} s"))
        return None

    async def _lead_in(self, client: Stream) -> Stream | None:
        code, packet = await _first_packet(client)
        if code == _CANCEL:
            await self._cancel(packet)
            return None
        settings = _settings(code, packet)
        named = settings.get("database") or settings.get("user", "")
        if named != self._target:
            raise AccessError(
                f"this endpoint leads to {self._target} and nowhere else", hint=f"use dbname={self._target}"
            )
        if self._password:
            await self._authenticate(client)
        ticket = await self._ticket(settings.get("application_name", ""))
        self._seen = ticket.directory, ticket.port
        gateway = await self._dial(ticket.directory, self.socket_name(ticket.port))
        try:
            await self._enter(client[1], gateway, packet, ticket)
        except BaseException:
            gateway[1].close()
            raise
        return gateway

    async def _cancel(self, packet: bytes) -> None:
        """Carry a CancelRequest to the gateway, which alone knows whose key it is. It has no answer."""
        if self._seen is None:
            return
        directory, port = self._seen
        try:
            reader, writer = await self._dial(directory, self.socket_name(port))
        except BastionError:
            # The protocol has no answer to a CancelRequest, not even that it failed.
            return
        try:
            writer.write(packet)
            await writer.drain()
            # The gateway closes when it has acted, and libpq waits for that.
            await reader.read(1)
        finally:
            writer.close()

    async def _authenticate(self, client: Stream) -> None:
        reader, writer = client
        writer.write(_message(b"R", struct.pack("!i", 3)))
        await writer.drain()
        tag, body = await _read_message(reader, _LARGEST_PASSWORD)
        if tag != b"p":
            raise ProtocolError(f"expected a password message, found one of type {tag!r}")
        if not hmac.compare_digest(body.rstrip(b"\0"), self._password.encode()):
            raise AccessError("the password of this tunnel is another one", hint="it was printed when it was opened")

    async def _enter(self, client: asyncio.StreamWriter, gateway: Stream, packet: bytes, ticket: IssuedTicket) -> None:
        """Play the client's start-up to the gateway, until it lets us in."""
        reader, writer = gateway
        writer.write(packet)
        for _ in range(_MOST_ANSWERS):
            tag, body = await _read_message(reader, _LARGEST_ANSWER)
            if tag == b"R" and body[:4] == b"\0\0\0\3":
                writer.write(_message(b"p", ticket.secret.encode() + b"\0"))
                await writer.drain()
            elif tag == b"R" and body == b"\0\0\0\0":
                client.write(_message(tag, body))
                return
            elif tag == b"R":
                raise GatewayError("the gateway asks for a way of authentication that a ticket can't serve")
            elif tag == b"E":
                client.write(_message(tag, body))
                await client.drain()
                raise _Refused
            elif tag == b"v":
                client.write(_message(tag, body))
            else:
                raise GatewayError(f"the gateway sent a message of type {tag!r} before it let anybody in")
        raise GatewayError("the gateway said too much before it let anybody in")


class _Refused(GatewayError):
    """The gateway refused in the client's own words; nothing is left to say."""

    def __init__(self) -> None:
        super().__init__("the gateway refused the connection")


async def _first_packet(client: Stream) -> tuple[int, bytes]:
    """Return the code and the bytes of the start-up or cancel packet, having refused any encryption."""
    reader, writer = client
    for _ in range(3):
        head = await _exactly(reader, 8)
        size, code = struct.unpack("!II", head)
        if not 8 <= size <= _LARGEST_STARTUP:
            raise LimitExceeded(f"expected a start-up packet of at most {_LARGEST_STARTUP} bytes, found {size}")
        packet = head + await _exactly(reader, size - 8)
        if code not in (_SSL, _GSS):
            return code, packet
        # Nothing leaves this machine, so there is nothing to encrypt.
        writer.write(b"N")
        await writer.drain()
    raise ProtocolError("expected a start-up packet, found one request for encryption after another")


def _settings(code: int, packet: bytes) -> dict[str, str]:
    """Return the parameters of a start-up packet."""
    if code >> 16 != _MAJOR:
        raise ProtocolError(f"expected protocol 3, found {code >> 16}.{code & 0xFFFF}")
    fields = packet[8:].split(b"\0")
    if fields[-2:] != [b"", b""] or len(fields) % 2:
        raise ProtocolError("the start-up packet does not end where its length says")
    try:
        texts = [field.decode() for field in fields[:-2]]
    except UnicodeDecodeError:
        raise ProtocolError("the start-up packet is not UTF-8") from None
    return dict(zip(texts[::2], texts[1::2], strict=True))


async def _read_message(reader: asyncio.StreamReader, largest: int) -> tuple[bytes, bytes]:
    head = await _exactly(reader, 5)
    size = int.from_bytes(head[1:], "big")
    if not 4 <= size <= largest:
        raise LimitExceeded(f"expected a message of at most {largest} bytes, found {size}")
    return head[:1], await _exactly(reader, size - 4)


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        raise _HungUp from None


class _HungUp(ProtocolError):
    """The other end went away during the start-up."""

    def __init__(self) -> None:
        super().__init__("the connection was closed during the start-up")


def _message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!I", len(body) + 4) + body


async def _refuse(client: asyncio.StreamWriter, error: BastionError) -> None:
    """Tell the client why it is not let in, as PostgreSQL tells it."""
    if isinstance(error, _Refused):
        return
    fields = {"S": "FATAL", "V": "FATAL", "C": _sqlstate(error), "M": error.message}
    if error.hint:
        fields["H"] = error.hint
    body = b"".join(kind.encode() + text.replace("\0", "").encode() + b"\0" for kind, text in fields.items())
    client.write(_message(b"E", body + b"\0"))
    try:
        await client.drain()
    except OSError:
        # It hung up first.
        return


def _sqlstate(error: BastionError) -> str:
    match error:
        case AccessError():
            return "28000"
        case ProtocolError():
            return "08P01"
        case _:
            return "08004"
