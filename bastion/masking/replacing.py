"""Findings replaced by their covers, all in one pass over the text."""

from collections.abc import Iterator, Sequence

from bastion.masking.covers import TextCover
from bastion.masking.patterns import Span

Found = tuple[int, int, str]
"""Where a finding begins and ends, and of what kind it is."""


def counted(found: Sequence[Found]) -> dict[str, int]:
    """Return how many findings there are of each kind."""
    counts: dict[str, int] = {}
    for _, _, name in found:
        counts[name] = counts.get(name, 0) + 1
    return counts


def replaced(cell: bytes, found: Sequence[Found], cover: TextCover) -> bytes | None:
    """Return a cell with the findings covered, those that overlap as one; None where the cover says NULL."""
    pieces: list[bytes] = []
    at = 0
    for start, end in _merged(found):
        shown = cover(cell[start:end].decode("utf-8", "surrogateescape"))
        if shown is None:
            return None
        pieces += (cell[at:start], encoded(shown))
        at = end
    pieces.append(cell[at:])
    return b"".join(pieces)


def encoded(text: str) -> bytes:
    """Return a text as UTF-8; bytes that were none when it was decoded come out as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _merged(found: Sequence[Found]) -> Iterator[Span]:
    spans = sorted(found) if len(found) > 1 else found
    start, end = spans[0][:2]
    for begin, stop, _ in spans[1:]:
        if begin < end:
            end = max(end, stop)
        else:
            yield start, end
            start, end = begin, stop
    yield start, end
