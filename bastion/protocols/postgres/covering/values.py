"""Coverings of single cells: for a type, a format and a cover, what stands in a value's place and is valid there.

None of them raises, and none lets through what it cannot read: that is covered in full, or by NULL.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from struct import Struct
from struct import error as StructError
from typing import Final

from bastion.masking.covers import FULL, text_cover
from bastion.model.mask import Cover, CoverKind
from bastion.protocols.postgres.covering import types as t
from bastion.protocols.postgres.covering.fixed import fixed
from bastion.protocols.postgres.covering.rows import Constant, Covering, cell
from bastion.protocols.postgres.covering.types import Both, Types

_ARRAY: Final = Struct(">iiIii")
_MODIFIER: Final = 4
"""What a length in a type's modifier has on top."""
_NAME_BYTES: Final = 63
_NIBBLES: Final = 32
_HEX: Final = re.compile(rb"\\x((?:[0-9a-fA-F]{2})*)")
_UNQUOTED: Final = re.compile(rb"[0-9A-Za-z*:./+-]+")
"""Elements that an array holds as they are, as PostgreSQL writes it itself."""
_INTEGER: Final = re.compile(rb"-?[0-9]{1,20}")
_BIT_LENGTH: Final = 10_000_000
"""Bits that a cover is ready to write: as many as PostgreSQL lets a type have, roughly."""
_CONSTANT: Final = frozenset({CoverKind.FULL, CoverKind.NULL, CoverKind.FIXED})


def covering(
    cover: Cover,
    key: bytes,
    oid: int,
    binary: bool,
    types: Types,
    *,
    modifier: int = -1,
    derived: bool = False,
) -> Covering:
    """Return what covers the cells of one column.

    `oid` and `modifier` are as the column's description has them. A `derived` column, which holds something computed,
    shows nothing but a constant, and not even whether the value is NULL. `key` is the session's.
    """
    if derived and cover.kind not in _CONSTANT:
        cover = replace(cover, kind=CoverKind.FULL)
    oid = t.resolved(oid, types)
    if cover.kind is CoverKind.NULL:
        return Constant(None, nulls=derived)
    if cover.kind in _CONSTANT:
        return Constant(_constant(cover, oid, binary, types, modifier), nulls=derived)
    full = Constant(_constant(replace(cover, kind=CoverKind.FULL), oid, binary, types, modifier))
    return _varying(cover, key, oid, binary, types, modifier, full)


def _constant(cover: Cover, oid: int, binary: bool, types: Types, modifier: int) -> bytes | None:
    both = _both(cover, oid, types, modifier)
    return None if both is None else both[binary]


def _both(cover: Cover, oid: int, types: Types, modifier: int) -> Both | None:
    """Return the full or the fixed cover of a type in both formats; None where only NULL is sure to be valid."""
    text = cover.text if cover.kind is CoverKind.FIXED and "\0" not in cover.text else FULL
    if t.is_text(oid, types):
        value = _fitting(text, oid, modifier)
        return value, value
    if oid in (t.JSON, t.JSONB):
        return _json(text, oid)
    if cover.kind is CoverKind.FIXED and (found := fixed(cover.text, oid)) is not None:
        return found
    if oid == t.BIT and 0 < modifier <= _BIT_LENGTH:
        return b"0" * modifier, Struct(">i").pack(modifier) + bytes(-(-modifier // 8))
    if oid in t.FULL:
        return t.FULL[oid]
    facts = types.get(oid)
    kind = facts.kind if facts else ""
    if oid in t.RANGES or kind == "r":
        return t.EMPTY_RANGE
    if oid in t.MULTIRANGES or kind == "m":
        return t.EMPTY_MULTIRANGE
    return _array(cover, t.element_of(oid, types), types, modifier)


def _array(cover: Cover, element: int, types: Types, modifier: int) -> Both | None:
    """Return an array of one covered element, whatever the shape of what it stands for."""
    inner = t.resolved(element, types)
    if not inner or t.element_of(inner, types):
        return None
    both = _both(cover, inner, types, modifier)
    if both is None:
        return None
    text = both[0]
    if text.upper() == b"NULL" or not _UNQUOTED.fullmatch(text):
        text = b'"' + text.replace(b"\\", rb"\\").replace(b'"', rb"\"") + b'"'
    return b"{" + text + b"}", _ARRAY.pack(1, 0, element, 1, 1) + cell(both[1])


def _json(text: str, oid: int) -> Both:
    value = json.dumps(text).encode()
    return value, b"\1" + value if oid == t.JSONB else value


def _fitting(text: str, oid: int, modifier: int) -> bytes:
    """Return a text no longer than its column may hold, and padded as the column pads."""
    length = modifier - _MODIFIER
    if oid in (t.VARCHAR, t.BPCHAR) and length > 0:
        text = text[:length]
        if oid == t.BPCHAR:
            text = text.ljust(length)
    value = text.encode("utf-8", "replace")
    return value[:_NAME_BYTES].decode("utf-8", "ignore").encode() if oid == t.NAME else value


def _varying(cover: Cover, key: bytes, oid: int, binary: bool, types: Types, modifier: int, full: Constant) -> Covering:
    """Return the covering of a `partial` or a `hash`, which is the full cover where a type has no other."""
    if t.is_text(oid, types):
        return _text(cover, key, oid, modifier, full)
    if oid in (t.JSON, t.JSONB):
        return _document(cover, key, oid, binary, full)
    if oid == t.UUID:
        return _uuid(cover, key, binary, full)
    if cover.kind is CoverKind.HASH:
        if oid in t.INTEGERS:
            return _hashed_integer(key, oid, binary, full)
        if oid == t.BYTEA:
            return _hashed_bytes(key, binary, full)
        if oid == t.XML:
            return _text(cover, key, oid, -1, full)
    return full


def _text(cover: Cover, key: bytes, oid: int, modifier: int, full: Constant) -> Covering:
    covered = text_cover(cover, key)
    is_padded = oid == t.BPCHAR
    is_bounded = oid in (t.VARCHAR, t.BPCHAR, t.NAME)

    def of(value: bytes) -> bytes | None:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return full.value
        found = covered(text.rstrip(" ") if is_padded else text)
        if found is None:
            return None
        return _fitting(found, oid, modifier) if is_bounded else found.encode("utf-8", "replace")

    return of


def _document(cover: Cover, key: bytes, oid: int, binary: bool, full: Constant) -> Covering:
    """Cover a document: one that is a string by its text, any other only by a digest of the whole."""
    covered = text_cover(cover, key)
    versioned = binary and oid == t.JSONB

    def of(value: bytes) -> bytes | None:
        try:
            text = (value[1:] if versioned else value).decode()
            # Only strings are read: what is nested could be nested too deep.
            string = json.loads(text) if text.lstrip().startswith('"') else None
        except ValueError:
            return full.value
        if not isinstance(string, str):
            if cover.kind is not CoverKind.HASH:
                return full.value
            string = text
        found = covered(string)
        return None if found is None else _json(found, oid)[binary]

    return of


def _uuid(cover: Cover, key: bytes, binary: bool, full: Constant) -> Covering:
    digest = _digest(key, 16)

    def of(value: bytes) -> bytes | None:
        try:
            known = uuid.UUID(bytes=value) if binary else uuid.UUID(value.decode("ascii"))
        except ValueError:
            return full.value
        if cover.kind is CoverKind.HASH:
            found = uuid.UUID(bytes=digest(known.bytes))
        elif 0 < 2 * cover.keep <= _NIBBLES:
            found = uuid.UUID(int=known.int & ((1 << 4 * cover.keep) - 1))
        else:
            return full.value
        return found.bytes if binary else str(found).encode()

    return of


def _hashed_integer(key: bytes, oid: int, binary: bool, full: Constant) -> Covering:
    packing, _, greatest = t.INTEGERS[oid]
    digest = _digest(key, 16)

    def of(value: bytes) -> bytes | None:
        if binary:
            try:
                (number,) = packing.unpack(value)
            except StructError:
                return full.value
        elif _INTEGER.fullmatch(value):
            number = int(value)
        else:
            return full.value
        # Of its digits, so that it is the same in both formats and in each width that holds it.
        found = int.from_bytes(digest(b"%d" % number), "big") % (greatest + 1)
        return packing.pack(found) if binary else b"%d" % found

    return of


def _hashed_bytes(key: bytes, binary: bool, full: Constant) -> Covering:
    digest = _digest(key, 16)

    def of(value: bytes) -> bytes | None:
        if binary:
            return digest(value)
        # The older way of writing it, `bytea_output = escape`, is not read.
        found = _HEX.fullmatch(value)
        return full.value if found is None else rb"\x" + digest(bytes.fromhex(found[1].decode())).hex().encode()

    return of


def _digest(key: bytes, size: int) -> Callable[[bytes], bytes]:
    fitting = key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()

    def of(value: bytes) -> bytes:
        return hashlib.blake2b(value, digest_size=size, key=fitting).digest()

    return of
