"""Feeds single-use tickets to a client that opens several connections and knows one password file.

libpq reads the file anew for each connection. Whenever it has been read and closed, the next ticket takes its place;
that holds for clients which open their connections one after another, as pgbench does with one thread.
"""

import ctypes
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_IN_CLOSE_NOWRITE = 0x10
_EVENT = struct.Struct("iIII")


@contextmanager
def fed(path: Path, tickets: Sequence[str]) -> Iterator[Path]:
    """Keep a password file at `path` that holds one ticket after another, as long as the block runs."""
    lines = [f"*:*:*:*:{ticket}\n".encode() for ticket in tickets]
    assert len({len(line) for line in lines}) == 1
    path.touch(mode=0o600)
    path.write_bytes(lines[0])
    libc = ctypes.CDLL(None, use_errno=True)
    watch, (ended, end) = libc.inotify_init1(os.O_CLOEXEC), os.pipe()
    assert libc.inotify_add_watch(watch, os.fsencode(path), _IN_CLOSE_NOWRITE) >= 0
    feeder = threading.Thread(target=_feed, args=(path, lines[1:], watch, ended), daemon=True)
    feeder.start()
    try:
        yield path
    finally:
        os.close(end)
        feeder.join()
        for fd in (watch, ended):
            os.close(fd)
        path.unlink()


def _feed(path: Path, lines: Sequence[bytes], watch: int, ended: int) -> None:
    import select

    following = iter(lines)
    with path.open("r+b", buffering=0) as file:
        while watch in select.select([watch, ended], [], [])[0]:
            events = len(os.read(watch, 4096)) // _EVENT.size
            for _ in range(events):
                if (line := next(following, None)) is not None:
                    os.pwrite(file.fileno(), line, 0)
