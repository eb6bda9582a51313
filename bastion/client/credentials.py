"""The login that is kept on this machine: one file, readable by its owner alone."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bastion import private
from bastion.errors import AuthenticationFailed

_FILE = "login.json"
_LOCK = "login.lock"
_SIZE_AT_MOST = 256 * 1024


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


class LoginStore:
    """The one login in a directory that only its owner may enter."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / _FILE

    def read(self) -> Login | None:
        """Return the login, None if there is none. Raises `ConfigError` where others could have written it."""
        content = private.read(self._path, _SIZE_AT_MOST)
        if content is None:
            return None
        try:
            return _login(json.loads(content))
        except (ValueError, TypeError, AttributeError, RecursionError):
            hint = "log in again with `bastion login`"
            raise AuthenticationFailed("the login that is kept here cannot be read", hint=hint) from None

    def write(self, login: Login) -> None:
        """Keep a login in place of the one that was there."""
        private.directory(self._directory)
        private.replace(self._path, json.dumps(asdict(login)).encode())

    def remove(self) -> bool:
        """Forget the login, also one that cannot be read; tell whether there was one."""
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


def _login(record: object) -> Login:
    if not isinstance(record, dict):
        raise ValueError("no object")
    login = Login(**record)
    texts = (login.issuer, login.client_id, login.token_endpoint, login.revocation_endpoint)
    secrets = (login.access_token, login.refresh_token)
    if not all(isinstance(text, str) for text in (*texts, *secrets, *login.extra, *login.extra.values())):
        raise ValueError("not text")
    if not all(isinstance(time, int | float) for time in (login.renew, login.expires)):
        raise ValueError("not a time")
    return login
