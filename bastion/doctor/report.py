"""What came of a leak test: a matrix of shapes and drivers, and what is wrong in it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bastion.protocols.clientside import Tried


@dataclass
class Report:
    """What was tried so far."""

    target: str
    drivers: tuple[str, ...]
    missing: Mapping[str, str]
    """The drivers that could not be used, and why."""
    tried: list[Tried] = field(default_factory=list)

    @property
    def wrong(self) -> list[Tried]:
        """What fails the test."""
        return [one for one in self.tried if one.bad]

    @property
    def counts(self) -> dict[str, int]:
        """How often each outcome came, the most frequent first."""
        return dict(Counter(one.outcome for one in self.tried if one.outcome != "-").most_common())

    def families(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """Yield each family of shapes with its rows: the shape, and the outcome by each driver."""
        found: dict[str, dict[str, dict[str, str]]] = {}
        for one in self.tried:
            found.setdefault(one.family, {}).setdefault(one.shape, {})[one.driver] = one.outcome
        for family, shapes in found.items():
            yield (
                family,
                [(shape, *(by.get(driver, "-") for driver in self.drivers)) for shape, by in shapes.items()],
            )

    def told(self) -> dict[str, object]:
        """Return it for a program."""
        shapes: dict[tuple[str, str], dict[str, object]] = {}
        for one in self.tried:
            said = {"outcome": one.outcome, **({"detail": one.detail} if one.detail else {})}
            shapes.setdefault((one.family, one.shape), {})[one.driver] = said
        return {
            "ok": not self.wrong,
            "target": self.target,
            "drivers": list(self.drivers),
            "not_run": dict(self.missing),
            "counts": self.counts,
            "shapes": [
                {"family": family, "shape": shape, "outcomes": outcomes} for (family, shape), outcomes in shapes.items()
            ],
        }
