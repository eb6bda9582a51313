"""What COPY … TO STDOUT sends, with some of its fields covered: text, CSV and binary, however it is cut into messages.

PostgreSQL sends a row a message, but the documentation does not promise it: what is unfinished is kept, within a bound.
Only what reads as rows of the format is returned, so a deviation from it is an error and never passes.
See "File Formats" of COPY in PostgreSQL's documentation.
"""

import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from bastion.errors import LimitExceeded, ProtocolError
from bastion.protocols.postgres.covering.rows import Constant, Covering, cell
from bastion.protocols.postgres.messages import COPY_DATA, HEADER, frame

ROW_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one row."""
_REREADS: Final = 8
"""How many times over a whole limit of unfinished bytes is read again before we give up on a peer that dribbles."""

_ESCAPED: Final = {b"\b": b"b", b"\f": b"f", b"\n": b"n", b"\r": b"r", b"\t": b"t", b"\v": b"v", b"\\": b"\\"}
_MEANT: Final = {letter: character for character, letter in _ESCAPED.items()}

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_PREAMBLE: Final = _SIGNATURE + bytes(8)
"""The signature, no flags and no header extension: what every supported version sends."""
_COUNT: Final = Struct(">h")
_LENGTH: Final = Struct(">i")
_TRAILER: Final = -1


class Form(enum.Enum):
    """The format that a COPY asks for."""

    TEXT = "text"
    CSV = "csv"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class CopyFormat:
    """The options of a COPY that say how its rows are written. Single bytes, as the target takes them."""

    form: Form = Form.TEXT
    header: bool = False
    delimiter: bytes = b""
    """A tab or a comma unless it is given; likewise below."""
    null: bytes | None = None
    quote: bytes = b'"'
    escape: bytes = b""
    """The quote unless it is given."""


class Copied(ABC):
    """One stream of copied rows: bytes in as they come, whole rows out."""

    def __init__(self, coverings: Sequence[Covering | None], limit: int = ROW_LIMIT) -> None:
        self._coverings = coverings
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self._reread = 0
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Return the rows that `data` completes, covered; keep the rest. Raises `ProtocolError`."""
        self._size += len(data)
        self._held.append(data)
        if not self._ready(data):
            if self._size > self._limit:
                raise LimitExceeded(f"a row of more than the {self._limit} bytes that we hold")
            return b""
        whole = b"".join(self._held) if len(self._held) > 1 else data
        pieces: list[bytes] = []
        end = self._rows(whole, pieces)
        rest = whole[end:]
        if len(rest) > self._limit:
            raise LimitExceeded(f"a row of more than the {self._limit} bytes that we hold")
        self._reread = 0 if end else self._reread + len(rest)
        if self._reread > _REREADS * self._limit:
            raise LimitExceeded("a row in too many pieces")
        self._held = [rest] if rest else []
        self._size = len(rest)
        return b"".join(pieces)

    def finish(self) -> None:
        """Take note of the stream's end; raise `ProtocolError` if a row or what must come before it is unfinished."""
        if self._size:
            raise ProtocolError("expected the copied data to end with a row")

    @abstractmethod
    def _ready(self, data: bytes) -> bool:
        """Tell whether a row may be complete now that `data` has come."""

    @abstractmethod
    def _rows(self, data: bytes, pieces: list[bytes]) -> int:
        """Add the whole rows of `data` to `pieces`, covered, and return where they end."""


def copied(layout: CopyFormat, coverings: Sequence[Covering | None], limit: int = ROW_LIMIT) -> Copied:
    """Return what reads one stream in that format; there is one covering, or None, for each of its columns."""
    match layout.form:
        case Form.BINARY:
            return _Binary(coverings, limit)
        case Form.CSV:
            return _Lines(_Csv(layout), layout.header, coverings, limit)
        case Form.TEXT:
            return _Lines(_Text(layout), layout.header, coverings, limit)


def cover_copied(data: bytes, start: int, end: int, stream: Copied) -> bytes:
    """Return the whole CopyData messages from `start` to `end` with what they carry passed through `stream`.

    Messages stay messages: there are clients that take each for a row.
    """
    pieces: list[bytes] = []
    at = start
    while at < end:
        if at + 5 > end:
            raise ProtocolError("expected whole messages of copied data")
        tag, length = HEADER.unpack_from(data, at)
        following = at + 1 + length
        if tag != COPY_DATA or length < 4 or following > end:
            raise ProtocolError("expected whole messages of copied data")
        covered = stream.feed(data[at + 5 : following])
        if covered:
            pieces.append(frame(COPY_DATA, covered))
        at = following
    return b"".join(pieces)


class _Grammar(ABC):
    """How the fields of a format in lines are written."""

    field: bytes
    """A pattern of one field."""
    partial: bytes
    """A pattern of a field that may have been cut short at the end of the data."""
    delimiter: bytes
    null: bytes
    ambiguous = False
    """Whether NULL is written as a value could be: it may be somebody's guess at one, so it is covered likewise."""

    @abstractmethod
    def value(self, field: bytes) -> bytes:
        """Return what a field that is not NULL stands for."""

    @abstractmethod
    def field_of(self, value: bytes) -> bytes:
        """Return the field that stands for a value."""


class _Text(_Grammar):
    def __init__(self, layout: CopyFormat) -> None:
        self.delimiter = _single(layout.delimiter or b"\t")
        self.null = rb"\N" if layout.null is None else layout.null
        delimiter = re.escape(self.delimiter)
        ends = rb"(?=[\n" + delimiter + rb"])"
        escape = rb"\\[bfnrtv\\" + delimiter + rb"]"
        plain = rb"[^\\\r\n" + delimiter + rb"]*+"
        value = plain + rb"(?:" + escape + plain + rb")*+"
        self.ambiguous = bool(re.fullmatch(value, self.null))
        self.field = rb"(?:" + re.escape(self.null) + ends + rb"|" + value + rb")"
        # What is wrong with it shows when its newline has come.
        self.partial = rb"[^\n]*+"
        self._escape = re.compile(rb"\\(.)", re.DOTALL)
        self._special = re.compile(rb"[\b\f\n\r\t\v\\" + delimiter + rb"]")

    def value(self, field: bytes) -> bytes:
        if b"\\" not in field:
            return field
        return self._escape.sub(lambda found: _MEANT.get(found[1], found[1]), field)

    def field_of(self, value: bytes) -> bytes:
        return self._special.sub(lambda found: b"\\" + _ESCAPED.get(found[0], found[0]), value)


class _Csv(_Grammar):
    def __init__(self, layout: CopyFormat) -> None:
        self.delimiter = _single(layout.delimiter or b",")
        self.null = b"" if layout.null is None else layout.null
        self._quote = _single(layout.quote)
        self._escape = _single(layout.escape or layout.quote)
        quote, escape, delimiter = map(re.escape, (self._quote, self._escape, self.delimiter))
        plain = rb"[^" + quote + escape + rb"]*+"
        inside = plain + rb"(?:" + escape + rb"[" + quote + escape + rb"]" + plain + rb")*+"
        outside = rb"[^\r\n" + quote + delimiter + rb"]*+"
        self.field = rb"(?:" + quote + inside + quote + rb"|" + outside + rb")"
        self.partial = rb"(?:" + quote + inside + rb"(?:" + quote + rb"|" + escape + rb")?+|" + outside + rb")"
        self._special = re.compile(rb"[" + quote + escape + rb"]")
        self._escaped = re.compile(escape + rb"([" + quote + escape + rb"])")

    def value(self, field: bytes) -> bytes:
        if not field.startswith(self._quote):
            return field
        return self._escaped.sub(rb"\1", field[1:-1])

    def field_of(self, value: bytes) -> bytes:
        # Always quoted: so it can be neither NULL nor the end of the data, whatever the options.
        return self._quote + self._special.sub(lambda found: self._escape + found[0], value) + self._quote


class _Lines(Copied):
    """Rows that end with a newline."""

    def __init__(
        self, grammar: _Grammar, header: bool, coverings: Sequence[Covering | None], limit: int = ROW_LIMIT
    ) -> None:
        super().__init__(coverings, limit)
        self._header = header
        self._null = grammar.null
        self._value, self._field_of = grammar.value, grammar.field_of
        self._covered: list[tuple[int, Covering, bytes | None, bool]] = []
        fields: list[bytes] = []
        for covering in coverings:
            if covering is None:
                fields.append(grammar.field)
                continue
            constant = self._field(covering.value) if isinstance(covering, Constant) else None
            nulls = grammar.ambiguous or (isinstance(covering, Constant) and covering.nulls)
            fields.append(b"(" + grammar.field + b")")
            self._covered.append((len(self._covered) + 1, covering, constant, nulls))
        delimiter = re.escape(grammar.delimiter)
        self._row = re.compile(delimiter.join(fields) + rb"\n")
        several = rb"(?:" + grammar.field + delimiter + rb"){0,%d}" % max(len(coverings) - 1, 0)
        self._unfinished = re.compile(several + (grammar.partial if coverings else b"") + rb"\Z")

    def _ready(self, data: bytes) -> bool:
        return b"\n" in data

    def _rows(self, data: bytes, pieces: list[bytes]) -> int:
        match, put, covered, null = self._row.match, pieces.append, self._covered, self._null
        kept = at = 0
        if self._header and not self._begun:
            header = match(data)
            at = header.end() if header else 0
            self._begun = bool(header)
        while found := match(data, at):
            for group, covering, constant, nulls in covered:
                start, end = found.span(group)
                field = data[start:end]
                if field == null and not nulls:
                    continue
                replacement = constant if constant is not None else self._replaced(field, covering)
                put(data[kept:start])
                put(replacement)
                kept = end
            at = found.end()
        put(data[kept:at])
        if at < len(data) and not self._unfinished.match(data, at):
            raise ProtocolError("expected rows of as many columns as are copied, in the format that was asked for")
        return at

    def _replaced(self, field: bytes, covering: Covering) -> bytes:
        value = self._value(field)
        found = covering(value)
        return field if found is value else self._field(found)

    def _field(self, value: bytes | None) -> bytes:
        return self._null if value is None else self._field_of(value)


class _Binary(Copied):
    """Rows behind their number of fields, between a preamble and a trailer."""

    def __init__(self, coverings: Sequence[Covering | None], limit: int = ROW_LIMIT) -> None:
        super().__init__(coverings, limit)
        self._wanted = len(_PREAMBLE)
        self._ended = False

    def finish(self) -> None:
        """As for every stream; the trailer has to have come as well."""
        super().finish()
        if not self._ended:
            raise ProtocolError("expected the copied data to end with its trailer")

    def _ready(self, data: bytes) -> bool:
        return self._size >= self._wanted

    def _rows(self, data: bytes, pieces: list[bytes]) -> int:
        at = 0
        if not self._begun:
            if not data.startswith(_PREAMBLE):
                raise ProtocolError("expected the preamble of copied data in binary format")
            at = len(_PREAMBLE)
            pieces.append(_PREAMBLE)
            self._begun = True
        while at + 2 <= len(data):
            if self._ended:
                raise ProtocolError("expected nothing behind the trailer of the copied data")
            (count,) = _COUNT.unpack_from(data, at)
            if count == _TRAILER:
                self._ended = True
                pieces.append(data[at : at + 2])
                at += 2
                continue
            if count != len(self._coverings):
                raise ProtocolError("expected rows of as many columns as are copied")
            end = self._row(data, at, pieces)
            if not end:
                return at
            at = end
        self._wanted = 2
        if self._ended and at < len(data):
            raise ProtocolError("expected nothing behind the trailer of the copied data")
        return at

    def _row(self, data: bytes, start: int, pieces: list[bytes]) -> int:
        """Add one row and return where it ends, or 0 if it is not complete."""
        parts: list[bytes] = []
        kept, at, size_of_data = start, start + 2, len(data)
        for covering in self._coverings:
            if at + 4 > size_of_data:
                self._wanted = at + 4 - start
                return 0
            (size,) = _LENGTH.unpack_from(data, at)
            begun = at
            at += 4
            if size < -1:
                raise ProtocolError(f"expected the length of a field, found {size}")
            if size > self._limit:
                raise LimitExceeded(f"a field of {size} bytes is more than the {self._limit} that we hold")
            at += max(size, 0)
            if at > size_of_data:
                self._wanted = at - start
                return 0
            if covering is None or (size < 0 and not (isinstance(covering, Constant) and covering.nulls)):
                continue
            value = data[begun + 4 : at]
            found = covering(value)
            if size >= 0 and found is value:
                continue
            parts.append(data[kept:begun])
            parts.append(cell(found))
            kept = at
        pieces += parts
        pieces.append(data[kept:at])
        return at


def _single(character: bytes) -> bytes:
    if len(character) != 1:
        raise ProtocolError("expected a single byte to part, quote or escape the fields")
    return character
