"""Signed statements of where every chain stood: what makes a cut or rewritten recording show, offline.

A checkpoint's body is JSON: its number, the time, the digest of the one before, and the head (sequence number and
link) of each chain that has grown since. Ed25519 over the body. Whoever has the private key can sign another history,
so keep a copy of the public key, and now and then of the last checkpoint, where the gateway cannot write.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bastion.errors import ConfigError, RecordingError

PRIVATE_KEY = "checkpoint.key"
PUBLIC_KEY = "checkpoint.pub"


class Signer:
    """Signs with the key in a directory, made at first use."""

    def __init__(self, directory: Path) -> None:
        path = directory / PRIVATE_KEY
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            self._key = _private(path)
        else:
            self._key = Ed25519PrivateKey.generate()
            with os.fdopen(fd, "wb") as file:
                file.write(
                    self._key.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                )
                file.flush()
                os.fsync(fd)
        public = directory / PUBLIC_KEY
        if not public.exists():
            pem = self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            fd = os.open(public, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(pem)

    def sign(self, body: str) -> bytes:
        """Return the signature of a checkpoint's body."""
        return self._key.sign(body.encode())


def signed_body(last: tuple[int, str, bytes] | None, heads: dict[str, list[Any]], at: int) -> tuple[int, str]:
    """Return the number and the body of the checkpoint that follows `last`."""
    number = last[0] + 1 if last else 1
    previous = digest(last[1], last[2]) if last else ""
    body = {"number": number, "at": at, "previous": previous, "heads": heads}
    return number, orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()


def digest(body: str, signature: bytes) -> str:
    """Return what the next checkpoint names this one by."""
    return hashlib.sha256(body.encode() + signature).hexdigest()


def public_key(path: Path) -> Ed25519PublicKey:
    """Return the public key in a PEM file; raise `ConfigError` if there is none."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(str(path), expected="a public key", found=error.strerror or "an error") from None
    except ValueError:
        raise ConfigError(str(path), expected="a public key in PEM", found="something else") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(str(path), expected="an Ed25519 key", found="another kind")
    return key


def is_signed(key: Ed25519PublicKey, body: str, signature: bytes) -> bool:
    """Tell whether a checkpoint's signature holds."""
    try:
        key.verify(signature, body.encode())
    except InvalidSignature:
        return False
    return True


def _private(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & 0o077:
        raise RecordingError(f"{path} can be read by others", hint=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise RecordingError(f"{path} does not hold an Ed25519 key")
    return key
