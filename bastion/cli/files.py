"""Files that commands write for people: new, private, and whole or not there at all."""

import os
from collections.abc import Iterable
from pathlib import Path

from bastion.errors import UsageError


def write_new(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that does not exist yet, readable by its owner alone; return its size."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="name another file, or remove it first") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    size = 0
    try:
        with os.fdopen(fd, "wb") as file:
            for piece in pieces:
                size += file.write(piece)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return size
