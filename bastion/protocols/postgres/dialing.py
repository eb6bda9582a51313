"""Connects to a target and logs in, as its configuration says and with nothing of the client's."""

import asyncio
import ssl
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from bastion.errors import ProtocolError, TargetError, TargetRefused, TargetUnreachable, TargetUntrusted
from bastion.model.target import Target
from bastion.model.text import visible
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres import startup
from bastion.protocols.postgres.authentication import Authentication, end_point
from bastion.protocols.postgres.dialogue import Dialogue
from bastion.protocols.postgres.options import ChannelBinding, PostgresOptions, TlsMode

_PATIENCE: Final = 15.0
"""Seconds for a connection and a login."""
_KEY: Final = Struct(">I")


@dataclass(slots=True)
class Reached:
    """A target that has let us in and is ready for a query."""

    dialogue: Dialogue
    parameters: dict[bytes, bytes] = field(default_factory=dict)
    process: int = 0
    key: bytes = field(default=b"", repr=False)
    encrypted: bool = False


async def dial(target: Target, options: PostgresOptions, credential: bytes) -> Reached:
    """Return a logged-in connection to `target`. Raises `TargetError` or `ProtocolError`."""
    try:
        async with asyncio.timeout(_PATIENCE):
            if options.tls.mode is TlsMode.ALLOW:
                try:
                    return await _attempt(target, options, credential, encrypt=False)
                except TargetRefused:
                    return await _attempt(target, options, credential, encrypt=True)
            return await _attempt(target, options, credential, encrypt=options.tls.mode is not TlsMode.DISABLE)
    except TimeoutError as error:
        raise TargetUnreachable(f"target {target.name} did not answer within {_PATIENCE:g} s") from error


async def cancel(target: Target, options: PostgresOptions, reached: Reached) -> None:
    """Send the target a CancelRequest for a session. Raises `TargetError`."""
    try:
        async with asyncio.timeout(_PATIENCE):
            dialogue, _ = await _connected(target, options, encrypt=reached.encrypted)
            dialogue.write(startup.cancel_request(reached.process, reached.key))
            await dialogue.ended()
            dialogue.close()
    except TimeoutError as error:
        raise TargetUnreachable(f"target {target.name} did not take a CancelRequest in time") from error


async def prepare(reached: Reached, settings: dict[str, str]) -> str:
    """Make the settings that the client chose and return the session's `search_path`.

    Raises `TargetRefused` for a value the target does not take.
    """
    texts = [*([startup.application(settings)] if settings else []), "SHOW search_path"]
    reached.dialogue.write(m.frame(m.QUERY, "; ".join(texts).encode() + b"\0"))
    refused, path = "", ""
    while True:
        tag, body = await reached.dialogue.message()
        match tag:
            case m.READY_FOR_QUERY:
                break
            case m.ERROR_RESPONSE:
                refused = _told(body)
            case m.PARAMETER_STATUS:
                _keep(reached, body)
            case m.DATA_ROW if len(body) >= 6:
                path = body[6:].decode()
            case m.COMMAND_COMPLETE | m.NOTICE_RESPONSE | m.ROW_DESCRIPTION:
                pass
            case _:
                raise ProtocolError("the target answered SET and SHOW by something else")
    if refused:
        raise TargetRefused(f"a setting chosen at start-up was refused: {refused}")
    return path


async def _attempt(target: Target, options: PostgresOptions, credential: bytes, *, encrypt: bool) -> Reached:
    dialogue, encrypted = await _connected(target, options, encrypt=encrypt)
    reached = Reached(dialogue, encrypted=encrypted)
    try:
        await _log_in(reached, target, options, credential)
        check_reported(reached.parameters, target.user)
    except BaseException:
        dialogue.abort()
        raise
    return reached


async def _connected(target: Target, options: PostgresOptions, *, encrypt: bool) -> tuple[Dialogue, bool]:
    """Return an open connection, and whether it is encrypted."""
    loop = asyncio.get_running_loop()
    dialogue = Dialogue()
    try:
        if target.host.startswith("/"):
            await loop.create_unix_connection(lambda: dialogue, f"{target.host}/.s.PGSQL.{target.port}")
            return dialogue, False
        await loop.create_connection(lambda: dialogue, target.host, target.port)
    except OSError as error:
        raise TargetUnreachable(f"target {target.name} cannot be reached: {visible(_reason(error))}") from error
    try:
        return dialogue, encrypt and await _encrypt(dialogue, target, options)
    except BaseException:
        dialogue.abort()
        raise


async def _encrypt(dialogue: Dialogue, target: Target, options: PostgresOptions) -> bool:
    """Ask for TLS and begin it; say whether the target was willing."""
    dialogue.write(startup.ssl_request())
    answer = await dialogue.exactly(1)
    if answer == b"N":
        if options.tls.mode is TlsMode.PREFER:
            return False
        raise TargetUntrusted(
            f"target {target.name} does not offer TLS, and `tls.mode` is {options.tls.mode}",
            hint="`tls: {mode: disable}` goes without, where the network itself is trusted",
        )
    if answer != b"S" or dialogue.buffered:
        raise TargetUntrusted(f"target {target.name} sent something before TLS that cannot be trusted")
    try:
        encrypted = await asyncio.get_running_loop().start_tls(
            dialogue.transport, dialogue, context(options), server_hostname=target.host
        )
    except ssl.SSLCertVerificationError as error:
        raise TargetUntrusted(
            f"the certificate of target {target.name} does not prove its identity: {visible(error.verify_message)}",
            hint="`tls.ca` names the authorities to trust",
        ) from error
    except (ssl.SSLError, OSError) as error:
        raise TargetUnreachable(f"TLS with target {target.name} failed: {visible(_reason(error))}") from error
    if encrypted is None:
        raise TargetUnreachable(f"target {target.name} hung up during TLS")
    dialogue.transport = encrypted
    return True


def context(options: PostgresOptions) -> ssl.SSLContext:
    """Return the TLS settings that `options` ask for. Raises `TargetError` if their files cannot be used."""
    tls = options.tls
    try:
        made = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
        if tls.cert is not None:
            made.load_cert_chain(tls.cert, tls.key)
    except (ssl.SSLError, OSError) as error:
        raise TargetError(f"the files that `tls` names cannot be used: {visible(_reason(error))}") from error
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = tls.mode is TlsMode.VERIFY_FULL
    # As in libpq, `require` checks the certificate too if it was given an authority to check it against.
    if tls.mode not in (TlsMode.VERIFY_FULL, TlsMode.VERIFY_CA) and tls.ca is None:
        made.verify_mode = ssl.CERT_NONE
    return made


async def _log_in(reached: Reached, target: Target, options: PostgresOptions, credential: bytes) -> None:
    dialogue = reached.dialogue
    authentication = Authentication(
        options.method(credential),
        target.user,
        credential,
        binding=_binding(reached, options),
        require_binding=options.tls.channel_binding is ChannelBinding.REQUIRE,
    )
    dialogue.write(startup.target_startup(target.user, options.database, options.limits.as_settings()))
    while True:
        tag, body = await dialogue.message()
        match tag:
            case m.AUTHENTICATION:
                answer = authentication.received(body)
                if answer is not None:
                    dialogue.write(answer)
            case m.ERROR_RESPONSE:
                raise TargetRefused(f"target {target.name} does not let the gateway in: {_told(body)}")
            case m.NOTICE_RESPONSE:
                pass
            case m.PARAMETER_STATUS if authentication.done:
                _keep(reached, body)
            case m.BACKEND_KEY_DATA if authentication.done and 8 <= len(body) <= 4 + 256:
                (reached.process,) = _KEY.unpack_from(body)
                reached.key = body[4:]
            case m.READY_FOR_QUERY if authentication.done:
                return
            case _:
                raise ProtocolError(f"target {target.name} broke the protocol during its start-up")


def check_reported(parameters: dict[bytes, bytes], user: str) -> None:
    """Raise `TargetUntrusted` if what a target reports of itself would have us read text otherwise than it does."""
    pinned = {
        b"client_encoding": b"UTF8",
        b"standard_conforming_strings": b"on",
        b"session_authorization": user.encode(),
    }
    for name, wanted in pinned.items():
        if parameters.get(name) != wanted:
            raise TargetUntrusted(f"the target does not report {name.decode()} as it was asked for")


def _binding(reached: Reached, options: PostgresOptions) -> bytes | None:
    if not reached.encrypted or options.tls.channel_binding is ChannelBinding.DISABLE:
        return None
    certificate = reached.dialogue.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return end_point(certificate) if certificate else None


def _keep(reached: Reached, body: bytes) -> None:
    name, value = m.read_parameter(b"S\0\0\0\0" + body, 0, 5 + len(body))
    reached.parameters[name] = value


def _told(body: bytes) -> str:
    fields = m.read_fields(b"E\0\0\0\0" + body, 0, 5 + len(body))
    return visible(fields.get("M", b"no reason given").decode("utf-8", "replace"))


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
