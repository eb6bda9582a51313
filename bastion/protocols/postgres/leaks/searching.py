"""Looks for canaries in what came back, in every form that whoever received it could undo.

A heuristic: it knows the transformations below and no others. What it does not find is two of them one after the other
(base64 of a reversed text), anything keyed or compressed, and fewer characters in a row than a canary's `least` that
are not put together again by joining cells.
"""

import base64
import binascii
import codecs
import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

from bastion.protocols.postgres.leaks.canaries import LEAST, Canary

_HEX: Final = re.compile(rb"[0-9A-Fa-f]{12,}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{8,}")
_ESCAPED: Final = re.compile(r"\\u([0-9A-Fa-f]{4})")
_OCTAL: Final = re.compile(rb"\\([0-3][0-7][0-7])")
_REST: Final = re.compile(r"[^a-z0-9*]+")
"""What does not part the characters of a value. A star does: it stands for one that a cover struck out."""
_DIGESTS: Final = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")

_Parts: TypeAlias = dict[str, dict[str, str]]
"""Columns by what gives them away, and that by the characters with which it begins."""


class Search:
    """Knows a set of canaries, and finds them."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._parts: _Parts = {}
        self._spread: _Parts = {}
        self._digests: dict[str, str] = {}
        self._wire: dict[bytes, str] = {}
        for canary in canaries:
            self._learn(canary)

    def found(self, pieces: Iterable[bytes]) -> list[str]:
        """Return where the canaries come from that are in `pieces`, and how they were written there."""
        found = {}
        for piece in pieces:
            for wire, column in self._wire.items():
                if wire in piece:
                    found[column] = "binary"
            for form, text in readings(piece):
                for column in self._read(text, spread=form == "spread"):
                    found.setdefault(column, form)
        return [f"{column} ({form})" for column, form in sorted(found.items())]

    def _learn(self, canary: Canary) -> None:
        text = canary.text.lower()
        squeezed = _REST.sub("", text)
        _add(self._parts, text, canary.least, canary.column)
        # Digits of several values, put together, look like those of another one sooner or later.
        least = canary.least if canary.least == LEAST else len(squeezed)
        _add(self._spread, squeezed, least, canary.column)
        for name in _DIGESTS:
            self._digests[hashlib.new(name, canary.literal.encode(), usedforsecurity=False).hexdigest()] = canary.column
        if canary.wire:
            self._wire[canary.wire] = canary.column

    def _read(self, text: str, *, spread: bool) -> Iterator[str]:
        yield from _among(text, self._spread if spread else self._parts)
        for match in re.finditer(r"[0-9a-f]{32,}", text):
            if match[0] in self._digests:
                yield self._digests[match[0]]


def _add(known: _Parts, text: str, least: int, column: str) -> None:
    """Add every run of `least` characters of a text, under how it begins."""
    for at in range(len(text) - least + 1):
        part = text[at : at + least]
        known.setdefault(part[:LEAST], {})[part] = column


def _among(text: str, known: _Parts) -> Iterator[str]:
    for start in known.keys() & {text[at : at + LEAST] for at in range(len(text) - LEAST + 1)}:
        for part, column in known[start].items():
            if part in text:
                yield column


def readings(piece: bytes) -> Iterator[tuple[str, str]]:
    """Yield what a piece says, in lower case, read in each way that somebody might read it."""
    text = piece.decode("utf-8", "replace").lower()
    yield "plain", text
    yield "spread", _REST.sub("", text)
    yield "reversed", text[::-1]
    yield "rot13", codecs.encode(text, "rot13")
    for run in _HEX.findall(piece):
        for start in (0, 1):
            digits = run[start : start + (len(run) - start) // 2 * 2]
            yield "hex", _lower(binascii.unhexlify(digits))
    # Lines of base64 are broken after 76 characters.
    for run in _BASE64.findall(piece.replace(b"\\n", b"").replace(b"\n", b"")):
        plain = run.replace(b"-", b"+").replace(b"_", b"/")
        for start in range(4):
            part = plain[start : start + (len(plain) - start) // 4 * 4]
            yield "base64", _lower(base64.b64decode(part))
    if b"%" in piece:
        yield "url-encoded", _lower(unquote_to_bytes(piece))
    if "&" in text:
        yield "entities", html.unescape(text)
    if b"\\" in piece:
        yield "escapes", _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
        yield "escapes", _lower(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), piece))
    numbers = re.findall(r"(?<![0-9])[0-9]{2,3}(?![0-9])", text)
    if len(numbers) >= 6:
        yield "codes", "".join(map(chr, map(int, numbers))).lower()


def _lower(data: bytes) -> str:
    return data.decode("utf-8", "replace").lower()
