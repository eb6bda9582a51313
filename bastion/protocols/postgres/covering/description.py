"""What a target says about the columns of a result, read whole. See RowDescription and CopyOutResponse."""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from bastion.errors import ProtocolError

_COUNT: Final = Struct(">H")
_COLUMN: Final = Struct(">IhIhih")
_COPY: Final = Struct(">bH")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result."""

    name: str
    relation: int
    """The OID of the table that it comes from unchanged, or 0."""
    number: int
    """Its number in that table, or 0."""
    type: int
    """The OID of its type; of a domain, that of what it is made of."""
    modifier: int
    """As `pg_attribute.atttypmod`; -1 for none."""
    binary: bool
    """False in the description of a statement that is not bound yet."""


def read_description(data: bytes, start: int, end: int) -> tuple[Column, ...]:
    """Return the columns that a RowDescription message describes."""
    if start + 7 > end:
        raise ProtocolError("expected RowDescription to say how many columns it describes")
    (count,) = _COUNT.unpack_from(data, start + 5)
    at = start + 7
    columns: list[Column] = []
    for _ in range(count):
        stop = data.find(b"\0", at, end)
        if stop < 0 or stop + 1 + _COLUMN.size > end:
            raise ProtocolError("expected the columns to end within their description")
        relation, number, oid, _, modifier, form = _COLUMN.unpack_from(data, stop + 1)
        name = data[at:stop].decode("utf-8", "surrogateescape")
        columns.append(Column(name, relation, number, oid, modifier, _is_binary(form)))
        at = stop + 1 + _COLUMN.size
    if at != end:
        raise ProtocolError("expected RowDescription to end after its columns")
    return tuple(columns)


def read_copy_out(data: bytes, start: int, end: int) -> tuple[bool, int]:
    """Return whether the data that a CopyOutResponse message announces is binary, and how many columns it has."""
    if start + 8 > end:
        raise ProtocolError("expected CopyOutResponse to say its format and how many columns it has")
    overall, count = _COPY.unpack_from(data, start + 5)
    if start + 8 + 2 * count != end:
        raise ProtocolError("expected CopyOutResponse to end after the formats of its columns")
    forms = Struct(f">{count}h").unpack_from(data, start + 8)
    binary = _is_binary(overall)
    if any(_is_binary(form) != binary for form in forms):
        raise ProtocolError("expected the columns of copied data to be in the one format of all of it")
    return binary, count


def _is_binary(form: int) -> bool:
    if form not in (0, 1):
        raise ProtocolError(f"expected a format of 0 or 1, found {form}")
    return form == 1
