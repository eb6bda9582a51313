"""Reads recordings, on connections that cannot write."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import orjson

from bastion.errors import RecordingBroken, RecordingError
from bastion.model.entry import Entry
from bastion.store.packing import entries, unpacked, unpacked_output
from bastion.store.writer import STORE

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
    """A read-only view of the store as it was when the reader was opened. A context manager."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, directory: Path) -> "Reader":
        """Open the store in `directory`; raise `RecordingError` if there is none."""
        uri = f"file:{quote(str(directory / STORE))}?mode=ro"
        try:
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5.0, check_same_thread=False)
            connection.execute("pragma query_only = on")
            connection.execute("begin")
            connection.execute("select 1 from sessions limit 1").fetchone()
        except sqlite3.Error as error:
            raise RecordingError(f"the store in {directory} cannot be read: {error}") from error
        return cls(connection)

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
        chunks = self._rows(
            "select first, packing, body from chunks where session = ? and first + count > ? order by first",
            (session, after + 1),
        )
        for first, packing, body in chunks:
            try:
                found = list(entries(unpacked(packing, body)))
            except ValueError as error:
                raise RecordingBroken(session, first, f"entry {first} of session {session}: {error}") from None
            for entry in found:
                if entry.seq > after:
                    if given == limit:
                        return
                    given += 1
                    yield entry

    def policy(self, version: str) -> str | None:
        """Return the text of a policy, or None."""
        return next((row[0] for row in self._rows("select text from policies where version = ?", (version,))), None)

    def _rows(self, statement: str, values: tuple[Any, ...]) -> Iterator[Any]:
        return iter(self._connection.execute(statement, values))


def record(entry: Entry) -> dict[str, object]:
    """Return an entry as JSON values; output is told by its size."""
    said: object = {"bytes": len(unpacked_output(entry.data))} if entry.kind == "output" else _json(entry.data)
    return {"seq": entry.seq, "at": moment(entry.at), "kind": entry.kind, "data": said}


def shown(entry: Entry) -> Entry:
    """Return an entry with its output unpacked, as a protocol's transcript reads it."""
    if entry.kind != "output":
        return entry
    return Entry(entry.seq, entry.at, entry.kind, unpacked_output(entry.data))


def moment(at: int) -> str:
    """Return microseconds since the epoch in ISO 8601."""
    return datetime.fromtimestamp(at / 1_000_000, UTC).isoformat()


def _json(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return {"unreadable": data.hex()}
