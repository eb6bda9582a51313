"""Collects how a statement uses what is watched, and why."""

from collections.abc import Iterable

from bastion.model.mask import Use
from bastion.protocols.postgres.sql.reading import Origin


class Findings:
    """The uses of one statement, or of one view. Each is kept once, with the first of its reasons by the alphabet."""

    __slots__ = ("met", "uses")

    def __init__(self) -> None:
        self.uses: dict[Origin, dict[Use, str]] = {}
        self.met: set[Origin] = set()
        """The origins that were come across, used or not."""

    def add(self, origins: Iterable[Origin], use: Use, because: str = "") -> None:
        """Note that the origins are used."""
        for origin in origins:
            reasons = self.uses.setdefault(origin, {})
            reasons[use] = min(because, reasons.get(use, because))

    def include(self, other: "Findings") -> None:
        """Take in what was found elsewhere."""
        self.met |= other.met
        for origin, reasons in other.uses.items():
            for use, because in reasons.items():
                self.add((origin,), use, because)
