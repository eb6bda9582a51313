"""A recorded PostgreSQL session as the person saw it, much as psql would have shown it.

Reads what the recording holds: the statements from what was judged, everything else from the bytes that went to the
client. COPY data on its way to the target is among those bytes, and shown as the lines it was typed or piped as.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from struct import Struct, error
from typing import Any, Final

from bastion.errors import ProtocolError
from bastion.model.entry import Entry
from bastion.model.text import visible
from bastion.protocols.contract import Moment
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.cells import NUMBERS, cell

_BATCH: Final = 500
"""Rows that are laid out together; a longer result goes on in columns of its own widths."""
_COUNT: Final = Struct(">H")
_LENGTH: Final = Struct(">i")

Column = tuple[str, int, bool]
"""A column's name, the OID of its type, and whether it comes in binary."""


class PostgresTranscript:
    """Implements `bastion.protocols.contract.Transcript`."""

    def __init__(self) -> None:
        self._rest = b""
        self._columns: list[Column] = []
        self._rows: list[list[bytes | None]] = []
        self._begun = False
        self._target = "?"

    def moments(self, entries: Iterable[Entry]) -> Iterator[Moment]:
        """Yield the session as terminal output."""
        for entry in entries:
            said = "".join(self._output(entry.data)) if entry.kind == "output" else self._told(entry)
            if said:
                yield Moment(entry.at, said)

    def _told(self, entry: Entry) -> str:
        tell = _TOLD.get(entry.kind)
        if tell is None:
            return ""
        detail = json.loads(entry.data)
        return tell(self, detail)

    def _opened(self, detail: dict[str, Any]) -> str:
        self._target = visible(str(detail.get("target", "?")))
        who = visible(str(detail.get("name") or detail.get("subject") or "?"))
        reason = visible(str(detail.get("reason") or ""))
        return f"-- {who} at {self._target}{': ' if reason else ''}{reason}\n"

    def _judged(self, detail: dict[str, Any]) -> str:
        first, *more = visible(str(detail.get("text", "")), lines=True).split("\n")
        lines = [f"{self._target}=> {first}", *(f"{self._target}-> {line}" for line in more)]
        for number, argument in enumerate(detail.get("arguments") or (), start=1):
            lines.append(f"-- ${number} = {_argument(argument)}")
        return "\n".join(lines) + "\n"

    def _settled(self, detail: dict[str, Any]) -> str:
        reason = visible(str(detail.get("reason") or ""))
        state = visible(str(detail.get("state", "")))
        return f"-- approval {visible(str(detail.get('approval', '')))} is {state}{': ' if reason else ''}{reason}\n"

    def _vote(self, detail: dict[str, Any]) -> str:
        who = visible(str(detail.get("name") or detail.get("subject") or "?"))
        verb = "approves" if detail.get("approves") else "denies"
        reason = visible(str(detail.get("reason") or ""))
        return f"-- {who} {verb} {visible(str(detail.get('approval', '')))}{': ' if reason else ''}{reason}\n"

    def _described(self, detail: dict[str, Any]) -> str:
        columns = detail.get("columns")
        if isinstance(columns, list):
            self._columns = [(visible(str(c[0])), int(c[1]), bool(c[2])) for c in columns]
        return ""

    def _closed(self, detail: dict[str, Any]) -> str:
        return "".join(self._table("")) + f"-- {visible(str(detail.get('reason', '')))}\n"

    # What went to the client.

    def _output(self, data: bytes) -> Iterator[str]:
        data = self._rest + data
        at = 0
        while at + 5 <= len(data):
            tag, length = m.HEADER.unpack_from(data, at)
            end = at + 1 + length
            if length < 4 or end > len(data):
                break
            show = _SHOWN.get(tag)
            if show is not None:
                try:
                    yield from show(self, data, at, end)
                except (ProtocolError, error, IndexError, ValueError) as problem:
                    yield f"-- a message of type {visible(chr(tag))} cannot be shown ({type(problem).__name__})\n"
            at = end
        self._rest = data[at:]

    def _row_description(self, data: bytes, start: int, end: int) -> Iterator[str]:
        columns = [(visible(name), oid, form == 1) for name, oid, form in m.read_columns(data, start, end)]
        self._columns = columns
        self._begun = False
        yield from ()

    def _row(self, data: bytes, start: int, end: int) -> Iterator[str]:
        (count,) = _COUNT.unpack_from(data, start + 5)
        at = start + 7
        values: list[bytes | None] = []
        for _ in range(count):
            (size,) = _LENGTH.unpack_from(data, at)
            at += 4
            if size < 0:
                values.append(None)
            else:
                values.append(data[at : at + size])
                at += size
        if at != end:
            raise ProtocolError("expected the row to end with its last value")
        if self._rows and len(self._rows[0]) != count:
            yield from self._laid_out()
        self._rows.append(values)
        if len(self._rows) >= _BATCH:
            yield from self._laid_out()

    def _laid_out(self) -> Iterator[str]:
        """Yield the rows that came so far, below the names of their columns if those were not shown yet."""
        rows, self._rows = self._rows, []
        known = self._columns
        if rows and len(known) != len(rows[0]):
            # Rows whose description did not pass in this session's output: text where it is, bytes where it is not.
            known = [(f"column {n}", 0, False) for n in range(1, len(rows[0]) + 1)]
        cells = [[cell(v, oid, binary) for v, (_, oid, binary) in zip(row, known, strict=True)] for row in rows]
        names = [name for name, _, _ in known]
        shown = cells if self._begun else [names, *cells]
        if not names:
            return
        widths = [max((len(line[at]) for line in shown), default=0) for at in range(len(names))]
        if not self._begun:
            self._begun = True
            yield "|".join(f" {n:^{w}} " for n, w in zip(names, widths, strict=True)).rstrip() + "\n"
            yield "+".join("-" * (w + 2) for w in widths) + "\n"
        rights = [oid in NUMBERS for _, oid, _ in known]
        for line in cells:
            parts = (
                f" {c:>{w}} " if right else f" {c:<{w}} " for c, w, right in zip(line, widths, rights, strict=True)
            )
            yield "|".join(parts).rstrip() + "\n"

    def _table(self, tag: str) -> Iterator[str]:
        """Yield what is left of a result, and its tag."""
        is_result = bool(self._rows) or self._begun
        if self._rows or (self._columns and tag.startswith(("SELECT", "FETCH", "SHOW", "EXPLAIN"))):
            yield from self._laid_out()
            is_result = True
        self._rows, self._begun = [], False
        if is_result and tag.startswith("SELECT "):
            count = tag.removeprefix("SELECT ")
            yield f"({count} row{'' if count == '1' else 's'})\n\n"
        elif tag:
            yield f"{visible(tag)}\n"

    def _complete(self, data: bytes, start: int, end: int) -> Iterator[str]:
        yield from self._table(m.read_tag(data, start, end))

    def _suspended(self, data: bytes, start: int, end: int) -> Iterator[str]:
        yield from self._laid_out()
        yield "-- more rows are left\n"

    def _said(self, data: bytes, start: int, end: int) -> Iterator[str]:
        """Yield an error or a notice as psql words it."""
        yield from self._table("")
        fields = {k: visible(v.decode("utf-8", "surrogateescape")) for k, v in m.read_fields(data, start, end).items()}
        severity = fields.get("S") or fields.get("V") or "MESSAGE"
        yield f"{severity}:  {fields.get('M', '')}\n"
        for key, name in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
            if fields.get(key):
                yield f"{name}:  {fields[key]}\n"

    def _notified(self, data: bytes, start: int, end: int) -> Iterator[str]:
        channel, payload, *_ = data[start + 9 : end].split(b"\0")
        name, text = (visible(part.decode("utf-8", "surrogateescape")) for part in (channel, payload))
        yield f'Asynchronous notification "{name}"{f" with payload {text}" if text else ""} received.\n'

    def _copied(self, data: bytes, start: int, end: int) -> Iterator[str]:
        text = data[start + 5 : end].decode("utf-8", "surrogateescape")
        yield visible(text.removesuffix("\n"), lines=True) + "\n"


_TOLD: Final[dict[str, Callable[[PostgresTranscript, dict[str, Any]], str]]] = {
    "opened": PostgresTranscript._opened,
    "judged": PostgresTranscript._judged,
    "vote": PostgresTranscript._vote,
    "settled": PostgresTranscript._settled,
    "columns": PostgresTranscript._described,
    "closed": PostgresTranscript._closed,
}

_SHOWN: Final[dict[int, Callable[[PostgresTranscript, bytes, int, int], Iterator[str]]]] = {
    m.ROW_DESCRIPTION: PostgresTranscript._row_description,
    m.DATA_ROW: PostgresTranscript._row,
    m.COMMAND_COMPLETE: PostgresTranscript._complete,
    m.PORTAL_SUSPENDED: PostgresTranscript._suspended,
    m.ERROR_RESPONSE: PostgresTranscript._said,
    m.NOTICE_RESPONSE: PostgresTranscript._said,
    m.NOTIFICATION_RESPONSE: PostgresTranscript._notified,
    m.COPY_DATA: PostgresTranscript._copied,
}


def _argument(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case {"hex": str(digits)}:
            return visible("\\x") + digits
        case _:
            return visible(str(value))
