"""The encrypted store of credentials: one file, AES-256-GCM, its key beside it.

Each secret is sealed with its name as associated data, so that two can't be swapped. It guards copies and backups of
the file; whoever can read the key as well can read everything, as the documentation says.
"""

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bastion import private
from bastion.errors import ConfigError, TargetError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET_AT_MOST = 64 * 1024
_FILE_AT_MOST = 64 * 1024 * 1024
_KEY_FILE = "key"
_DATA_FILE = "sealed.json"
_LOCK_FILE = "lock"
_NONCE = 12
_KEY = 32


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
            expected = "at most 64 letters, digits, dots, dashes and underscores"
            raise ConfigError("name of the secret", expected=expected, found=repr(name[:80]))
        if not 0 < len(secret) <= _SECRET_AT_MOST:
            raise ConfigError(name, expected=f"1 to {_SECRET_AT_MOST} bytes", found=f"{len(secret)}")
        with self._changing() as sealed:
            nonce = os.urandom(_NONCE)
            box = AESGCM(self._key(create=True)).encrypt(nonce, secret, name.encode())
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
        try:
            raw = base64.b64decode(box, validate=True)
            return AESGCM(self._key()).decrypt(raw[:_NONCE], raw[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            raise TargetError(f"the secret {name!r} was changed, or the key is another one") from None

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Hold the store's lock, and replace the file as a whole when the block ends well."""
        private.directory(self._directory)
        with private.locked(self._directory / _LOCK_FILE):
            sealed = self._sealed()
            before = dict(sealed)
            yield sealed
            if sealed != before:
                private.replace(self._directory / _DATA_FILE, json.dumps(sealed, indent=1, sort_keys=True).encode())

    def _sealed(self) -> dict[str, str]:
        path = self._directory / _DATA_FILE
        try:
            sealed = json.loads(private.read(path, _FILE_AT_MOST) or b"{}")
        except (ValueError, RecursionError):
            sealed = None
        if not isinstance(sealed, dict) or not all(isinstance(box, str) for box in sealed.values()):
            raise ConfigError(str(path), expected="the sealed secrets", found="something else")
        return sealed

    def _key(self, *, create: bool = False) -> bytes:
        path = self._directory / _KEY_FILE
        key = private.read(path, _KEY)
        if key is None and create and not self._sealed():
            key = AESGCM.generate_key(8 * _KEY)
            private.replace(path, key)
        if key is None or len(key) != _KEY:
            # A new one would not open what is sealed, and would hide that the old one is missing.
            found = "none" if key is None else f"{len(key)} bytes"
            raise ConfigError(str(path), expected=f"the key of the secrets, {_KEY} bytes", found=found)
        return key
