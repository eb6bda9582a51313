"""Where the token that proves an identity comes from: a file, the environment, or the login."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from bastion.errors import AuthenticationFailed, UsageError

VARIABLE = "BASTION_TOKEN"
_LARGEST = 64 * 1024


def source(token_file: Path | None, login: Callable[[], str], env: Mapping[str, str] = os.environ) -> Callable[[], str]:
    """Return what yields the token for each request; a file is read anew each time, since workloads rotate theirs."""
    if token_file is not None:
        return lambda: _from_file(token_file)
    if given := env.get(VARIABLE, "").strip():
        return lambda: _checked(given, VARIABLE)
    return login


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror}") from error
    return _checked(content.decode("ascii", "replace").strip(), str(path))


def _checked(token: str, where: str) -> str:
    """Return the token if it could be one; what is sent as a header must hold neither spaces nor line ends."""
    if not token or len(token) > _LARGEST or not (token.isascii() and token.isprintable()) or " " in token:
        raise AuthenticationFailed(f"{where} does not hold a token")
    return token
