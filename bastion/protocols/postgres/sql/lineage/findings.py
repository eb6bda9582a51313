"""Collects how a statement uses what is watched, and why."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from bastion.model.mask import Use
from bastion.protocols.postgres.sql.reading import Origin

_GUESSES_AT_MOST: Final = 8
"""Values that one statement may compare a column with for equality; more of them are a search for it."""
_GUESSED: Final = "it is compared with many values"


class Findings:
    """The uses of one statement, or of one view. Each is kept once, with the first of its reasons by the alphabet."""

    __slots__ = ("_guesses", "met", "uses")

    def __init__(self) -> None:
        self.uses: dict[Origin, dict[Use, str]] = {}
        self._guesses: Counter[Origin] = Counter()
        self.met: set[Origin] = set()
        """The origins that were come across, used or not."""

    def add(self, origins: Iterable[Origin], use: Use, because: str = "") -> None:
        """Note that the origins are used."""
        for origin in origins:
            reasons = self.uses.setdefault(origin, {})
            reasons[use] = min(because, reasons.get(use, because))
            if use is Use.EQUALITY:
                self._guesses[origin] += 1
                if self._guesses[origin] == _GUESSES_AT_MOST + 1:
                    self.add((origin,), Use.PREDICATE, _GUESSED)

    def include(self, other: "Findings") -> None:
        """Take in what was found elsewhere."""
        self.met |= other.met
        for origin, reasons in other.uses.items():
            for use, because in reasons.items():
                self.add((origin,), use, because)
