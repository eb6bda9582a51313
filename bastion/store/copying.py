"""Copies the write-ahead log into the database, beside the writer, and empties it before it grows large.

A log that is only ever copied never shrinks under a steady load, because something was always appended meanwhile;
emptying it holds the writer up for as long as the last few pages take. Whoever reads keeps the log from being
emptied, so readers keep no snapshot longer than they need it.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

_WORTH_COPYING = 8 * 1024 * 1024
_WORTH_EMPTYING = 16 * 1024 * 1024
_ATTEMPTS = 8
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Copier:
    """Copies when enough was appended, in a thread of its own; `report` hears, in that thread, why it failed."""

    def __init__(self, database: Path, wal: Path, report: Callable[[str], None]) -> None:
        self._database = database
        self._wal = wal
        self._report = report
        self._appended = 0
        self._thread: threading.Thread | None = None

    def appended(self, size: int) -> None:
        """Take note that about so many bytes were committed."""
        self._appended += size
        if self._appended > _WORTH_COPYING and (self._thread is None or not self._thread.is_alive()):
            self._appended = 0
            self._thread = threading.Thread(target=self._run, name="copy", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for a copy that is under way."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._copy()
        except sqlite3.Error as error:
            # Being locked out is no failure: the next copy takes what this one left.
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in _LOCKED:
                self._report(f"the recording's write-ahead log cannot be copied: {error}")
        except OSError as error:
            self._report(f"the recording's write-ahead log cannot be copied: {error}")

    def _copy(self) -> None:
        # Without a timeout, so that waiting for a reader never holds the writer up.
        connection = sqlite3.connect(self._database, isolation_level=None, timeout=0)
        try:
            connection.execute("pragma wal_checkpoint(passive)").fetchone()
            if self._wal.stat().st_size < _WORTH_EMPTYING:
                return
            for _ in range(_ATTEMPTS):
                (busy, _, _) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
                if not busy:
                    return
        finally:
            connection.close()
