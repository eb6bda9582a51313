"""One gateway a runtime directory: holds the lock, and says which process it is."""

import fcntl
import json
import os
import time
from pathlib import Path

from bastion.errors import BastionError, ConfigError

_NAME = "gateway.pid"
_TRIES = 20
_BETWEEN = 0.02


class Lifetime:
    """The lock on a runtime directory, held while the gateway runs; the kernel drops it however the process ends."""

    def __init__(self, directory: Path) -> None:
        private_directory(directory)
        self._path = directory / _NAME
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if not _locked(self._fd):
            os.close(self._fd)
            raise BastionError(f"a gateway already runs in {directory}", hint="`bastion gateway status` tells more")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps({"pid": os.getpid()}).encode(), 0)

    def end(self) -> None:
        """Let the lock go."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _locked(fd: int) -> bool:
    """Take the lock, trying for a moment: whoever only looks whether a gateway runs holds it for an instant too."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_BETWEEN)
        else:
            return True
    return False


def private_directory(path: Path) -> None:
    """Make sure that `path` is a directory of ours that nobody else can enter; raise `ConfigError` otherwise."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not path.is_dir() or path.is_symlink():
        raise ConfigError(str(path), expected="a directory", found="something else")
    if found.st_uid != os.geteuid():
        raise ConfigError(str(path), expected=f"owner {os.geteuid()}", found=f"owner {found.st_uid}")
    if found.st_mode & 0o077:
        raise ConfigError(
            str(path), expected="mode 0700", found=f"mode {found.st_mode & 0o777:04o}", hint=f"chmod 700 {path}"
        )
