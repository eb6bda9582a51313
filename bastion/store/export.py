"""Writes a recording as an asciicast (version 2) or as JSON lines. Pure: iterators in, lines out."""

from collections.abc import Iterable, Iterator

import orjson

from bastion.model.entry import Entry
from bastion.protocols.contract import Moment
from bastion.store.reader import SessionRow, record

WIDTH = 120
HEIGHT = 36


def asciicast(row: SessionRow, moments: Iterable[Moment]) -> Iterator[str]:
    """Yield the lines of an asciicast v2 file: a header, then `[seconds, "o", text]` in order of time."""
    header = {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "timestamp": row.started // 1_000_000,
        "title": f"{row.name} at {row.target}, session {row.id}",
    }
    yield orjson.dumps(header).decode() + "\n"
    elapsed = 0
    for moment in moments:
        elapsed = max(elapsed, moment.at - row.started)
        yield orjson.dumps([round(elapsed / 1_000_000, 6), "o", moment.text.replace("\n", "\r\n")]).decode() + "\n"


def json_lines(row: SessionRow, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the session's summary and each of its entries as one line of JSON."""
    yield orjson.dumps({"session": row.summary()}).decode() + "\n"
    for entry in entries:
        yield orjson.dumps(record(entry)).decode() + "\n"
