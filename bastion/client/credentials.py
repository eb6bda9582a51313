"""The login that is kept on this machine: a private file, and where there is one, the keyring.

The access token, which lives for minutes, is always in the file, so that a command needs no keyring to run. The
refresh token lives for weeks: it goes into the keyring where a person's desktop has one, else into the file too.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from bastion import private
from bastion.errors import AuthenticationFailed

_FILE = "login.json"
_LOCK = "login.lock"
_SERVICE = "bastion"
_SIZE_AT_MOST = 256 * 1024
_AGAIN = "log in again with `bastion login`"
_NATIVE = 1.0
"""The priority that the keyring library gives to a keyring of the operating system."""


@dataclass(frozen=True, slots=True)
class Login:
    """What an issuer gave for one login."""

    issuer: str
    client_id: str
    token_endpoint: str
    revocation_endpoint: str
    extra: Mapping[str, str]
    """What else each request to the token endpoint says, so that the token is for the gateway."""
    access_token: str = field(repr=False)
    renew: float
    """When to renew the access token, in seconds since the Unix epoch."""
    expires: float
    """When the access token ends."""
    refresh_token: str = field(default="", repr=False)


class Keyring(Protocol):
    """What is used of a keyring; its errors are `keyring.errors.KeyringError`."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return what is kept under a name."""
        ...

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep something under a name."""
        ...

    def delete_password(self, service: str, username: str) -> None:
        """Forget what is kept under a name."""
        ...


class LoginStore:
    """The one login in a directory that only its owner may enter."""

    def __init__(self, directory: Path, keyring: Keyring | None = None) -> None:
        """Use `keyring`, or find the desktop's when it comes to keeping a login."""
        self._directory = directory
        self._path = directory / _FILE
        self._keyring = keyring

    def read(self) -> Login | None:
        """Return the login without asking the keyring: `refresh_token` may be empty. None if there is none."""
        stored = self._stored()
        return stored[0] if stored else None

    def read_whole(self) -> Login | None:
        """Return the login with its refresh token, wherever that is kept; without, where it cannot be had."""
        stored = self._stored()
        if stored is None or not stored[1]:
            return stored[0] if stored else None
        return replace(stored[0], refresh_token=self._from_keyring())

    def write(self, login: Login) -> None:
        """Keep a login in place of the one that was there."""
        private.directory(self._directory)
        in_keyring = bool(login.refresh_token) and self._to_keyring(login.refresh_token)
        record: dict[str, Any] = asdict(login)
        if in_keyring:
            record["refresh_token"] = ""
        private.replace(self._path, json.dumps({"in_keyring": in_keyring, **record}).encode())

    def remove(self) -> bool:
        """Forget the login; tell whether there was one. Works on a file that cannot be read, too."""
        with contextlib.suppress(AuthenticationFailed):
            stored = self._stored()
            if stored and stored[1]:
                self._drop_from_keyring()
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        private.settle(self._directory)
        return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from renewing or replacing the login meanwhile.

        A refresh token is good once. An issuer that sees one twice takes it for stolen and ends the login.
        """
        private.directory(self._directory)
        with private.locked(self._directory / _LOCK):
            yield

    def _stored(self) -> tuple[Login, bool] | None:
        content = private.read(self._path, _SIZE_AT_MOST)
        if content is None:
            return None
        try:
            record = json.loads(content)
            in_keyring = record.pop("in_keyring")
            login = Login(**record)
            float(login.renew), float(login.expires)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise AuthenticationFailed("the login that is kept here cannot be read", hint=_AGAIN) from None
        return login, bool(in_keyring)

    @property
    def _name(self) -> str:
        # Two directories are two logins, also in the one keyring of a desktop.
        return f"refresh token of {self._directory}"

    def _to_keyring(self, secret: str) -> bool:
        from keyring.errors import KeyringError

        keyring = self._keyring or desktop_keyring(os.environ)
        if keyring is None:
            return False
        try:
            keyring.set_password(_SERVICE, self._name, secret)
        except KeyringError:
            return False
        return True

    def _from_keyring(self) -> str:
        from keyring import get_keyring
        from keyring.errors import KeyringError

        try:
            return (self._keyring or get_keyring()).get_password(_SERVICE, self._name) or ""
        except KeyringError:
            return ""

    def _drop_from_keyring(self) -> None:
        from keyring import get_keyring
        from keyring.errors import KeyringError

        with contextlib.suppress(KeyringError):
            (self._keyring or get_keyring()).delete_password(_SERVICE, self._name)


def desktop_keyring(environment: Mapping[str, str]) -> Keyring | None:
    """Return the keyring of the desktop that the person sits at, None where there is no desktop or no keyring.

    Without a desktop a keyring may ask for its password on a screen that nobody sees, and wait for ever.
    """
    if sys.platform == "darwin":
        is_desktop = "SSH_CONNECTION" not in environment
    else:
        is_desktop = bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
    if not is_desktop:
        return None
    import keyring

    found: Any = keyring.get_keyring()
    return found if found.priority >= _NATIVE else None
