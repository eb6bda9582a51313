"""Covers for text: each a total function from the value to what stands in its place.

No cover raises, whatever the text: a value that could not be covered would have to be shown or to end the
session. What is returned depends on the value, the cover and the key alone.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

from bastion.model.mask import Cover, CoverKind

TextCover = Callable[[str], str | None]
"""Returns what stands in a value's place; None stands for NULL."""

FULL: Final = "********"
"""Says nothing of the value, not even its length."""

_LONGEST_KEY: Final = 64
_DIGEST_BYTES: Final = 8
_SEPARATORS: Final = " -"
_STRUCK: Final = bytes.maketrans(b"0123456789", b"**********")
_LONGEST_TOP_LEVEL: Final = 24


def text_cover(cover: Cover, key: bytes) -> TextCover:
    """Return the function that covers one text.

    `key` makes the digests of `hash` the session's own: whoever lacks it cannot try values out. Raises ValueError for
    a `hash` without a key, since that could be undone by anybody who guesses.
    """
    match cover.kind:
        case CoverKind.FULL:
            return lambda _: FULL
        case CoverKind.PARTIAL:
            return partial(_partly, max(cover.keep, 0))
        case CoverKind.HASH:
            if not key:
                raise ValueError("a keyed digest needs a key")
            fitting = key if len(key) <= _LONGEST_KEY else hashlib.blake2b(key).digest()
            return lambda value: _digest(value, fitting)
        case CoverKind.NULL:
            return lambda _: None
        case CoverKind.FIXED:
            text = cover.text
            return lambda _: text
        case _:
            assert_never(cover.kind)


def _digest(value: str, key: bytes) -> str:
    # Lone surrogates stand for bytes that were no UTF-8; they have to be told apart like any other text.
    data = value.encode("utf-8", "surrogatepass")
    return "h:" + hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=key).hexdigest()


def _partly(keep: int, value: str) -> str:
    """Strike out all but the last `keep` characters, or all of a value of which that would be more than half."""
    if "@" in value and (address := _address(value)) is not None:
        return address
    length = len(value)
    digits = _digits_in_groups(value) if value[-1:].isdigit() else 0
    size = digits or length
    if not size or 2 * keep > size:
        return FULL
    end = length - keep
    if digits in (0, length):
        return "*" * end + value[end:]
    if not value[end:].isdigit():
        end = length
        while keep:
            end -= 1
            keep -= value[end] not in _SEPARATORS
    # The separators say only how such numbers are written.
    return value[:end].encode("ascii").translate(_STRUCK).decode("ascii") + value[end:]


def _address(value: str) -> str | None:
    """Return a mail address with only its first letter and top-level domain left, or None if it is none."""
    local, at, domain = value.partition("@")
    host, dot, top = domain.rpartition(".")
    if not (local and at and host and dot) or "@" in domain or value.split(None, 1) != [value]:
        return None
    if not (top.isascii() and top.isalpha() and 2 <= len(top) <= _LONGEST_TOP_LEVEL):
        return None
    if 2 * (1 + len(top)) > len(value):
        return FULL
    first = local[0] if local[0].isalnum() else "*"
    return f"{first}***@***.{top}"


def _digits_in_groups(value: str) -> int:
    """Return how many digits there are, for a value that is digits in groups, as on a card; else 0."""
    if not (value[:1].isdigit() and value[-1:].isdigit() and value.isascii()):
        return 0
    digits = value.replace(" ", "").replace("-", "")
    return len(digits) if digits.isdigit() else 0
