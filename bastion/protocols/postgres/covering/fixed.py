"""A text of the policy's as a value of a type, where it is one."""

import contextlib
import ipaddress
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from html import escape
from math import isfinite
from struct import Struct
from typing import Final

from bastion.protocols.postgres.covering import types as t
from bastion.protocols.postgres.covering.types import Both

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,100}(\.[0-9]{1,100})?")
_DIGITS: Final = 4
_NEGATIVE: Final = 0x4000
_BOOLEANS: Final[dict[str, Both]] = {
    **dict.fromkeys(("t", "true", "yes", "on", "1"), (b"t", b"\1")),
    **dict.fromkeys(("f", "false", "no", "off", "0"), (b"f", b"\0")),
}


def fixed(text: str, oid: int) -> Both | None:
    """Return `text` as a value of a type that is not just text, in both formats; None if it is not one."""
    if "\0" in text:
        return None
    if oid in t.INTEGERS:
        return _integer(text, oid)
    read = _READ.get(oid)
    found = None
    if read is not None:
        with contextlib.suppress(ValueError, OverflowError, UnicodeError):
            found = read(text.strip())
    return found


def _integer(text: str, oid: int) -> Both | None:
    packing, least, greatest = t.INTEGERS[oid]
    if not _INTEGER.fullmatch(text.strip()):
        return None
    number = int(text)
    return (str(number).encode(), packing.pack(number)) if least <= number <= greatest else None


def _boolean(text: str) -> Both | None:
    return _BOOLEANS.get(text.lower())


def _float(packing: Struct) -> Callable[[str], Both | None]:
    def read(text: str) -> Both | None:
        number = float(text)
        if not _DECIMAL.fullmatch(text) or not isfinite(number):
            return None
        packed = packing.pack(number)
        # As it will be read in binary, so that both formats show the same.
        return repr(packing.unpack(packed)[0]).encode(), packed

    return read


def _numeric(text: str) -> Both | None:
    if not _DECIMAL.fullmatch(text):
        return None
    number = Decimal(text)
    whole, _, fraction = f"{abs(number):f}".partition(".")
    scale = len(fraction)
    whole = whole.lstrip("0").zfill(-(-len(whole.lstrip("0")) // _DIGITS) * _DIGITS)
    fraction = fraction.ljust(-(-scale // _DIGITS) * _DIGITS, "0")
    joined = whole + fraction
    digits = [int(joined[at : at + _DIGITS]) for at in range(0, len(joined), _DIGITS)]
    weight = len(whole) // _DIGITS - 1
    while digits and digits[0] == 0:
        digits.pop(0)
        weight -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    negative = bool(digits) and number < 0
    if not digits:
        weight = 0
    form = Struct(f">hhHh{len(digits)}h")
    packed = form.pack(len(digits), weight, _NEGATIVE if negative else 0, scale, *digits)
    return f"{number if negative else abs(number):f}".encode(), packed


def _date(text: str) -> Both:
    day = date.fromisoformat(text)
    return day.isoformat().encode(), Struct(">i").pack((day - t.EPOCH).days)


def _time(text: str) -> Both | None:
    moment = time.fromisoformat(text)
    if moment.tzinfo is not None:
        return None
    since = datetime.combine(t.EPOCH, moment) - datetime.combine(t.EPOCH, time())
    return _trimmed(moment.isoformat()), Struct(">q").pack(since // timedelta(microseconds=1))


def _timestamp(text: str) -> Both | None:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        return None
    since = moment - datetime.combine(t.EPOCH, time())
    return _trimmed(moment.isoformat(" ")), Struct(">q").pack(since // timedelta(microseconds=1))


def _timestamptz(text: str) -> Both | None:
    moment = datetime.fromisoformat(text)
    shift = moment.utcoffset() or timedelta()
    found = _timestamp((moment.replace(tzinfo=None) - shift).isoformat())
    return (found[0] + b"+00", found[1]) if found else None


def _trimmed(text: str) -> bytes:
    """Return a time without the zeros at the end of its fraction, as PostgreSQL writes it."""
    return (text.rstrip("0") if "." in text else text).encode()


def _uuid(text: str) -> Both:
    value = uuid.UUID(text)
    return str(value).encode(), value.bytes


def _inet(text: str) -> Both:
    value = ipaddress.ip_interface(text)
    length = value.network.prefixlen
    shown = str(value.ip) if length == value.max_prefixlen else str(value)
    return shown.encode(), _network(value.version, length, 0, value.ip.packed)


def _cidr(text: str) -> Both:
    value = ipaddress.ip_network(text)
    return str(value).encode(), _network(value.version, value.prefixlen, 1, value.network_address.packed)


def _network(version: int, length: int, is_cidr: int, packed: bytes) -> bytes:
    return bytes((2 if version == 4 else 3, length, is_cidr, len(packed))) + packed


def _bytes(text: str) -> Both:
    value = text.encode()
    return rb"\x" + value.hex().encode(), value


def _xml(text: str) -> Both:
    value = escape(text, quote=False).encode()
    return value, value


_READ: Final[dict[int, Callable[[str], Both | None]]] = {
    t.BOOL: _boolean,
    t.BYTEA: _bytes,
    t.XML: _xml,
    t.FLOAT4: _float(Struct(">f")),
    t.FLOAT8: _float(Struct(">d")),
    t.NUMERIC: _numeric,
    t.DATE: _date,
    t.TIME: _time,
    t.TIMESTAMP: _timestamp,
    t.TIMESTAMPTZ: _timestamptz,
    t.UUID: _uuid,
    t.INET: _inet,
    t.CIDR: _cidr,
}
