"""Runs of DataRow messages, with some of their cells covered.

What is not covered is copied as it is, in one slice for neighbouring cells. A run that is not in every length what the
protocol says is refused whole: nothing of it is returned.

Plain loops over bytes and integers, which a compiler such as mypyc takes as they are.
"""

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, TypeAlias

from bastion.errors import ProtocolError

Covering: TypeAlias = Callable[[bytes], bytes | None]
"""Returns what stands in a cell's place; None stands for NULL. It never raises. A NULL is not given to it.

One that only covers what it finds returns the very object that it was given where it finds nothing.
"""

DATA_ROW: Final = ord("D")
_HEAD: Final = Struct(">BIH")
_LENGTH: Final = Struct(">i")
_SHORT: Final = bytes(3)
"""What the length of a cell of fewer than 256 bytes begins with."""
_LONGEST: Final = 0x7FFFFFFF
_NULL_LENGTH: Final = 0xFFFFFFFF
_NULL: Final = b"\xff\xff\xff\xff"


class Constant:
    """A covering that is the same for every value, so that it need not be called."""

    def __init__(self, value: bytes | None, *, nulls: bool = False) -> None:
        self.value = value
        self.nulls = nulls
        """Whether NULL is covered as well: it would tell something of what the cell was computed from."""

    def __call__(self, cell: bytes) -> bytes | None:
        """Return the value."""
        return self.value


def cell(value: bytes | None) -> bytes:
    """Return a value as a row holds it: behind its length."""
    return _NULL if value is None else _LENGTH.pack(len(value)) + value


def cover_rows(data: bytes, start: int, end: int, coverings: Sequence[Covering | None], type_: int = DATA_ROW) -> bytes:
    """Return the whole DataRow messages from `start` to `end` with each cell covered that has a covering.

    Raises `ProtocolError` if they are anything else, or have not as many columns as there are coverings. Messages of
    another `type_` that are built likewise are those of a COPY in binary format.
    """
    width = len(coverings)
    constants: list[bytes | None] = []
    kept_nulls: list[bool] = []
    for covering in coverings:
        constants.append(cell(covering.value) if isinstance(covering, Constant) else None)
        kept_nulls.append(not (isinstance(covering, Constant) and covering.nulls))
    plan = list(zip(coverings, constants, kept_nulls, strict=True))
    unpack_head, pack_head, pack_length = _HEAD.unpack_from, _HEAD.pack, _LENGTH.pack
    pieces: list[bytes] = []
    put = pieces.append
    at = start
    try:
        while at < end:
            tag, length, count = unpack_head(data, at)
            following = at + 1 + length
            if tag != type_ or count != width or following > end:
                raise ProtocolError("expected whole rows of as many columns as were described")
            head = len(pieces)
            put(b"")
            kept = here = at + 7
            grown = 0
            for covering, constant, keeps_null in plan:
                begun = here
                here += 4
                # Compiled, this is several times faster than unpacking; not compiled, the short cut makes up for it.
                size = data[here - 1]
                if data[begun : here - 1] != _SHORT:
                    size |= data[begun] << 24 | data[begun + 1] << 16 | data[begun + 2] << 8
                if size <= _LONGEST:
                    here += size
                elif size != _NULL_LENGTH:
                    raise ProtocolError("expected the length of a cell, found a negative one")
                if covering is None or (size == _NULL_LENGTH and keeps_null):
                    continue
                if constant is not None:
                    covered = constant
                else:
                    value = data[begun + 4 : here]
                    found = covering(value)
                    if found is value:
                        continue
                    covered = _NULL if found is None else pack_length(len(found)) + found
                if begun > kept:
                    put(data[kept:begun])
                put(covered)
                grown += len(covered) - (here - begun)
                kept = here
            # Cells only ever lead on, so this one check says that each of them ended within the row.
            if here != following:
                raise ProtocolError("expected the cells of a row to fill it")
            pieces[head] = pack_head(type_, length + grown, width)
            if kept < here:
                put(data[kept:here])
            at = following
    except (StructError, IndexError):
        raise ProtocolError("expected a row to end within what arrived") from None
    return b"".join(pieces)
