"""Values of a result as text: what the wire carries in text format, and the common types in binary format. Pure.

Display only. A value of a type that is not known here, or that does not decode, is shown as its bytes in hex.
"""

import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from bastion.model.text import visible

_EPOCH_DAY: Final = date(2000, 1, 1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NUMERIC_SIGNS: Final = {0x0000: "", 0x4000: "-"}
_NUMERIC_NAMES: Final = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}

NUMBERS: Final = frozenset({20, 21, 23, 26, 700, 701, 790, 1700})
"""The types whose values stand to the right in a table."""


def cell(value: bytes | None, oid: int, binary: bool) -> str:
    """Return a value as it is shown: harmless on a terminal, whole, in one line; null is empty."""
    if value is None:
        return ""
    if not binary:
        return visible(value.decode("utf-8", "surrogateescape"))
    decode = _BINARY.get(oid)
    if decode is not None:
        try:
            return visible(decode(value))
        except (ValueError, struct.error, OverflowError):
            pass
    return visible("\\x") + value.hex()


def _unpacked(form: str) -> Callable[[bytes], str]:
    read = struct.Struct(form)
    return lambda value: str(read.unpack(value)[0])


def _text(value: bytes) -> str:
    return value.decode()


def _date(value: bytes) -> str:
    (days,) = struct.unpack(">i", value)
    return (_EPOCH_DAY + timedelta(days=days)).isoformat()


def _time(value: bytes) -> str:
    (micros,) = struct.unpack(">q", value)
    return (_EPOCH + timedelta(microseconds=micros)).time().isoformat()


def _timestamp(value: bytes) -> str:
    (micros,) = struct.unpack(">q", value)
    return (_EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None).isoformat(" ")


def _numeric(value: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from(">hhHh", value)
    if sign in _NUMERIC_NAMES:
        return _NUMERIC_NAMES[sign]
    digits = struct.unpack_from(f">{count}h", value, 8)
    if any(not 0 <= digit <= 9999 for digit in digits) or not 0 <= scale <= 16383 or abs(weight) > 16384:
        raise ValueError("not a numeric")
    places = {weight - at: digit for at, digit in enumerate(digits)}
    whole = "".join(f"{places.get(at, 0):04d}" for at in range(max(weight, 0), -1, -1)).lstrip("0") or "0"
    if scale == 0:
        return _NUMERIC_SIGNS[sign] + whole
    fraction = "".join(f"{places.get(-at, 0):04d}" for at in range(1, scale // 4 + 2))[:scale]
    return f"{_NUMERIC_SIGNS[sign]}{whole}.{fraction}"


_BINARY: Final[dict[int, Callable[[bytes], str]]] = {
    16: lambda value: {b"\0": "f", b"\1": "t"}[value] if value in (b"\0", b"\1") else _refuse(),
    17: lambda value: "\\x" + value.hex(),
    18: _text,
    19: _text,
    20: _unpacked(">q"),
    21: _unpacked(">h"),
    23: _unpacked(">i"),
    25: _text,
    26: _unpacked(">I"),
    114: _text,
    700: _unpacked(">f"),
    701: _unpacked(">d"),
    1042: _text,
    1043: _text,
    1082: _date,
    1083: _time,
    1114: _timestamp,
    1184: lambda value: _timestamp(value) + "+00",
    1700: _numeric,
    2950: lambda value: str(uuid.UUID(bytes=value)),
    3802: lambda value: value[1:].decode(),
}
"""Decoders by the OID of the type, as in `pg_type.dat`."""


def _refuse() -> str:
    raise ValueError("not a value of its type")
