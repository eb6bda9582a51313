"""The data types whose values have a cover: what is constant of them, in both formats of the wire.

OIDs as in `pg_type.dat`, which never change. A type that is not here, and not made of these, is covered by NULL, which
is valid for every type.
"""

from collections.abc import Mapping
from datetime import date
from struct import Struct
from typing import Final, Protocol, TypeAlias

Both: TypeAlias = tuple[bytes, bytes]
"""A value in text and in binary format."""


class TypeFacts(Protocol):
    """What the catalog says of a type; `bastion.protocols.postgres.sql.catalog.Type` does."""

    @property
    def name(self) -> str:
        """As `pg_type.typname`."""

    @property
    def kind(self) -> str:
        """As `pg_type.typtype`."""

    @property
    def base(self) -> int:
        """What a domain is made of, or 0."""

    @property
    def element(self) -> int:
        """What an array is made of, or 0."""

    @property
    def category(self) -> str:
        """As `pg_type.typcategory`."""


Types: TypeAlias = Mapping[int, TypeFacts]
"""What the catalog says, by OID."""

BYTEA: Final = 17
CHAR: Final = 18
NAME: Final = 19
TEXT: Final = 25
BPCHAR: Final = 1042
VARCHAR: Final = 1043
JSON: Final = 114
JSONB: Final = 3802
XML: Final = 142
UUID: Final = 2950
BIT: Final = 1560
VARBIT: Final = 1562
BOOL: Final = 16
NUMERIC: Final = 1700
FLOAT4: Final = 700
FLOAT8: Final = 701
DATE: Final = 1082
TIME: Final = 1083
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184
INET: Final = 869
CIDR: Final = 650

TEXTS: Final = frozenset({NAME, TEXT, 705, 1790, BPCHAR, VARCHAR, 2275})
"""Types whose value is its text, in both formats: also unknown, refcursor and cstring."""

INTEGERS: Final[dict[int, tuple[Struct, int, int]]] = {
    20: (Struct(">q"), -(2**63), 2**63 - 1),
    21: (Struct(">h"), -(2**15), 2**15 - 1),
    23: (Struct(">i"), -(2**31), 2**31 - 1),
    26: (Struct(">I"), 0, 2**32 - 1),
    28: (Struct(">I"), 0, 2**32 - 1),
    29: (Struct(">I"), 0, 2**32 - 1),
    5069: (Struct(">Q"), 0, 2**64 - 1),
}
"""int8, int2, int4, oid, xid, cid and xid8: how they are packed, and their least and greatest."""

EPOCH: Final = date(2000, 1, 1)
"""From which days and microseconds are counted."""
DAY: Final = 86_400_000_000
"""Microseconds."""
_DAYS: Final = (date(1900, 1, 1) - EPOCH).days
_DAY: Final = Struct(">i")
_MICROS: Final = Struct(">q")

FULL: Final[dict[int, Both]] = {
    **{oid: (b"0", packing.pack(0)) for oid, (packing, _, _) in INTEGERS.items()},
    BOOL: (b"f", b"\0"),
    BYTEA: (rb"\x" + b"2a" * 8, b"*" * 8),
    CHAR: (b"*", b"*"),
    XML: (b"********", b"********"),
    JSON: (b'"********"', b'"********"'),
    JSONB: (b'"********"', b'\1"********"'),
    FLOAT4: (b"0", bytes(4)),
    FLOAT8: (b"0", bytes(8)),
    790: (b"0", bytes(8)),
    NUMERIC: (b"0", bytes(8)),
    DATE: (b"1900-01-01", _DAY.pack(_DAYS)),
    TIME: (b"00:00:00", bytes(8)),
    1266: (b"00:00:00+00", bytes(12)),
    TIMESTAMP: (b"1900-01-01 00:00:00", _MICROS.pack(_DAYS * DAY)),
    TIMESTAMPTZ: (b"1900-01-01 00:00:00+00", _MICROS.pack(_DAYS * DAY)),
    1186: (b"00:00:00", bytes(16)),
    INET: (b"0.0.0.0", bytes((2, 32, 0, 4, 0, 0, 0, 0))),
    CIDR: (b"0.0.0.0/32", bytes((2, 32, 1, 4, 0, 0, 0, 0))),
    829: (b"00:00:00:00:00:00", bytes(6)),
    774: (b"00:00:00:00:00:00:00:00", bytes(8)),
    BIT: (b"0", b"\0\0\0\1\0"),
    VARBIT: (b"0", b"\0\0\0\1\0"),
    UUID: (b"00000000-0000-0000-0000-000000000000", bytes(16)),
}
"""The full cover of each type whose value is not just text. (790 is money, 1266 timetz, 1186 interval.)"""

EMPTY_RANGE: Final[Both] = (b"empty", b"\1")
EMPTY_MULTIRANGE: Final[Both] = (b"{}", bytes(4))
RANGES: Final = frozenset({3904, 3906, 3908, 3910, 3912, 3926})
MULTIRANGES: Final = frozenset({4451, 4532, 4533, 4534, 4535, 4536})

_ARRAYS: Final = """
1000:16 1001:17 1002:18 1003:19 1005:21 1007:23 1009:25 1014:1042 1015:1043 1016:20 1021:700 1022:701 1028:26 1011:28
1012:29 271:5069 1040:829 775:774 1041:869 651:650 1115:1114 1182:1082 1183:1083 1185:1184 1187:1186 1231:1700 1270:1266
1561:1560 1563:1562 199:114 3807:3802 143:142 2951:2950 791:790 1263:2275 2201:1790 3905:3904 3907:3906 3909:3908
3911:3910 3913:3912 3927:3926 6150:4451 6151:4532 6152:4533 6153:4534 6155:4535 6157:4536
"""
ARRAYS: Final = {int(array): int(element) for array, _, element in (p.partition(":") for p in _ARRAYS.split())}
"""The element of each built-in array type."""
_VECTORS: Final = frozenset({22, 30})
"""int2vector and oidvector."""


def resolved(oid: int, types: Types) -> int:
    """Return the type that a domain is made of in the end; any other type is returned as it is."""
    # No domain can be made of itself; the bound is for a catalog that says so all the same.
    for _ in range(64):
        facts = types.get(oid)
        if facts is None or facts.kind != "d":
            return oid
        oid = facts.base
    return 0


def is_text(oid: int, types: Types) -> bool:
    """Tell whether a type's value is its text, in both formats."""
    facts = types.get(oid)
    # Of the types that extensions bring, this is the one that everybody has.
    return oid in TEXTS or (facts is not None and facts.name == "citext" and facts.category == "S")


def element_of(oid: int, types: Types) -> int:
    """Return the type of an array's elements, or 0 for a type that is no array."""
    if oid in ARRAYS:
        return ARRAYS[oid]
    facts = types.get(oid)
    # The vectors are in the category of arrays, and not written as arrays are; points and such just have elements.
    if oid in _VECTORS:
        return 0
    return facts.element if facts is not None and facts.category == "A" and facts.kind == "b" else 0


def holds_text(oid: int, types: Types) -> bool:
    """Tell whether values of a type can have text of somebody's in them. A type that is not known can."""
    oid = resolved(oid, types)
    inner = element_of(oid, types)
    if inner:
        return holds_text(inner, types)
    if oid in (JSON, JSONB, XML) or oid in TEXTS:
        return True
    facts = types.get(oid)
    return oid not in FULL and oid not in RANGES and oid not in MULTIRANGES and (facts is None or facts.kind != "e")
