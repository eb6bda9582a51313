"""Values that nobody else has: planted in masked columns, and looked for in every byte that comes back.

Their letters are consonants that no hexadecimal digit uses, so that neither words nor digests look like one.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from ipaddress import IPv6Address
from random import Random
from typing import Final
from uuid import UUID

_LETTERS: Final = "ghjklmnpqrstvwxz"
_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001  (PostgreSQL counts from here in whatever zone a value has)
_MICROSECOND: Final = timedelta(microseconds=1)
LEAST: Final = 6
"""How many characters of a text in a row are a leak: more than any cover leaves."""


@dataclass(frozen=True, slots=True)
class Canary:
    """One planted value."""

    column: str
    """Where it stands, as `table.column`."""
    text: str
    """What identifies it in the value's text."""
    literal: str
    """The value as an SQL string holds it."""
    least: int = LEAST
    """How many characters of `text` in a row give it away; more for digits, which turn up by chance."""
    wire: bytes = b""
    """What identifies it in the value's binary form, where that is not its text."""


Maker = Callable[[Random], tuple[str, str, int, bytes]]


def planted(column: str, kind: str, random: Random) -> Canary:
    """Return a new canary of one of the `KINDS`."""
    text, literal, least, wire = KINDS[kind](random)
    return Canary(column, text, literal, least, wire)


def word(random: Random, size: int = 14) -> str:
    """Return a text of nothing but rare letters."""
    return "".join(random.choice(_LETTERS) for _ in range(size))


def _text(shape: str) -> Maker:
    def make(random: Random) -> tuple[str, str, int, bytes]:
        found = word(random)
        return found, shape.replace("%", found), LEAST, b""

    return make


def _mail(random: Random) -> tuple[str, str, int, bytes]:
    address = f"{word(random, 10)}@{word(random, 10)}.{word(random, 4)}"
    return address, address, LEAST, b""


def _bytes(random: Random) -> tuple[str, str, int, bytes]:
    found = word(random)
    return found, f"\\x{found.encode().hex()}", LEAST, b""


def _integer(low: int, high: int, form: str) -> Maker:
    def make(random: Random) -> tuple[str, str, int, bytes]:
        number = random.randrange(low, high)
        return str(number), str(number), 8, struct.pack(form, number)

    return make


def _numeric(random: Random) -> tuple[str, str, int, bytes]:
    # Groups of four decimals are what a numeric is made of in its binary form.
    groups = [random.randrange(1000, 10000) for _ in range(4)]
    text = "".join(map(str, groups))
    return text, text, 8, struct.pack("!4h", *groups)


def _float(random: Random) -> tuple[str, str, int, bytes]:
    number = random.randrange(10**13, 10**14)
    return str(number), str(number), 8, struct.pack("!d", float(number))


def _day(random: Random) -> tuple[str, str, int, bytes]:
    day = date(random.randrange(2300, 9000), random.randrange(1, 13), random.randrange(1, 28))
    return f"{day}", f"{day}", 9, struct.pack("!i", (day - _EPOCH.date()).days)


def _moment(random: Random) -> tuple[str, str, int, bytes]:
    moment = datetime(
        random.randrange(2300, 9000),
        random.randrange(1, 13),
        random.randrange(1, 28),
        12,
        random.randrange(60),
        random.randrange(60),
        random.randrange(100_001, 999_999, 2),
        tzinfo=_EPOCH.tzinfo,
    )
    return f"{moment}", f"{moment}", 12, struct.pack("!q", (moment - _EPOCH) // _MICROSECOND)


def _clock(random: Random) -> tuple[str, str, int, bytes]:
    found = time(
        random.randrange(13, 24), random.randrange(60), random.randrange(60), random.randrange(100_001, 999_999)
    )
    micros = ((found.hour * 60 + found.minute) * 60 + found.second) * 1_000_000 + found.microsecond
    return f"{found}", f"{found}", 10, struct.pack("!q", micros)


def _uuid(random: Random) -> tuple[str, str, int, bytes]:
    found = UUID(int=random.getrandbits(128), version=4)
    return str(found), str(found), 10, found.bytes


def _address(random: Random) -> tuple[str, str, int, bytes]:
    found = IPv6Address((0xFD << 120) | random.getrandbits(120))
    return str(found), str(found), 12, found.packed


def _bits(random: Random) -> tuple[str, str, int, bytes]:
    number = random.getrandbits(64) | 1 << 63
    return f"{number:064b}", f"{number:064b}", 32, struct.pack("!Q", number)


KINDS: Final[Mapping[str, Maker]] = {
    "text": _text("%"),
    "mail": _mail,
    "array": _text('{%,"b c"}'),
    "json": _text('{"k": {"v": "%"}, "n": [1, null]}'),
    "composite": _text("(1,%)"),
    "lexemes": _text("'%':1 'plain':2"),
    "bytes": _bytes,
    "int4": _integer(10**8, 2**31 - 1, "!i"),
    "int8": _integer(10**16, 2**63 - 1, "!q"),
    "numbers": lambda random: _within(_integer(10**8, 2**31 - 1, "!i")(random), "{%,7}"),
    "range": lambda random: _within(_integer(10**8, 2**30, "!i")(random), "[%,2147483000)"),
    "numeric": _numeric,
    "float8": _float,
    "date": _day,
    "timestamp": _moment,
    "timestamptz": lambda random: _within(_moment(random), "%+00"),
    "time": _clock,
    "uuid": _uuid,
    "inet": _address,
    "bits": _bits,
}
"""How a canary of each kind is made: what identifies it, its literal, how much of it is a leak, its binary form."""


def _within(made: tuple[str, str, int, bytes], shape: str) -> tuple[str, str, int, bytes]:
    text, literal, least, wire = made
    return text, shape.replace("%", literal), least, wire
