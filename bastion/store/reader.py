"""Reads recordings, on connections that cannot write."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import orjson

from bastion.errors import RecordingBroken, RecordingError
from bastion.model.entry import Entry
from bastion.store.database import STORE
from bastion.store.packing import entries, unpacked, unpacked_output
from bastion.store.spans import chunks

_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = (
    "id, issuer, subject, name, kind, actor, target, protocol, labels, reason, peer, client, started, ended, "
    "end_reason, entries, statements, denied, held, bytes"
)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session as the list of recordings shows it. Counts are complete once it has ended."""

    id: str
    issuer: str
    subject: str
    name: str
    kind: str
    actor: str
    target: str
    protocol: str
    labels: str
    reason: str
    peer: str
    client: str
    started: int
    ended: int | None
    end_reason: str | None
    entries: int
    statements: int
    denied: int
    held: int
    bytes: int

    def summary(self) -> dict[str, object]:
        """Return it as JSON values; times in ISO 8601."""
        found: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        found["labels"] = orjson.loads(self.labels)
        found["started"] = moment(self.started)
        found["ended"] = moment(self.ended) if self.ended is not None else None
        return found


class Reader:
    """A view of the store that cannot write. A context manager.

    It keeps no snapshot between calls, or else a slow reader would keep the write-ahead log from being emptied. What it
    reads only grows, so nothing is missed by that.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, directory: Path) -> "Reader":
        """Open the store in `directory`; raise `RecordingError` if there is none."""
        path = directory / STORE
        try:
            return cls(_connected(path))
        except sqlite3.Error as error:
            # While a gateway runs there is a log, and without one there is nothing that could be missed.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNWRITABLE or (directory / f"{STORE}-wal").exists():
                raise RecordingError(f"the store in {directory} cannot be read: {error}") from error
        try:
            # A copy where nothing can be written: nobody else writes it either, so no lock is needed.
            return cls(_connected(path, "&immutable=1"))
        except sqlite3.Error as error:
            raise RecordingError(f"the store in {directory} cannot be read: {error}") from error

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Hold the store still, as it is now: for who compares one table with another."""
        self._connection.execute("begin")
        try:
            yield self._connection
        finally:
            self._connection.execute("rollback")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the store go."""
        self._connection.close()

    def sessions(
        self,
        *,
        limit: int,
        before: str | None = None,
        target: str | None = None,
        subject: str | None = None,
        owner: tuple[str, str] | None = None,
    ) -> list[SessionRow]:
        """Return sessions, newest first: those older than `before`, of `owner` (issuer, subject) where it is given."""
        where: list[str] = ["1"]
        values: list[object] = []
        if before is not None:
            where.append("id < ?")
            values.append(before)
        if target is not None:
            where.append("target = ?")
            values.append(target)
        if subject is not None:
            where.append("(subject = ? or name = ?)")
            values += [subject, subject]
        if owner is not None:
            where.append("issuer = ? and subject = ?")
            values += owner
        statement = f"select {_COLUMNS} from sessions where {' and '.join(where)} order by id desc limit ?"  # noqa: S608 - only our own words
        return [SessionRow(*row) for row in self._rows(statement, (*values, limit))]

    def session(self, name: str) -> SessionRow | None:
        """Return the session of that id, or None."""
        rows = self._rows(f"select {_COLUMNS} from sessions where id = ?", (name,))  # noqa: S608 - only our own words
        return next((SessionRow(*row) for row in rows), None)

    def entries(self, session: str, *, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Yield a session's entries in order; raise `RecordingBroken` at one that is unreadable."""
        given = 0
        try:
            for chunk in chunks(self._connection, session, after):
                # A query for each, so that no statement stays open while the caller is busy with what it was given.
                for entry in self._chunk(session, chunk):
                    if entry.seq > after:
                        if given == limit:
                            return
                        given += 1
                        yield entry
        except ValueError as error:
            raise RecordingBroken(session, 0, f"where session {session} lies is not readable: {error}") from None

    def _chunk(self, session: str, chunk: int) -> list[Entry]:
        row = self._connection.execute(
            "select first, count, packing, body from chunks where id = ? and session = ?", (chunk, session)
        ).fetchone()
        if row is None:
            raise RecordingBroken(session, 0, f"a chunk of session {session} is missing")
        first, count, packing, body = row
        try:
            found = list(entries(unpacked(packing, body)))
        except ValueError as error:
            raise RecordingBroken(session, first, f"entry {first} of session {session}: {error}") from None
        if [entry.seq for entry in found] != list(range(first, first + count)):
            raise RecordingBroken(session, first, f"the chunk of session {session} at entry {first} was changed")
        return found

    def policy(self, version: str) -> str | None:
        """Return the text of a policy, or None."""
        return next((row[0] for row in self._rows("select text from policies where version = ?", (version,))), None)

    def _rows(self, statement: str, values: tuple[Any, ...]) -> Iterator[Any]:
        return iter(self._connection.execute(statement, values))


def record(entry: Entry) -> dict[str, object]:
    """Return an entry as JSON values; output is told by its size."""
    said = {"bytes": len(shown(entry).data)} if entry.kind == "output" else _json(entry.data)
    return {"seq": entry.seq, "at": moment(entry.at), "kind": entry.kind, "data": said}


def shown(entry: Entry) -> Entry:
    """Return an entry with its output unpacked, as a protocol's transcript reads it."""
    if entry.kind != "output":
        return entry
    try:
        return Entry(entry.seq, entry.at, entry.kind, unpacked_output(entry.data))
    except ValueError as error:
        raise RecordingBroken("", entry.seq, f"entry {entry.seq} is not readable as output: {error}") from None


def moment(at: int) -> str:
    """Return microseconds since the epoch in ISO 8601, or as they are where no date is that far away."""
    try:
        return (_EPOCH + timedelta(microseconds=at)).isoformat()
    except OverflowError:
        return f"{at} \N{MICRO SIGN}s"


def _json(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"unreadable": data.hex()}


def _connected(path: Path, more: str = "") -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro{more}", uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
    )
    try:
        connection.execute("pragma query_only = on")
        connection.execute("select 1 from sessions limit 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
