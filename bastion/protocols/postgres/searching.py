"""Detectors on what comes back: cells of text, of JSON and of what is made of texts, and copied data in lines."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Final

from bastion.masking.covers import TextCover, text_cover
from bastion.masking.detectors import Detectors
from bastion.model.mask import Cover, CoverKind, Mask
from bastion.protocols.postgres.covering import types as t
from bastion.protocols.postgres.covering.copied import Copied
from bastion.protocols.postgres.covering.description import Column
from bastion.protocols.postgres.covering.rows import Covering
from bastion.protocols.postgres.covering.values import covering

_FULL: Final = Cover(CoverKind.FULL)


class Search:
    """The detectors of one mask, and what they have found in one execution."""

    def __init__(self, mask: Mask, key: bytes) -> None:
        self._detectors = _detectors(mask.detectors, mask.patterns)
        self._cover: TextCover = text_cover(mask.cover, key)
        constant = mask.cover.kind in (CoverKind.NULL, CoverKind.FIXED)
        self._plain = text_cover(_FULL, key) if constant else self._cover
        self.counts: dict[str, int] = {}

    def suspects(self, run: memoryview, *, json: bool) -> bool:
        """Tell whether there may be anything in a run of bytes; `json` if some of it is."""
        return self._detectors.may_hold_json(run) if json else self._detectors.may_hold(run)

    def text(self, cell: bytes) -> bytes | None:
        """Cover within a text."""
        return self._noted(cell, *self._detectors.covered(cell, self._cover))

    def texts(self, cells: list[bytes]) -> list[bytes | None]:
        """Cover within texts."""
        covered, counts = self._detectors.covered_all(cells, self._cover)
        self._count(counts)
        return covered

    def text_only(self, cell: bytes) -> bytes:
        """Cover within a text that has a syntax of its own, which a policy's words could break."""
        found = self._noted(cell, *self._detectors.covered(cell, self._plain))
        return b"" if found is None else found

    def document(self, cell: bytes) -> bytes | None:
        """Cover within JSON."""
        return self._noted(cell, *self._detectors.covered_json(cell, self._cover))

    def notes(self, cell: bytes) -> bool:
        """Tell whether there is anything in a cell."""
        _, counts = self._detectors.covered(cell, self._plain)
        self._noted(cell, cell, counts)
        return bool(counts)

    def _noted(self, cell: bytes, covered: bytes | None, counts: dict[str, int]) -> bytes | None:
        self._count(counts)
        return covered if counts else cell

    def _count(self, counts: dict[str, int]) -> None:
        for kind, count in counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count


class Texts:
    """The texts of one column in a run of rows: collected in a first pass, searched, and put back in a second."""

    def __init__(self, searches: list[Search]) -> None:
        self._searches = searches
        self._cells: list[bytes] = []
        self._covered: Iterator[bytes | None] | None = None

    def __call__(self, cell: bytes) -> bytes | None:
        """Collect a text, or return what stands in its place."""
        if self._covered is not None:
            return next(self._covered)
        self._cells.append(cell)
        return cell

    def search(self) -> None:
        """Cover within what was collected; it is asked for next, in the same order."""
        found: list[bytes | None] = [*self._cells]
        for search in self._searches:
            places = [place for place, cell in enumerate(found) if cell is not None]
            for place, cell in zip(places, search.texts([found[place] or b"" for place in places]), strict=True):
                found[place] = cell
        self._covered = iter(found)

    def forget(self) -> None:
        """Be ready for the next run of rows."""
        self._cells.clear()
        self._covered = None


class Passing(Copied):
    """Copied data in lines of which only the text is known: each message is read as one text."""

    def __init__(self, covers: Iterable[Callable[[bytes], bytes]]) -> None:
        super().__init__(())
        self._covers = list(covers)

    def feed(self, data: bytes) -> bytes:
        """Return one message's data, covered."""
        for cover in self._covers:
            data = cover(data)
        return data

    def _row_by_row(self, data: bytes, start: int, end: int) -> bytes | None:
        return None

    def _ready(self, data: bytes) -> bool:
        return True

    def _rows(self, data: bytes, pieces: list[bytes]) -> int:
        return len(data)


@lru_cache(64)
def _detectors(names: tuple[str, ...], patterns: tuple[tuple[str, str], ...]) -> Detectors:
    return Detectors(names, patterns)


def finder(searches: list[Search], column: Column, types: t.Types, *, together: bool) -> Covering:
    """Return what searches the cells of a column that holds text in one way or another."""
    oid = t.resolved(column.type, types)
    if t.is_text(oid, types):
        if together:
            return Texts(searches)
        finds: list[Covering] = [search.text for search in searches]
    elif oid in (t.JSON, t.JSONB):
        finds = [search.document for search in searches]
        if oid == t.JSONB and column.binary:
            return partial(_versioned, finds)
    else:
        full = covering(_FULL, b"", column.type, column.binary, types, modifier=column.modifier)
        return partial(_whole, searches, full)
    return finds[0] if len(finds) == 1 else partial(_each, finds)


def _each(finds: list[Covering], cell: bytes) -> bytes | None:
    for find in finds:
        found = find(cell)
        if found is None:
            return None
        cell = found
    return cell


def _versioned(finds: list[Covering], cell: bytes) -> bytes | None:
    """Search a binary jsonb, whose text follows a version."""
    if cell[:1] != b"\1":
        return None
    found = _each(finds, cell[1:])
    return None if found is None else b"\1" + found


def _whole(searches: list[Search], full: Covering, cell: bytes) -> bytes | None:
    """Cover the whole of a cell that is made of texts, such as an array, if anything is found in it."""
    # Each of them, so that all is counted.
    return full(cell) if sum(search.notes(cell) for search in searches) else cell
