"""Makes commits durable: one thread, one fdatasync for everybody who waits, and none ever again after a failure.

SQLite's own commits (WAL, synchronous=NORMAL) reach the kernel but not the disk. Once the file that they were
appended to is synced, they survive the machine too, and a commit costs its session no sync of its own.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from bastion.errors import RecordingError


class Syncer:
    """Syncs the write-ahead log of one store, as long as it and the database are the files that they were."""

    def __init__(self, database: Path, wal: Path, *, fdatasync: Callable[[int], None] = os.fdatasync) -> None:
        self._fdatasync = fdatasync
        self._fd = os.open(wal, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._files = {path: path.stat().st_ino for path in (database, wal)}
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._wake = threading.Condition()
        self._failure = ""
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    async def synced(self) -> None:
        """Return when everything that was committed before the call is durable; raise `RecordingError` otherwise."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._wake:
            if self._failure:
                raise RecordingError(self._failure)
            self._waiting.append((loop, done))
            self._wake.notify()
        await done

    def missing(self) -> str:
        """Return what became of the files that are written to, or an empty string: nobody will find what they hold."""
        for path, inode in self._files.items():
            try:
                found = path.stat().st_ino
            except OSError as error:
                return f"the recording's {path.name} cannot be found any more: {error.strerror}"
            if found != inode:
                return f"the recording's {path.name} was replaced"
        return ""

    def close(self) -> None:
        """Sync once more and end the thread."""
        with self._wake:
            self._ends = True
            self._wake.notify()
        self._thread.join()
        os.close(self._fd)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._ends:
                    self._wake.wait()
                waiting, self._waiting = self._waiting, []
                if not waiting and self._ends:
                    self._failure = self._failure or self._sync()
                    return
            failure = self._failure or self._sync()
            if failure:
                # A failed sync may have dropped what it could not write: a second one that succeeds proves nothing.
                self._failure = failure
            for loop, done in waiting:
                with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_settle, done, failure)

    def _sync(self) -> str:
        try:
            if missing := self.missing():
                return missing
            self._fdatasync(self._fd)
        except OSError as error:
            return f"the recording cannot be synced: {error.strerror or error}"
        return ""


def _settle(done: "asyncio.Future[None]", failure: str) -> None:
    if done.cancelled():
        return
    if failure:
        done.set_exception(RecordingError(failure))
    else:
        done.set_result(None)
