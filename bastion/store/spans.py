"""Where a session's chunks lie: an index that is written from time to time, for many chunks at once.

A span holds the numbers of some of a session's chunks, in order. All chunks up to the *floor*, the last one that the
last span holds, are in spans; the few that are younger are found by looking at each. A reader needs no other trust in
spans than in any table: `verify` checks them against the chunks.
"""

import sqlite3
import struct
from collections.abc import Iterator

WORTH_WRITING = 4096
"""How many chunks may wait to be written into spans; as many, at most, has a reader to look at."""

SpanRow = tuple[str, int, int, bytes]
"""Session, number of the first entry, last chunk, chunks."""


class Spans:
    """The chunks that are in no span yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, list[int]]] = {}
        self.size = 0

    def add(self, session: str, first: int, chunk: int) -> None:
        """Take note of a chunk, which is younger than all before it, and of its first entry."""
        waiting = self._waiting.get(session)
        if waiting is None:
            waiting = self._waiting[session] = (first, [])
        waiting[1].append(chunk)
        self.size += 1

    def take(self) -> list[SpanRow]:
        """Return the spans to write, in the order to write them in, and begin anew."""
        waiting, self._waiting, self.size = self._waiting, {}, 0
        rows = [(session, first, chunks[-1], _packed(chunks)) for session, (first, chunks) in waiting.items()]
        return sorted(rows, key=lambda row: row[2])


def floor(connection: sqlite3.Connection) -> int:
    """Return the chunk up to which all are in spans."""
    found: tuple[int] | None = connection.execute("select last from spans order by id desc limit 1").fetchone()
    return found[0] if found else 0


def waiting(connection: sqlite3.Connection) -> Spans:
    """Return the chunks that an earlier gateway left in no span."""
    spans = Spans()
    rows = connection.execute("select session, first, id from chunks where id > ? order by id", (floor(connection),))
    for session, first, chunk in rows:
        spans.add(session, first, chunk)
    return spans


def chunks(connection: sqlite3.Connection, session: str, after: int = 0) -> Iterator[int]:
    """Yield a session's chunks in order, beginning with one that lies at or before the entry that follows `after`."""
    seen = floor(connection)  # read first: a span that is written meanwhile is then read, not skipped
    begin = connection.execute(
        "select max(first) from spans where session = ? and first <= ?", (session, after + 1)
    ).fetchone()[0]
    statement = "select first, last, chunks from spans where session = ? and first {} ? order by first limit 1"
    row = connection.execute(statement.format(">="), (session, begin or 0)).fetchone()
    while row is not None:
        first, last, packed = row
        seen = max(seen, last)
        yield from unpacked(packed)
        row = connection.execute(statement.format(">"), (session, first)).fetchone()
    young = "select id from chunks where id > ? and session = ? order by id"
    for (chunk,) in connection.execute(young, (seen, session)).fetchall():
        yield chunk


def last_chunk(connection: sqlite3.Connection, session: str) -> int | None:
    """Return a session's last chunk, or None."""
    row = connection.execute("select max(first) from spans where session = ?", (session,)).fetchone()
    last = None
    for chunk in chunks(connection, session, (row[0] or 1) - 1):
        last = chunk
    return last


def unpacked(packed: bytes) -> tuple[int, ...]:
    """Return the chunks that a span holds; raise `ValueError` if it is not one of ours."""
    if len(packed) % 8:
        raise ValueError("a span is cut off")
    return struct.unpack(f">{len(packed) // 8}q", packed)


def _packed(numbers: list[int]) -> bytes:
    return struct.pack(f">{len(numbers)}q", *numbers)
