"""Detectors: what is sensitive in text whose origin nobody declared, found and covered.

They cover what looks like a value of a kind and passes that kind's check. They promise nothing about a value that is
encoded, split or spelled out, nor about digits outside ASCII: columns that are known are for masks by column.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from operator import add
from typing import Any, Final

from bastion.masking import addresses, credentials, json_text, numbers
from bastion.masking.covers import TextCover
from bastion.masking.kind import Kind, Search
from bastion.masking.patterns import Hints, Span, check_pattern, custom, search, without_anchors
from bastion.masking.replacing import Found, counted, replaced

KINDS: Final[dict[str, Kind]] = {
    "email": addresses.EMAIL,
    "payment_card": numbers.PAYMENT_CARD,
    "iban": numbers.IBAN,
    "us_ssn": numbers.US_SSN,
    "phone": numbers.PHONE,
    "ipv4": addresses.IPV4,
    "ipv6": addresses.IPV6,
    "jwt": credentials.JWT,
    "cloud_key": credentials.CLOUD_KEY,
    "private_key": credentials.PRIVATE_KEY,
    "bearer_token": credentials.BEARER_TOKEN,
    "url_password": credentials.URL_PASSWORD,
}
"""Every kind, by the name that policies use."""

NAMES: Final[dict[str, str]] = {name: kind.about for name, kind in KINDS.items()}
"""What a policy may name, each with one line about it."""

MOST_FINDINGS: Final = 256
"""How often one pattern of a policy is found in one cell at least, before the rest of the cell is covered."""
_BLOCK: Final = 2048
_MOST_READ: Final = 1 << 27
"""Bytes that the search for one pattern may read in one cell, for all that it finds there."""


class Detectors:
    """Some named detectors and patterns of a policy's own, run together.

    Raises ValueError for a name that does not exist or a pattern that cannot be used.
    """

    def __init__(self, names: Sequence[str], patterns: Sequence[tuple[str, str]] = ()) -> None:
        unknown = [name for name in names if name not in KINDS]
        if unknown:
            raise ValueError(f"no detector is called {unknown[0]!r}; there are {', '.join(KINDS)}")
        taken = [name for name, _ in patterns if name in KINDS]
        if taken:
            raise ValueError(f"a pattern cannot be called {taken[0]!r}, as a detector already is")
        for _, text in patterns:
            check_pattern(text)
        kinds = tuple(dict.fromkeys(names))
        self._own: list[tuple[str, Search]] = [(name, KINDS[name].search) for name in kinds]
        self._further: list[tuple[str, Search]] = [(name, _Custom(text)) for name, text in patterns]
        # Two passes where both are there: ours see bytes, a policy's see characters.
        self._own_hints = Hints([KINDS[name].hint for name in kinds]) if kinds else None
        self._further_hints = Hints([without_anchors(text) for _, text in patterns]) if patterns else None

    def may_hold(self, chunk: bytes | memoryview) -> bool:
        """Whether something could be found in a cell that stands anywhere in `chunk`: quick, and never wrong in a no.

        JSON hides characters behind a backslash: ask `may_hold_json` about it.
        """
        return any(hints.within(chunk) is not None for hints in (self._own_hints, self._further_hints) if hints)

    def found(self, cell: bytes) -> list[Found]:
        """Return all findings, in no order; they may overlap."""
        return self._searched(cell, self._own_hints, self._own) + self._searched(
            cell, self._further_hints, self._further
        )

    def covered(self, cell: bytes, cover: TextCover) -> tuple[bytes | None, dict[str, int]]:
        """Return a cell with each finding covered, and how many there were of each kind.

        None stands for NULL: a cover that puts it in a finding's place empties the whole cell. What no finding
        touches stays as it is, byte by byte, whether or not it is valid UTF-8.
        """
        found = self.found(cell)
        return (replaced(cell, found, cover), counted(found)) if found else (cell, {})

    def covered_all(self, cells: Sequence[bytes], cover: TextCover) -> tuple[list[bytes | None], dict[str, int]]:
        """Return many cells covered, as `covered` does with each: the quick way, since a search has its price."""
        shown: list[bytes | None] = list(cells)
        counts: dict[str, int] = {}
        for place, found in self._found_among(cells):
            shown[place] = replaced(cells[place], found, cover)
            for _, _, name in found:
                counts[name] = counts.get(name, 0) + 1
        return shown, counts

    def may_hold_json(self, chunk: bytes | memoryview) -> bool:
        """Whether something could be found in JSON text that stands anywhere in `chunk`."""
        return self.may_hold(chunk) or json_text.may_hide(chunk)

    def covered_json(self, cell: bytes, cover: TextCover) -> tuple[bytes | None, dict[str, int]]:
        """Return JSON text with each finding covered, still JSON, and how many there were of each kind.

        Strings are read as what they mean, keys too, however they are escaped. A number in which something is found
        becomes a string. Text that holds a finding and is no JSON is covered whole.
        """
        return json_text.covered(cell, self.found, cover)

    def _found_among(self, cells: Sequence[bytes]) -> Iterator[tuple[int, list[Found]]]:
        """Yield the findings of those cells that have any, with their places.

        Cells are searched by the block, with a NUL between them: so few that most kinds are in none of them.
        """
        # Where the cell behind each one begins, if all stood in a row.
        borders = list(map(add, accumulate(map(len, cells)), count(1)))
        first, base = 0, 0
        while first < len(cells):
            last = min(bisect_left(borders, base + _BLOCK) + 1, len(cells))
            block = b"\0".join(cells[first:last])
            if block.count(0) >= last - first:
                # A NUL within a cell: nothing is left that could part them.
                found = {place: self.found(cells[place]) for place in range(first, last)}
            else:
                found = {}
                for start, end, name in self._searched(block, self._own_hints, self._own):
                    place = bisect_right(borders, base + start)
                    begin = (borders[place - 1] if place else 0) - base
                    found.setdefault(place, []).append((start - begin, end - begin, name))
                if self._further_hints is not None and self._further_hints.within(block) is not None:
                    # A pattern of the policy could match across the border of two cells.
                    for place in range(first, last):
                        further = self._searched(cells[place], self._further_hints, self._further)
                        found.setdefault(place, []).extend(further)
            yield from ((place, each) for place, each in found.items() if each)
            first, base = last, borders[last - 1]

    @staticmethod
    def _searched(text: bytes, hints: Hints | None, searches: list[tuple[str, Search]]) -> list[Found]:
        found: list[Found] = []
        if hints is not None:
            for place in hints.within(text) or ():
                for name, find in searches[place : place + 1]:
                    found += [(start, end, name) for start, end in find(text)]
        return found


class _Custom:
    """The search for a pattern of a policy."""

    __slots__ = ("_pattern",)

    def __init__(self, text: str) -> None:
        self._pattern: Any = custom(text)

    def __call__(self, cell: bytes) -> Iterator[Span]:
        """Yield what matches; when that is a great deal, at last all the rest.

        One match can cost a look at the whole text behind it, as with `a.*b|a`; without a bound, many would cost
        time by the square.
        """
        at = 0
        for _ in range(max(MOST_FINDINGS, _MOST_READ // (len(cell) + 1))):
            hit = search(self._pattern, cell, at)
            if hit is None:
                return
            yield hit
            at = hit[1]
        if at < len(cell):
            yield at, len(cell)
