"""Fetches a target's credential when a session is opened, and keeps nothing of it.

Errors name the source and never its content. A command runs without a shell, with a minimal environment and a time
limit, and its error output is dropped: it could hold the secret.
"""

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from bastion.errors import TargetError
from bastion.model.target import CredentialSource
from bastion.vault.secrets import SecretStore

_SIZE_AT_MOST = 64 * 1024
_COMMAND_SECONDS = 15.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "USER", "LOGNAME", "TMPDIR")


class CredentialUnavailable(TargetError):
    """The credential of a target could not be fetched; says where from, never what."""

    code = "target.credential"


class Vault:
    """Resolves references to credentials."""

    def __init__(self, secrets_path: Path, environment: Mapping[str, str]) -> None:
        self._secrets_path = secrets_path
        self._environment = environment

    async def resolve(self, source: CredentialSource) -> bytes:
        """Return the credential that `source` refers to, fetched now; empty for a source of kind `none`.

        Raises `CredentialUnavailable`.
        """
        match source.kind:
            case "none":
                return b""
            case "env":
                return self._from_environment(source.reference[0])
            case "file":
                return await asyncio.to_thread(_from_file, Path(source.reference[0]))
            case "command":
                return await self._from_command(source.reference)
            case "secret":
                return await asyncio.to_thread(self._from_store, source.reference[0])
            case other:
                raise CredentialUnavailable(f"no credential can come from {other!r}")

    def _from_environment(self, name: str) -> bytes:
        value = self._environment.get(name)
        if not value:
            raise CredentialUnavailable(f"the gateway's environment has no {name}", hint="set it before it starts")
        return value.encode("utf-8", "surrogateescape")

    async def _from_command(self, arguments: tuple[str, ...]) -> bytes:
        environment = {name: self._environment[name] for name in _PASSED_ON if name in self._environment}
        ended = False
        async with _pipe() as (output, end):
            try:
                process = await asyncio.create_subprocess_exec(
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=end,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise CredentialUnavailable(f"{arguments[0]} cannot be run: {error.strerror}") from None
            finally:
                os.close(end)
            try:
                async with asyncio.timeout(_COMMAND_SECONDS):
                    printed = await _bounded(output)
                    status = await process.wait()
                    ended = True
            except TimeoutError:
                raise CredentialUnavailable(f"{arguments[0]} took longer than {_COMMAND_SECONDS:.0f} s") from None
            finally:
                if not ended:
                    # The whole group: what the program started may still hold the secret, and our pipe, also where
                    # the program itself is long gone.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        if status != 0:
            raise CredentialUnavailable(f"{arguments[0]} ended with status {status}")
        return _trimmed(printed, arguments[0])

    def _from_store(self, name: str) -> bytes:
        return SecretStore(self._secrets_path).reveal(name)


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """Open a pipe: what to read, and the descriptor that a program writes to.

    A pipe that asyncio makes for a program stays open for as long as anybody holds its other end; this one is closed
    on the way out, whoever does.
    """
    reading, writing = os.pipe()
    output = asyncio.StreamReader(limit=_SIZE_AT_MOST)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        yield output, writing
    finally:
        transport.close()
        await asyncio.sleep(0)  # closing takes a turn of the loop


async def _bounded(output: asyncio.StreamReader) -> bytes:
    printed = b""
    while part := await output.read(_SIZE_AT_MOST):
        printed += part
        if len(printed) > _SIZE_AT_MOST:
            raise CredentialUnavailable(f"the command printed more than {_SIZE_AT_MOST} bytes")
    return printed


def _from_file(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CredentialUnavailable(f"{path} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise CredentialUnavailable(f"{path} is not a file")
        if found.st_mode & 0o007:
            raise CredentialUnavailable(f"{path} can be read by everybody on this machine", hint=f"chmod o= {path}")
        with os.fdopen(fd, "rb", closefd=False) as file:
            content = file.read(_SIZE_AT_MOST + 1)
    finally:
        os.close(fd)
    if len(content) > _SIZE_AT_MOST:
        raise CredentialUnavailable(f"{path} is larger than {_SIZE_AT_MOST} bytes")
    return _trimmed(content, str(path))


def _trimmed(content: bytes, where: str) -> bytes:
    """Return a credential without the line end that editors and commands put behind it."""
    trimmed = content.removesuffix(b"\n").removesuffix(b"\r")
    if not trimmed:
        raise CredentialUnavailable(f"{where} holds nothing")
    return trimmed
