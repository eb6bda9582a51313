"""Writes a recording as an asciicast (version 2) or as JSON lines. Pure: iterators in, lines out.

Format: https://docs.asciinema.org/manual/asciicast/v2/. Times never run backwards there, whatever the clock did.
"""

import re
from collections.abc import Iterable, Iterator

import orjson

from bastion.model.entry import Entry
from bastion.model.text import visible
from bastion.protocols.contract import Moment
from bastion.store.reader import SessionRow, record

WIDTH = 120
HEIGHT = 36
_LINE_END = re.compile(r"\r*\n")


def asciicast(row: SessionRow, moments: Iterable[Moment]) -> Iterator[str]:
    """Yield the lines of an asciicast v2 file: a header, then `[seconds, "o", text]` in order of time."""
    header = {
        "version": 2,
        "width": WIDTH,
        "height": HEIGHT,
        "timestamp": row.started // 1_000_000,
        "title": _writable(visible(f"{row.name} at {row.target}, session {row.id}")),
    }
    yield orjson.dumps(header).decode() + "\n"
    elapsed = 0
    for moment in moments:
        elapsed = max(elapsed, moment.at - row.started)
        text = _LINE_END.sub("\r\n", _writable(moment.text))
        yield orjson.dumps([round(elapsed / 1_000_000, 6), "o", text]).decode() + "\n"


def json_lines(row: SessionRow, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the session's summary and each of its entries as one line of JSON."""
    yield orjson.dumps({"session": row.summary()}).decode() + "\n"
    for entry in entries:
        yield orjson.dumps(record(entry)).decode() + "\n"


def _writable(text: str) -> str:
    """Return text with what UTF-8 cannot hold replaced."""
    return text.encode("utf-8", "replace").decode()
