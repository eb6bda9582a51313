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
_BEYOND = re.compile(r"[^\x20-\x7e]")
"""What JSON as orjson writes it holds in strings alone: what could act or hide, and what is only foreign."""


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
    """Yield the session's summary and each of its entries as one line of JSON, in ASCII: it may end on a terminal."""
    yield _plain({"session": row.summary()})
    for entry in entries:
        yield _plain(record(entry))


def _plain(value: object) -> str:
    return _BEYOND.sub(_escaped, orjson.dumps(value).decode()) + "\n"


def _escaped(match: re.Match[str]) -> str:
    point = ord(match[0])
    if point < 0x10000:
        return f"\\u{point:04x}"
    high, low = divmod(point - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def _writable(text: str) -> str:
    """Return text with what UTF-8 cannot hold replaced."""
    return text.encode("utf-8", "replace").decode()
