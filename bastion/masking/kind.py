"""One kind of sensitive text: a hint for one quick pass, then a search, then the kind's own check.

A *hint* is an expression without regard to neighbours that matches whenever the search could find something, and
sometimes when it could not. A *search* takes one cell and yields where something begins and ends, in order and without
overlaps; a NUL ends a text, so that many can be searched as one. Each search reads any stretch of text a bounded
number of times, whatever the text.

What is not looked for, on purpose: digits outside ASCII (full-width, Arabic), values that were split, spelled,
reversed or encoded. Detectors are for text that nobody declared, not against somebody who hides a value.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bastion.masking.patterns import Span

Search = Callable[[bytes], Iterator[Span]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of sensitive text."""

    about: str
    """One line for the documentation."""
    hint: bytes
    search: Search


def is_alphanumeric(text: bytes, at: int) -> bool:
    """Whether there is a letter or digit at a place; outside the text there is none."""
    return at >= 0 and text[at : at + 1].isalnum()


def is_digit(text: bytes, at: int) -> bool:
    """Whether there is a digit at a place; outside the text there is none."""
    return at >= 0 and text[at : at + 1].isdigit()


def is_within_more(text: bytes, start: int, end: int) -> bool:
    """Whether what stands there is part of something longer, such as a UUID, an ISBN or a fraction."""
    if is_alphanumeric(text, start - 1) or is_alphanumeric(text, end):
        return True
    before, behind = text[start - 1 : start] if start else b"", text[end : end + 1]
    if (before == b"-" and is_alphanumeric(text, start - 2)) or (behind == b"-" and is_alphanumeric(text, end + 1)):
        return True
    return (before == b"." and is_digit(text, start - 2)) or (behind == b"." and is_digit(text, end + 1))
