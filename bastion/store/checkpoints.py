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

from bastion import private
from bastion.errors import ConfigError, RecordingError

PRIVATE_KEY = "checkpoint.key"
PUBLIC_KEY = "checkpoint.pub"
_KEY_AT_MOST = 4096


class Signer:
    """Signs with the key in a directory, made at first use."""

    def __init__(self, directory: Path) -> None:
        path = directory / PRIVATE_KEY
        content = private.read(path, _KEY_AT_MOST)
        if content is None:
            self._key = Ed25519PrivateKey.generate()
            encoding, format_ = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            private.replace(path, self._key.private_bytes(encoding, format_, serialization.NoEncryption()))
        else:
            self._key = _private(path, content)
        self._publish(directory / PUBLIC_KEY)

    def _publish(self, path: Path) -> None:
        key = self._key.public_key()
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if not os.path.lexists(path):
            private.replace(path, pem)
        elif public_key(path).public_bytes_raw() != key.public_bytes_raw():
            raise RecordingError(
                f"{path} does not belong to {PRIVATE_KEY}", hint="one of the two was exchanged; restore the right one"
            )

    def check(self, last: tuple[int, str, bytes] | None) -> None:
        """Raise `RecordingError` if the last checkpoint was signed with another key."""
        if last is not None and not is_signed(self._key.public_key(), last[1], last[2]):
            raise RecordingError(
                f"checkpoint {last[0]} of this store was signed with another key",
                hint=f"restore {PRIVATE_KEY}, or begin a new store and keep this one for the record",
            )

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


def _private(path: Path, content: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(content, None)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise RecordingError(f"{path} does not hold an Ed25519 key")
    return key
