"""The store's file: made private, refused where it is not ours, its tables brought up to date."""

import os
import sqlite3
import stat
from pathlib import Path

from sqlite_utils import Database

from bastion.errors import RecordingError
from bastion.store.migrations import migrations

STORE = "store.db"
_BESIDE = ("-wal", "-shm", "-journal")


def connected(directory: Path) -> sqlite3.Connection:
    """Return a connection for the writer, to a store whose tables are current; make the store if there is none.

    Raises `RecordingError` for a store that is not ours or that a newer version made, `sqlite3.Error` for one that
    cannot be opened.
    """
    path = directory / STORE
    for name in (path, *(directory / (STORE + end) for end in _BESIDE)):
        _refuse_foreign(name)
    if not os.path.lexists(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
        if mode != "wal":
            raise RecordingError(f"the file system of {directory} cannot hold a store", hint="use a local disk")
        connection.execute("pragma synchronous = full")
        _migrate(connection, directory)
        connection.execute("pragma synchronous = normal")
        connection.execute("pragma wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, directory: Path) -> None:
    database = Database(connection)
    known = {migration.name for migration in migrations.pending(Database(memory=True))}
    if strange := {migration.name for migration in migrations.applied(database)} - known:
        raise RecordingError(f"the store in {directory} was made by a newer version, which added {min(strange)}")
    migrations.apply(database)
    if connection.in_transaction:
        connection.execute("commit")


def _refuse_foreign(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        raise RecordingError(f"{path} is not a file of ours alone")
    if found.st_mode & 0o077:
        raise RecordingError(f"{path} can be read by others", hint=f"chmod 600 {path}")
