"""What a client says before a conversation begins, and what of it counts.

See "Start-up" and "SSL Session Encryption" in PostgreSQL's documentation of the message flow. Nothing a client says
here reaches the target as it is: the target's own start-up packet is built from configuration alone, and of the
client's settings a short list of harmless ones is set afterwards. What arrives together with a request for encryption
is refused, because it could have been put there by somebody else.
"""

import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, TypeAlias

from bastion.errors import AccessRefused, LimitExceeded, ProtocolError
from bastion.model.text import visible
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.messages import frame

CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
REFUSES_ENCRYPTION: Final = b"N"
PROTOCOL_3_0: Final = 0x30000
PROTOCOL_3_2: Final = 0x30002

_LARGEST_PACKET: Final = 10_000
"""As PostgreSQL's own MAX_STARTUP_PACKET_LENGTH."""
_LARGEST_PASSWORD: Final = 4096
_LARGEST_KEY: Final = 256
_TLS_HANDSHAKE: Final = 0x16
_HEAD: Final = Struct(">II")
_INT: Final = Struct(">I")

SETTINGS: Final = frozenset(
    {
        "application_name",
        "datestyle",
        "extra_float_digits",
        "idle_in_transaction_session_timeout",
        "intervalstyle",
        "lock_timeout",
        "statement_timeout",
        "timezone",
    }
)
"""The settings that a client may choose at start-up: none decides what a text means or as whom it runs."""
_ENCODINGS: Final = frozenset({"utf8", "unicode", "sqlascii"})
"""Spellings of UTF8; SQL_ASCII asks for no conversion, and gets bytes as they are, which are UTF-8."""
_PLAIN: Final = re.compile(r"[ -~]{0,200}")
_OPTION: Final = re.compile(r"(?:-c\s*|--)([A-Za-z_]+)=(\S*)")


@dataclass(frozen=True, slots=True)
class EncryptionAsked:
    """SSLRequest or GSSENCRequest; the answer is a single byte."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """CancelRequest: cancel what the session with this key runs. Never answered."""

    process: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Startup:
    """StartupMessage."""

    minor: int
    parameters: dict[str, str]
    extensions: tuple[str, ...] = ()
    """Protocol options that the client asked for; we have none."""

    @property
    def version(self) -> int:
        """The version that the conversation will have: the newest of ours that the client knows."""
        return PROTOCOL_3_2 if self.minor >= 2 else PROTOCOL_3_0

    @property
    def needs_negotiation(self) -> bool:
        """Tell whether the client must hear that it gets less than it asked for."""
        return bool(self.extensions) or self.minor not in (0, 2)


@dataclass(frozen=True, slots=True)
class PasswordGiven:
    """PasswordMessage."""

    password: str = field(repr=False)


Said: TypeAlias = EncryptionAsked | CancelAsked | Startup | PasswordGiven


class Greeting:
    """Reads what a client says up to its password. Each thing must come alone: we answer it first."""

    def __init__(self) -> None:
        self._buffer = b""
        self._asked: set[int] = set()
        self._started = False

    def received(self, data: bytes) -> Iterator[Said]:
        """Yield what `data` completes, one thing at most. Raises `ProtocolError` and `LimitExceeded`."""
        self._buffer += data
        said = self._password() if self._started else self._packet()
        if said is not None:
            if self._buffer:
                raise ProtocolError("expected the client to wait for an answer, found more bytes behind its request")
            yield said

    def _packet(self) -> Said | None:
        if self._buffer[:1] == bytes([_TLS_HANDSHAKE]):
            raise ProtocolError("expected a PostgreSQL start-up packet, found TLS: this socket is private already")
        if len(self._buffer) < _HEAD.size:
            if len(self._buffer) >= _INT.size:
                _check_packet(*_INT.unpack_from(self._buffer))
            return None
        length, code = _HEAD.unpack_from(self._buffer)
        _check_packet(length)
        if len(self._buffer) < length:
            return None
        body, self._buffer = self._buffer[8:length], self._buffer[length:]
        return self._read(code, body)

    def _read(self, code: int, body: bytes) -> Said:
        match code:
            case 80877103 | 80877104:
                if body or code in self._asked:
                    raise ProtocolError("expected each kind of encryption to be asked for once, by a packet of 8 bytes")
                self._asked.add(code)
                return EncryptionAsked()
            case 80877102:
                if not 4 + 4 <= len(body) <= 4 + _LARGEST_KEY:
                    raise ProtocolError("expected a process and a key in a CancelRequest")
                return CancelAsked(int.from_bytes(body[:4]), body[4:])
        if code >> 16 != PROTOCOL_3_0 >> 16:
            raise ProtocolError(f"expected protocol 3, found {code >> 16}.{code & 0xFFFF}")
        self._started = True
        return _startup(code & 0xFFFF, body)

    def _password(self) -> Said | None:
        if self._buffer and self._buffer[0] != m.PASSWORD:
            raise ProtocolError("expected a password")
        if len(self._buffer) < 5:
            return None
        (length,) = _INT.unpack_from(self._buffer, 1)
        if length < 5:
            raise ProtocolError("expected a password of a sensible length")
        if length > _LARGEST_PASSWORD:
            raise LimitExceeded("the password is longer than any ticket")
        if len(self._buffer) < 1 + length:
            return None
        body, self._buffer = self._buffer[5 : 1 + length], self._buffer[1 + length :]
        if body.find(b"\0") != len(body) - 1:
            raise ProtocolError("expected a password of one string")
        return PasswordGiven(body[:-1].decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What of a client's start-up packet counts."""

    target: str
    """The database it named, which is the name of a target here; empty if it named none."""
    client: str
    """What it calls itself."""
    settings: dict[str, str]
    """The settings it may choose, by name in lower case."""


def wishes(startup: Startup) -> Wishes:
    """Return what of a start-up packet counts; raise `AccessRefused` for what must not be ignored silently."""
    settings: dict[str, str] = {}
    target = ""
    if not startup.parameters.get("user"):
        raise ProtocolError("expected a user in the start-up packet")
    for name, value in startup.parameters.items():
        match name.lower():
            case "user":
                pass
            case "database":
                target = value
            case "replication" if value.lower() in ("", "0", "off", "no", "false"):
                pass
            case "replication":
                raise AccessRefused("replication does not pass through bastion")
            case "options":
                for option, wanted in _options(value):
                    _choose(settings, option, wanted)
            case other:
                _choose(settings, other, value)
    return Wishes(target, settings.get("application_name", ""), settings)


def application(settings: dict[str, str]) -> str:
    """Return the SQL that makes a client's settings."""
    return "; ".join(f"SET {name} TO '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items())


def target_startup(user: str, database: str, timeouts: dict[str, str]) -> bytes:
    """Return the start-up packet for the target, from configuration alone."""
    parameters = {
        "user": user,
        "database": database,
        "application_name": "bastion",
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
        **timeouts,
    }
    body = b"".join(m.text(k.encode()) + m.text(v.encode()) for k, v in parameters.items()) + b"\0"
    return _HEAD.pack(len(body) + 8, PROTOCOL_3_0) + body


def ssl_request() -> bytes:
    """Return an SSLRequest."""
    return _HEAD.pack(8, SSL_REQUEST)


def cancel_request(process: int, key: bytes) -> bytes:
    """Return a CancelRequest."""
    return _HEAD.pack(12 + len(key), CANCEL_REQUEST) + _INT.pack(process) + key


def negotiation(startup: Startup) -> bytes:
    """Return the NegotiateProtocolVersion message that answers `startup`."""
    names = b"".join(m.text(name.encode()) for name in startup.extensions)
    return frame(m.NEGOTIATE_PROTOCOL_VERSION, _HEAD.pack(startup.version, len(startup.extensions)) + names)


def backend_key(process: int, key: bytes) -> bytes:
    """Return a BackendKeyData message."""
    return frame(m.BACKEND_KEY_DATA, _INT.pack(process) + key)


def parameter_status(name: bytes, value: bytes) -> bytes:
    """Return a ParameterStatus message."""
    return frame(m.PARAMETER_STATUS, m.text(name) + m.text(value))


def same_key(one: bytes, other: bytes) -> bool:
    """Compare cancel keys in constant time."""
    return hmac.compare_digest(one, other)


def _check_packet(length: int) -> None:
    if length < _HEAD.size:
        raise ProtocolError(f"a start-up packet cannot be {length} bytes long")
    if length > _LARGEST_PACKET:
        raise LimitExceeded(f"a start-up packet of {length} bytes is more than {_LARGEST_PACKET}")


def _startup(minor: int, body: bytes) -> Startup:
    if body[-1:] != b"\0":
        raise ProtocolError("expected the start-up packet to end with a zero byte")
    parts = body[:-1].split(b"\0")
    if parts.pop() != b"" or len(parts) % 2:
        raise ProtocolError("expected the start-up packet to hold pairs of names and values")
    try:
        words = [part.decode() for part in parts]
    except UnicodeDecodeError as error:
        raise ProtocolError("expected the start-up packet to be UTF-8") from error
    parameters: dict[str, str] = {}
    extensions: list[str] = []
    for name, value in zip(words[::2], words[1::2], strict=True):
        if not name:
            raise ProtocolError("expected no parameter without a name in the start-up packet")
        if name.startswith("_pq_."):
            extensions.append(name)
        elif name.lower() in (known.lower() for known in parameters):
            raise ProtocolError("expected each parameter once in the start-up packet")
        else:
            parameters[name] = value
    return Startup(minor, parameters, tuple(extensions))


def _options(value: str) -> Iterator[tuple[str, str]]:
    """Yield the settings of the parameter `options`, which holds switches of the postgres program."""
    at = 0
    rest = value.strip()
    while at < len(rest):
        match = _OPTION.match(rest, at)
        if match is None or "\\" in rest:
            raise AccessRefused("the options at start-up hold something other than plain settings (-c name=value)")
        yield match[1], match[2]
        at = match.end()
        while rest[at : at + 1].isspace():
            at += 1


def _choose(settings: dict[str, str], name: str, value: str) -> None:
    name = name.lower()
    if name == "client_encoding":
        if re.sub(r"[^a-z0-9]", "", value.lower()) not in _ENCODINGS:
            raise AccessRefused("client_encoding can only be UTF8 here", hint="set PGCLIENTENCODING=UTF8")
        return
    if name not in SETTINGS:
        raise AccessRefused(
            f'the setting "{visible(name)}" cannot be chosen at start-up',
            hint="leave it out of the connection's options, or use SET once connected",
        )
    if not _PLAIN.fullmatch(value) or "\\" in value:
        raise AccessRefused(f'the value of the setting "{name}" is not plain text')
    if name in settings:
        raise ProtocolError(f"expected the setting {name} once")
    settings[name] = value
