"""Turns away text that no parser should see: NUL bytes, invalid UTF-8, and more of it than an ordinary statement has.

A parser stops at NUL and reports the harmless half; deep nesting can overrun its stack. So this runs first.
"""

import re
from dataclasses import dataclass

import postgast

MAX_BYTES = 1024 * 1024
MAX_TOKENS = 200_000
MAX_NESTING = 256
"""Open brackets at one point. The parser's own stack would take more; no person or mapper writes more."""

_OPERATORS = re.compile(rb"[-+*/<>=~!@#%^&|`?]{512,}")
"""A run of what operators are made of. Where comments open in it, the scanner reads all of its rest anew at each."""
_NUMBER = re.compile(rb"[0-9]_[0-9]|0[xXoObB]_?[0-9a-fA-F]")
"""What may be part of a number as it can be written since 16."""
_NUMBER_STARTS = frozenset(b"0123456789.")
_OPENING = frozenset(b"([")
_CLOSING = frozenset(b")]")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a text is not read, as PostgreSQL would put it."""

    sqlstate: str
    message: str
    position: int = 0
    """In characters from 1, or 0."""


def fault(text: bytes) -> Fault | None:
    """Return why `text` may not be parsed, or None."""
    if len(text) > MAX_BYTES:
        return Fault("54000", f"statement is longer than {MAX_BYTES} bytes")
    if 0 in text:
        return Fault("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return Fault("22021", 'invalid byte sequence for encoding "UTF8"')
    if text.count(b"/*") > MAX_NESTING and any(run[0].count(b"/*") > MAX_NESTING for run in _OPERATORS.finditer(text)):
        return Fault("54001", f"comments are nested more than {MAX_NESTING} levels deep")
    if len(text) <= MAX_TOKENS and text.count(b"(") + text.count(b"[") <= MAX_NESTING:
        return None  # cannot exceed either bound, whatever the tokens are
    return _counted(text, decoded)


def newer_number(text: bytes) -> Fault | None:
    """Return the fault that a server before 16 has with the numbers of `text`, which has no other fault, or None.

    To a 14, `1_000` is the number 1 and a name for the column, `0x10` the number 0: it would take the text, but for
    another one.
    """
    if _NUMBER.search(text) is None:
        return None
    try:
        tokens = postgast.scan(text.decode()).tokens
    except Exception:  # whatever the parser says of it, no number in it was seen to be an old one
        return Fault("42601", "syntax error")
    for token in tokens:
        number = text[token.start : token.end]
        if number[0] in _NUMBER_STARTS and not frozenset(number).isdisjoint(b"_xXoObB"):
            return Fault("42601", "trailing junk after numeric literal", len(text[: token.start].decode()) + 1)
    return None


def _counted(text: bytes, decoded: str) -> Fault | None:
    """Return the fault of a text that may hold too many tokens or nest too deeply; counts what the scanner sees."""
    try:
        tokens = postgast.scan(decoded).tokens
    except postgast.PgQueryError as error:
        return Fault("42601", "syntax error", error.cursorpos)
    except Exception:  # a scanner that fails in any other way has not understood the text
        return Fault("54001", "statement could not be scanned")
    if len(tokens) > MAX_TOKENS:
        return Fault("54000", f"statement has more than {MAX_TOKENS} tokens")
    depth = 0
    for token in tokens:
        if token.end - token.start != 1:
            continue
        byte = text[token.start]
        if byte in _OPENING:
            depth += 1
            if depth > MAX_NESTING:
                return Fault("54001", f"statement is nested more than {MAX_NESTING} levels deep")
        elif byte in _CLOSING:
            depth -= 1
    return None
