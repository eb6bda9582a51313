"""How a COPY writes its rows: its options, and the fields of the formats that are lines.

The patterns take what PostgreSQL writes, not all that it would read. None of them tries a byte twice.
"""

import enum
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from bastion.errors import ProtocolError

_ESCAPED: Final = {b"\b": b"b", b"\f": b"f", b"\n": b"n", b"\r": b"r", b"\t": b"t", b"\v": b"v", b"\\": b"\\"}
_MEANT: Final = {letter: character for character, letter in _ESCAPED.items()}


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


class Grammar(ABC):
    """How the fields of a format in lines are written."""

    field: bytes
    """A pattern of one field. It matches in one way only, so that a row that does not match fails at once."""
    delimiter: bytes
    null: bytes
    ambiguous = False
    """Whether NULL is written as a value could be: it may be somebody's guess at one, so it is covered likewise."""

    @abstractmethod
    def unfinished(self, width: int) -> bytes:
        """Return a pattern of a row of so many fields that is cut short."""

    @abstractmethod
    def value(self, field: bytes) -> bytes:
        """Return what a field that is not NULL stands for."""

    @abstractmethod
    def field_of(self, value: bytes) -> bytes:
        """Return the field that stands for a value."""


class TextGrammar(Grammar):
    """Fields in which a backslash takes the meaning from what follows it, or gives it one."""

    def __init__(self, layout: CopyFormat) -> None:
        self.delimiter = _single(layout.delimiter or b"\t")
        self.null = rb"\N" if layout.null is None else layout.null
        delimiter = re.escape(self.delimiter)
        plain = rb"[^\\\r\n" + delimiter + rb"]*+"
        value = plain + rb"(?:\\[bfnrtv\\" + delimiter + rb"]" + plain + rb")*+"
        self.ambiguous = bool(re.fullmatch(value, self.null))
        null = re.escape(self.null) + rb"(?=[\n" + delimiter + rb"])"
        self.field = value if self.ambiguous else rb"(?:" + null + rb"|" + value + rb")"
        self._escape = re.compile(rb"\\(.)", re.DOTALL)
        self._special = re.compile(rb"[\b\f\n\r\t\v\\" + delimiter + rb"]")

    def unfinished(self, width: int) -> bytes:
        """Return a pattern of whatever has no newline: what is wrong with it shows when that has come."""
        return rb"[^\n]*+\Z"

    def value(self, field: bytes) -> bytes:
        """Return a field with its escapes resolved."""
        if b"\\" not in field:
            return field
        return self._escape.sub(lambda found: _MEANT.get(found[1], found[1]), field)

    def field_of(self, value: bytes) -> bytes:
        """Return a value with escapes for what must not stand in a field."""
        return self._special.sub(lambda found: b"\\" + _ESCAPED.get(found[0], found[0]), value)


class CsvGrammar(Grammar):
    """Fields that are quoted where they have to be, in which anything can stand."""

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
        self._partial = rb"(?:" + quote + inside + rb"(?:" + quote + rb"|" + escape + rb")?+|" + outside + rb")\Z"
        self._special = re.compile(rb"[" + quote + escape + rb"]")
        self._escaped = re.compile(escape + rb"([" + quote + escape + rb"])")

    def unfinished(self, width: int) -> bytes:
        """Return a pattern of at most as many fields, the last of them perhaps cut short: newlines can be in it."""
        return rb"(?:" + self.field + re.escape(self.delimiter) + rb"){0,%d}" % max(width - 1, 0) + self._partial

    def value(self, field: bytes) -> bytes:
        """Return a field without its quotes, if it has any."""
        if not field.startswith(self._quote):
            return field
        return self._escaped.sub(rb"\1", field[1:-1])

    def field_of(self, value: bytes) -> bytes:
        """Return a value in quotes: so it cannot be NULL or the end of the data, whatever the options."""
        return self._quote + self._special.sub(lambda found: self._escape + found[0], value) + self._quote


def _single(character: bytes) -> bytes:
    if len(character) != 1:
        raise ProtocolError("expected a single byte to part, quote or escape the fields")
    return character
