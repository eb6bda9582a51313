"""What COPY … TO STDOUT sends, with some of its fields covered: text, CSV and binary, however it is cut into messages.

PostgreSQL sends a row a message, but the documentation does not promise it: what is unfinished is kept, within a bound.
Only what reads as rows of the format is returned, so a deviation from it is an error and never passes.
See "File Formats" of COPY in PostgreSQL's documentation.
"""

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from struct import Struct
from typing import Final

from bastion.errors import LimitExceeded, ProtocolError
from bastion.protocols.postgres.covering.grammar import CopyFormat, CsvGrammar, Form, Grammar, TextGrammar
from bastion.protocols.postgres.covering.rows import Constant, Covering, cell, cover_rows
from bastion.protocols.postgres.messages import COPY_DATA, HEADER, frame

ROW_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one row."""
_REREADS: Final = 8
"""How many times over a whole limit of unfinished bytes is read again before we give up on a peer that dribbles."""

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_PREAMBLE: Final = _SIGNATURE + bytes(8)
"""The signature, no flags and no header extension: what every supported version sends."""
_COUNT: Final = Struct(">h")
_LENGTH: Final = Struct(">i")
_TRAILER: Final = -1


class Copied(ABC):
    """One stream of copied rows: bytes in as they come, whole rows out."""

    def __init__(self, coverings: Sequence[Covering | None], limit: int = ROW_LIMIT) -> None:
        self._coverings = coverings
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0
        self._reread = 0
        self._begun = False
        """Whether what comes before the rows has come."""

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

    def cover(self, data: bytes, start: int, end: int) -> bytes:
        """Return the whole CopyData messages from `start` to `end` with what they carry covered.

        Messages stay messages: there are clients that take each for a row.
        """
        if self._begun and not self._held and (covered := self._row_by_row(data, start, end)) is not None:
            return covered
        pieces: list[bytes] = []
        at = start
        while at < end:
            following = at + 1 + HEADER.unpack_from(data, at)[1] if at + 5 <= end else at
            if data[at] != COPY_DATA or not at + 5 <= following <= end:
                raise ProtocolError("expected whole messages of copied data")
            if rows := self.feed(data[at + 5 : following]):
                pieces.append(frame(COPY_DATA, rows))
            at = following
        return b"".join(pieces)

    @property
    def unfinished(self) -> bool:
        """Whether a part of a row is kept."""
        return bool(self._held)

    def finish(self) -> None:
        """Take note of the stream's end; raise `ProtocolError` if a row or what must come before it is unfinished."""
        if self._size:
            raise ProtocolError("expected the copied data to end with a row")

    @abstractmethod
    def _row_by_row(self, data: bytes, start: int, end: int) -> bytes | None:
        """Return what `cover` does, or None where it is not one whole row a message, as PostgreSQL sends them."""

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
            return _Lines(CsvGrammar(layout), layout.header, coverings, limit)
        case Form.TEXT:
            return _Lines(TextGrammar(layout), layout.header, coverings, limit)


class _Lines(Copied):
    """Rows that end with a newline."""

    def __init__(
        self, grammar: Grammar, header: bool, coverings: Sequence[Covering | None], limit: int = ROW_LIMIT
    ) -> None:
        super().__init__(coverings, limit)
        self._begun = not header
        self._null = grammar.null
        self._value, self._field_of = grammar.value, grammar.field_of
        self._row = re.compile(_pattern(grammar, [covering is not None for covering in coverings]))
        self._unfinished = re.compile(grammar.unfinished(len(coverings)))
        self._covered: list[tuple[int, Covering, bytes | None, bool]] = []
        """Of each covered field its group in the pattern, its covering, a constant, and whether NULL is covered."""
        for group, covering in enumerate(filter(None, coverings), start=1):
            constant = self._field(covering.value) if isinstance(covering, Constant) else None
            nulls = grammar.ambiguous or (isinstance(covering, Constant) and covering.nulls)
            self._covered.append((group, covering, constant, nulls))

    def _row_by_row(self, data: bytes, start: int, end: int) -> bytes | None:
        match, unpack, pack = self._row.match, HEADER.unpack_from, HEADER.pack
        pieces: list[bytes] = []
        kept = at = start
        while at + 5 < end:
            tag, length = unpack(data, at)
            following = at + 1 + length
            found = match(data, at + 5, following)
            if tag != COPY_DATA or following > end or found is None or found.end() != following:
                return None
            pieces.append(data[kept:at])
            head = len(pieces)
            pieces.append(b"")
            kept, grown = self._fields(data, found, at + 5, pieces)
            pieces[head] = pack(COPY_DATA, length + grown)
            at = following
        if at != end:
            return None
        pieces.append(data[kept:at])
        return b"".join(pieces)

    def _ready(self, data: bytes) -> bool:
        return b"\n" in data

    def _rows(self, data: bytes, pieces: list[bytes]) -> int:
        match = self._row.match
        kept = at = 0
        if not self._begun:
            header = match(data)
            at = header.end() if header else 0
            self._begun = bool(header)
        while found := match(data, at):
            kept, _ = self._fields(data, found, kept, pieces)
            at = found.end()
        pieces.append(data[kept:at])
        if at < len(data) and not self._unfinished.match(data, at):
            raise ProtocolError("expected rows of as many columns as are copied, in the format that was asked for")
        return at

    def _fields(self, data: bytes, row: re.Match[bytes], kept: int, pieces: list[bytes]) -> tuple[int, int]:
        """Add a row up to its last covered field, and what is before it from `kept` on.

        Return where that ends, and by how many bytes the row has grown.
        """
        grown = 0
        null = self._null
        for group, covering, constant, nulls in self._covered:
            begun, ended = row.span(group)
            field = data[begun:ended]
            if field == null and not nulls:
                continue
            covered = constant if constant is not None else self._replaced(field, covering)
            pieces.append(data[kept:begun])
            pieces.append(covered)
            grown += len(covered) - (ended - begun)
            kept = ended
        return kept, grown

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

    def _row_by_row(self, data: bytes, start: int, end: int) -> bytes | None:
        try:
            return None if self._ended else cover_rows(data, start, end, self._coverings, COPY_DATA)
        except ProtocolError:
            # Read by the field, it is either rows in other pieces, or refused for good.
            return None

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


def _pattern(grammar: Grammar, covered: Sequence[bool]) -> bytes:
    """Return the pattern of a row, with a group for each covered field."""
    field, delimiter = grammar.field, re.escape(grammar.delimiter)
    pattern: list[bytes] = []
    for is_covered, run in itertools.groupby(covered[:-1]):
        count = len(list(run))
        if is_covered:
            pattern += [b"(" + field + b")" + delimiter] * count
        else:
            # As a repetition, since a pattern of a thousand fields would take seconds to compile.
            pattern.append(rb"(?:%b%b){%d}" % (field, delimiter, count))
    pattern += [b"(" + field + b")" if last else field for last in covered[-1:]]
    return b"".join(pattern) + rb"\n"
