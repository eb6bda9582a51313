"""Covers for text: each a total function from the value to what stands in its place.

No cover raises, whatever the text: a value that could not be covered would have to be shown or to end the
session. What is returned depends on the value, the cover and the key alone.
"""

import hashlib
from collections.abc import Callable
from typing import Final, assert_never

from bastion.model.mask import Cover, CoverKind

TextCover = Callable[[str], str | None]
"""Returns what stands in a value's place; None stands for NULL."""

FULL: Final = "********"
"""Says nothing of the value, not even its length."""

_LONGEST_KEY: Final = 64
_DIGEST_BYTES: Final = 8
_SEPARATORS: Final = " -"
_JOINED: Final = str.maketrans("", "", _SEPARATORS)
_STRUCK: Final = str.maketrans(dict.fromkeys("0123456789", "*"))
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
            keep = max(cover.keep, 0)
            return lambda value: _partly(value, keep)
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


def _partly(value: str, keep: int) -> str:
    """Strike out all but the last `keep` characters, or all of a value of which that would be more than half."""
    if (address := _address(value)) is not None:
        return address
    digits = _digits_in_groups(value)
    size = digits or len(value)
    if not size or 2 * keep > size:
        return FULL
    if not digits:
        return "*" * (size - keep) + value[size - keep :]
    end = len(value)
    while keep:
        end -= 1
        keep -= value[end] not in _SEPARATORS
    # The separators say only how such numbers are written.
    return value[:end].translate(_STRUCK) + value[end:]


def _address(value: str) -> str | None:
    """Return a mail address with only its first letter and top-level domain left, or None if it is none."""
    local, at, domain = value.partition("@")
    host, dot, top = domain.rpartition(".")
    if not (local and at and host and dot) or "@" in domain or any(map(str.isspace, value)):
        return None
    if not (top.isascii() and top.isalpha() and 2 <= len(top) <= _LONGEST_TOP_LEVEL):
        return None
    if 2 * (1 + len(top)) > len(value):
        return FULL
    first = local[0] if local[0].isalnum() else "*"
    return f"{first}***@***.{top}"


def _digits_in_groups(value: str) -> int:
    """Return how many digits there are, for a value that is digits in groups, as on a card; else 0."""
    if not (value.isascii() and value[:1].isdigit() and value[-1:].isdigit()):
        return 0
    digits = value.translate(_JOINED)
    return len(digits) if digits.isdigit() else 0
