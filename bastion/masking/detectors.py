"""Detectors: what is sensitive in text whose origin nobody declared, found and covered.

They cover what looks like a value of a kind and passes that kind's check. They promise nothing about a value that is
encoded, split or spelled out, nor about digits outside ASCII: columns that are known are for masks by column.
"""

from collections.abc import Iterator, Sequence
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
        kinds = dict.fromkeys(names)
        for _, text in patterns:
            check_pattern(text)
        self._searches: list[tuple[str, Search]] = [(name, KINDS[name].search) for name in kinds]
        self._searches += [(name, _Custom(text)) for name, text in patterns]
        # Two passes where both are there: ours see bytes, a policy's see characters.
        own = [KINDS[name].hint for name in kinds]
        further = [without_anchors(text) for _, text in patterns]
        self._hints = [(Hints(hints), base) for hints, base in ((own, 0), (further, len(own))) if hints]

    def may_hold(self, chunk: bytes | memoryview) -> bool:
        """Whether something could be found in a cell that stands anywhere in `chunk`: quick, and never wrong in a no.

        JSON hides characters behind a backslash: ask `may_hold_json` about it.
        """
        return any(hints.within(chunk) is not None for hints, _ in self._hints)

    def found(self, cell: bytes) -> list[Found]:
        """Return all findings, in no order; they may overlap."""
        return [
            (start, end, name)
            for hints, base in self._hints
            for place in hints.within(cell) or ()
            for name, find in (self._searches[base + place],)
            for start, end in find(cell)
        ]

    def covered(self, cell: bytes, cover: TextCover) -> tuple[bytes | None, dict[str, int]]:
        """Return a cell with each finding covered, and how many there were of each kind.

        None stands for NULL: a cover that puts it in a finding's place empties the whole cell. What no finding
        touches stays as it is, byte by byte, whether or not it is valid UTF-8.
        """
        found = self.found(cell)
        return (replaced(cell, found, cover), counted(found)) if found else (cell, {})

    def may_hold_json(self, chunk: bytes | memoryview) -> bool:
        """Whether something could be found in JSON text that stands anywhere in `chunk`."""
        return self.may_hold(chunk) or json_text.may_hide(chunk)

    def covered_json(self, cell: bytes, cover: TextCover) -> tuple[bytes | None, dict[str, int]]:
        """Return JSON text with each finding covered, still JSON, and how many there were of each kind.

        Strings are read as what they mean, keys too, however they are escaped. A number in which something is found
        becomes a string. Text that holds a finding and is no JSON is covered whole.
        """
        return json_text.covered(cell, self.found, cover)


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
