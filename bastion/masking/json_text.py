r"""Findings inside JSON: covered so that what is left is JSON again, and all that was not found stays byte by byte.

The text is cut into its strings, numbers and words; between them is no room for a value. A string with an escape is
read before it is searched, since `\u0040` is an at sign to whoever reads it.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

import orjson

from bastion.masking.covers import TextCover
from bastion.masking.patterns import Span, built_in, search
from bastion.masking.replacing import Found, counted, replaced

Find = Callable[[bytes], list[Found]]

UNREADABLE: Final = "unreadable"
"""What is counted where JSON could not be read, so that all of it is covered."""

_TOKEN: Final = built_in(rb'"(?:[^"\\]|\\[\x00-\xff])*"|-?[0-9][0-9.eE+-]*|true|false|null')
_BACKSLASH: Final = built_in(rb"\\")


def may_hide(chunk: bytes | memoryview) -> bool:
    """Whether JSON text in `chunk` could mean characters that its bytes don't show."""
    return _BACKSLASH.search(chunk) is not None


def covered(cell: bytes, find: Find, cover: TextCover) -> tuple[bytes | None, dict[str, int]]:
    """Return JSON text with what `find` finds in it covered, and how many findings there were of each kind.

    None stands for NULL, as for any other text. What cannot be read as JSON is covered whole, by a JSON string.
    """
    found = find(cell)
    if not found and b"\\" not in cell:
        return cell, {}
    if not _is_json(cell):
        whole = cover(cell.decode("utf-8", "surrogateescape"))
        return None if whole is None else _string(whole), counted(found) or {UNREADABLE: 1}
    pieces: list[bytes] = []
    counts = Counter(counted(found))
    at = 0
    for (start, end), touching in _tokens(cell, found):
        token = cell[start:end]
        edge = token[:1] == b'"'
        inside = [(b - start - 1, e - start - 1, kind) for b, e, kind in touching if start < b and e < end]
        if len(inside) < len(touching) or (touching and not edge):
            # Found across the borders of a value, or in one that has no room for a cover.
            shown = cover(_meaning(token))
            if b"\\" in token:
                counts.subtract(counted(inside))
        elif b"\\" in token:
            counts.subtract(counted(inside))
            value = _meaning(token).encode("utf-8", "replace")
            inside = find(value)
            if not inside:
                continue
            counts.update(counted(inside))
            shown = _text(replaced(value, inside, cover))
        elif inside:
            shown = _text(replaced(token[1:-1], inside, cover))
        else:
            continue
        if shown is None:
            return None, _positive(counts)
        pieces += (cell[at:start], _string(shown))
        at = end
    pieces.append(cell[at:])
    return b"".join(pieces), _positive(counts)


def _tokens(cell: bytes, found: list[Found]) -> Iterator[tuple[Span, list[Found]]]:
    """Yield each value's place, in order, with the findings that touch it."""
    waiting = iter(sorted(found))
    following = next(waiting, None)
    touching: list[Found] = []
    at = 0
    while (token := search(_TOKEN, cell, at)) is not None:
        start, at = token
        while following is not None and following[0] < at:
            touching.append(following)
            following = next(waiting, None)
        touching = [each for each in touching if each[1] > start]
        yield token, touching


def _is_json(cell: bytes) -> bool:
    try:
        orjson.loads(cell)
    except orjson.JSONDecodeError:
        # A database has numbers and lone surrogates in JSON that the strict reader refuses.
        try:
            json.loads(cell.decode(), parse_int=str, parse_float=str, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _meaning(token: bytes) -> str:
    """Return what a string says, or a number or word as it is written."""
    if token[:1] != b'"':
        return token.decode("ascii")
    if b"\\" not in token:
        return token[1:-1].decode("utf-8", "surrogateescape")
    value: str = json.loads(token)
    return value


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")


def _string(text: str) -> bytes:
    """Return a text as a JSON string; lone surrogates, which are no UTF-8, as escapes."""
    try:
        return orjson.dumps(text)
    except orjson.JSONEncodeError:
        return json.dumps(text).encode("ascii")


def _positive(counts: Counter[str]) -> dict[str, int]:
    return dict(+counts)
