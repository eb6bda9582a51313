"""Files of one user alone: 0600 in a directory 0700, never through a link, replaced as a whole or not at all.

Who reads checks owner and mode of what was opened, not of a name that could be somebody else's a moment later.
"""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from bastion.errors import ConfigError


def directory(path: Path) -> None:
    """See to it that `path` is a directory that only its owner may enter; raise `ConfigError` if it is another's."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise _unusable(path, "a directory of our own", error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(str(path), expected="a directory", found="something else")
    _check(path, found, 0o700)


def read(path: Path, at_most: int) -> bytes | None:
    """Return the content of a private file, None where there is none; raise `ConfigError` where it is not private."""
    try:
        # A pipe in the place of the file must not make us wait for its other end.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, "a file of our own", error) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(str(path), expected="a file", found="something else")
        _check(path, found, 0o600)
        with os.fdopen(fd, "rb", closefd=False) as file:
            content = file.read(at_most + 1)
    finally:
        os.close(fd)
    if len(content) > at_most:
        raise ConfigError(str(path), expected=f"at most {at_most} bytes", found="more")
    return content


def governing(path: Path) -> bytes:
    """Return the content of a file that says what is to be done, which nobody else can have written.

    It belongs to us or to root, lies in a directory of which the same is true, and is writable for no group but our own
    primary one: where each user has a group of their own, files are made so. Raises `ConfigError` for any other, and
    `OSError` for one that cannot be read.
    """
    _check_governing(path.parent, path.parent.stat())
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(str(path), expected="a file", found="something else")
        _check_governing(path, found)
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)


def replace(path: Path, content: bytes) -> None:
    """Write a private file: readers see the old content or the new one, also after a crash."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(beside, "a directory that we may write to", error) from error
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _unusable(path, "a file that we may write to", error) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    settle(path.parent)


def settle(path: Path) -> None:
    """Make what was created, renamed or removed in a directory outlast a crash."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that `path` stands for, waiting for whoever has it; it ends with the process at the latest."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, "a file of our own", error) from error
    try:
        _check(path, os.fstat(fd), 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check(path: Path, found: os.stat_result, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise ConfigError(str(path), expected=f"owner {os.geteuid()}", found=f"owner {found.st_uid}")
    if stat.S_IMODE(found.st_mode) & ~mode:
        raise ConfigError(
            str(path),
            expected=f"mode {mode:04o}",
            found=f"mode {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod {mode:o} {path}",
        )


def _check_governing(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(str(path), expected=f"owner {os.geteuid()} or root", found=f"owner {found.st_uid}")
    others = stat.S_IWOTH | (0 if found.st_gid == os.getegid() else stat.S_IWGRP)
    # In a sticky directory nobody replaces what is another's.
    if found.st_mode & others and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
        raise ConfigError(
            str(path),
            expected="what nobody else can write",
            found=f"mode {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod go-w {path}",
        )


def _unusable(path: Path, expected: str, error: OSError) -> ConfigError:
    return ConfigError(str(path), expected=expected, found=error.strerror or type(error).__name__)
