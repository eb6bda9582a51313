"""What the wire has to know of a reading besides its action, found once for each reading."""

from dataclasses import dataclass
from typing import Final

from bastion.model.action import Access, Action
from bastion.protocols.postgres.binding import UNKNOWN
from bastion.protocols.postgres.sql.reading import Executes, Fetches, Reading
from bastion.protocols.postgres.sql.statements import PLACEHOLDER

_KEPT: Final = 512
_LONG: Final = 16 * 1024
"""Characters of a text above which it is not worth its memory."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What follows for the wire from what a text does."""

    reading: Reading
    plain: bool
    """Whether it changes nothing about the session and runs nothing by name."""
    runs_names: bool
    early: bool
    """Whether binding it could already run something that nobody vouched for.

    The target folds calls of immutable functions and converts values of types with checks when it plans, which is
    before anything is executed. What could do harm there is judged when it is bound.
    """
    doubts: bool
    """Whether it could do anything at all, such as preparing other statements under the same names."""
    by_name: bool
    """Whether all that is unknown about it is what a name stands for, so that nothing ran if the name is not known."""
    stirs: bool
    """Whether it may run what only a rule vouches for, which can make temporary objects among other things."""
    indifferent: bool
    """Whether it is about transactions alone, so that it means the same under any catalog."""


class TraitsCache:
    """Remembers the traits of readings, by their identity."""

    def __init__(self) -> None:
        self._kept: dict[int, Traits] = {}
        self._simple: dict[int, tuple[Action, bool]] = {}

    def is_simple(self, reading: Reading) -> bool:
        """Tell whether a reading does nothing but run, and that not before it is executed.

        One answer serves all texts of one form, which share its resources and have no effects.
        """
        form = reading.action.form
        if form is None or reading.effects or form.resources is not reading.action.resources:
            traits = self.of(reading)
            return traits.plain and not traits.early and not traits.runs_names
        kept = self._simple.get(id(form))
        if kept is None:
            traits = _found(reading)
            if len(self._simple) >= _KEPT:
                self._simple.clear()
            kept = self._simple[id(form)] = form, traits.plain and not traits.early
        return kept[1]

    def of(self, reading: Reading) -> Traits:
        """Return the traits of `reading`."""
        kept = self._kept.get(id(reading))
        if kept is None:
            kept = _found(reading)
            if len(reading.action.text) > _LONG:
                return kept
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[id(reading)] = kept
        return kept


def _found(reading: Reading) -> Traits:
    resources = reading.action.resources
    unknown = [r for r in resources if r.access is Access.UNKNOWN]
    doubts = not resources or any(r.kind != "function" for r in unknown)
    # SET CONSTRAINTS runs the triggers that were put off.
    stirs = len(unknown) > 0 or any((r.kind, r.name) == ("setting", "constraints") for r in resources)
    return Traits(
        reading,
        plain=not reading.effects and not doubts and not stirs,
        runs_names=any(isinstance(e, Executes | Fetches) for e in reading.effects),
        early=bool(unknown) or any(r.kind == "function" and r.access > Access.NONE for r in resources),
        doubts=doubts,
        by_name=reading is UNKNOWN or (reading.statements <= 1 and all(r.kind == PLACEHOLDER for r in unknown)),
        stirs=stirs,
        indifferent=bool(resources) and all(r.kind == "transaction" for r in resources),
    )
