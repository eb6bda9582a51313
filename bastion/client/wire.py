"""HTTP/1.1 to the gateway over its unix socket, and the proof that the socket is the gateway's.

Only the standard library: `bastion approve` pays for what is imported here.
"""

import contextlib
import http.client
import os
import pwd
import socket
import stat
import struct
from pathlib import Path

from bastion.errors import GatewayError

SOCKET_NAME = "control.sock"
_SERVICE_USER = "bastion"
_START = "start it with `bastion gateway`; `bastion connect` and `bastion login` do so themselves"


class GatewayAbsent(GatewayError):
    """Nobody listens where the gateway should."""

    code = "gateway.absent"


class GatewayUntrusted(GatewayError):
    """What listens there could be somebody else's."""

    code = "gateway.untrusted"


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to the control socket in `directory`, made only if it belongs to who runs the gateway."""

    def __init__(self, directory: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._directory = directory

    def connect(self) -> None:
        """Connect, checking directory, socket and peer."""
        self.sock = connect(self._directory, SOCKET_NAME, self.timeout)


def connect(directory: Path, name: str, timeout: float | None) -> socket.socket:
    """Return a connection to the socket `name` of the gateway that runs in `directory`.

    Raises `GatewayAbsent` when nobody listens, `GatewayUntrusted` when somebody else may.
    """
    owner = trusted_owner(directory)
    path = directory / name
    conversation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        conversation.settimeout(timeout)
        conversation.connect(os.fspath(path))
        _check_peer(conversation, owner, path)
    except (FileNotFoundError, ConnectionRefusedError):
        conversation.close()
        raise GatewayAbsent(f"no gateway runs in {directory}", hint=_START) from None
    except OSError as error:
        conversation.close()
        raise GatewayError(f"the gateway at {path} cannot be reached: {error.strerror or error}") from error
    except BaseException:
        conversation.close()
        raise
    return conversation


def trusted_owner(directory: Path) -> int:
    """Return the uid that runs the gateway in `directory`, if nobody else could have put a socket there."""
    try:
        found = directory.lstat()
    except FileNotFoundError:
        raise GatewayAbsent(f"no gateway runs in {directory}", hint=_START) from None
    except OSError as error:
        raise GatewayError(f"{directory} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise GatewayUntrusted(f"{directory}: expected a directory, found something else")
    if found.st_uid not in _trusted_uids():
        raise GatewayUntrusted(
            f"{directory}: expected it to belong to you, root or the gateway's user, found uid {found.st_uid}",
            hint="name the gateway's user in BASTION_GATEWAY_USER if it is another one",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise GatewayUntrusted(
            f"{directory}: expected that only its owner can write there, found mode {found.st_mode & 0o7777:04o}"
        )
    return found.st_uid


def _trusted_uids() -> set[int]:
    trusted = {0, os.geteuid()}
    with contextlib.suppress(KeyError):
        trusted.add(pwd.getpwnam(os.environ.get("BASTION_GATEWAY_USER") or _SERVICE_USER).pw_uid)
    return trusted


def _check_peer(conversation: socket.socket, owner: int, path: Path) -> None:
    """Refuse a listener that another user than the directory's owner runs: a socket can outlive who made it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    packed = conversation.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", packed)[1]
    if uid != owner:
        raise GatewayUntrusted(f"{path}: expected a listener of uid {owner}, found one of uid {uid}")
