"""The encrypted store of credentials: one file, AES-256-GCM, its key beside it.

Each secret is sealed with its name as associated data, so that two can't be swapped. It guards copies and backups of
the file; whoever can read the key as well can read everything, as the documentation says.
"""

import base64
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastion.errors import ConfigError, TargetError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET_AT_MOST = 64 * 1024
_KEY_FILE = "key"
_DATA_FILE = "sealed.json"
_NONCE = 12


class SecretStore:
    """The secrets in one directory, which only its owner may enter."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Return the names of all secrets."""
        return sorted(self._sealed())

    def put(self, name: str, secret: bytes) -> None:
        """Keep a secret under a name, replacing what was there."""
        if not _NAME.fullmatch(name):
            raise ConfigError("name", expected="letters, digits, dots, dashes and underscores", found=repr(name))
        if not 0 < len(secret) <= _SECRET_AT_MOST:
            raise ConfigError(name, expected=f"1 to {_SECRET_AT_MOST} bytes", found=f"{len(secret)}")
        with self._changing() as sealed:
            nonce = os.urandom(_NONCE)
            box = AESGCM(self._key()).encrypt(nonce, secret, name.encode())
            sealed[name] = base64.b64encode(nonce + box).decode()

    def remove(self, name: str) -> bool:
        """Forget a secret; tell whether there was one."""
        with self._changing() as sealed:
            return sealed.pop(name, None) is not None

    def reveal(self, name: str) -> bytes:
        """Return a secret in clear. Raises `TargetError` if there is none or it was tampered with."""
        box = self._sealed().get(name)
        if box is None:
            raise TargetError(f"there is no secret {name!r}", hint=f"`bastion secret set {name}` keeps one")
        raw = base64.b64decode(box)
        try:
            return AESGCM(self._key()).decrypt(raw[:_NONCE], raw[_NONCE:], name.encode())
        except InvalidTag:
            raise TargetError(f"the secret {name!r} was changed, or the key is another one") from None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Hold the store's lock, and replace the file as a whole when the block ends well."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check(self._directory, 0o700)
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sealed = self._sealed()
            yield sealed
            _replace(self._directory / _DATA_FILE, json.dumps(sealed, indent=1, sort_keys=True).encode())
        finally:
            os.close(lock)

    def _sealed(self) -> dict[str, str]:
        content = self._read(self._directory / _DATA_FILE)
        try:
            sealed = json.loads(content) if content else {}
        except ValueError:
            sealed = None
        if not isinstance(sealed, dict):
            raise ConfigError(str(self._directory / _DATA_FILE), expected="the sealed secrets", found="something else")
        return sealed

    def _key(self) -> bytes:
        path = self._directory / _KEY_FILE
        key = self._read(path)
        if not key:
            key = AESGCM.generate_key(256)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(fd)
        if len(key) != 32:
            raise ConfigError(str(path), expected="a key of 32 bytes", found=f"{len(key)} bytes")
        return key

    def _read(self, path: Path) -> bytes:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ConfigError(str(path), expected="a file of our own", found=error.strerror or "an error") from None
        with os.fdopen(fd, "rb") as file:
            _check_private(path, os.fstat(fd), 0o600)
            return file.read()

    def _check(self, path: Path, mode: int) -> None:
        _check_private(path, path.lstat(), mode)


def _check_private(path: Path, found: os.stat_result, mode: int) -> None:
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o777 & ~mode:
        raise ConfigError(
            str(path),
            expected=f"owner {os.geteuid()} and mode {mode:04o}",
            found=f"owner {found.st_uid} and mode {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod {mode:o} {path}",
        )


def _replace(path: Path, content: bytes) -> None:
    """Write a file as a whole: readers see the old one or the new one, also after a crash."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
