"""Runs shapes by drivers, and judges what came back."""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bastion.protocols.postgres.leaks.drivers import (
    Driver,
    Login,
    Psycopg,
    PsycopgBinary,
    PsycopgCursor,
    PsycopgPipeline,
    PsycopgPrepared,
)
from bastion.protocols.postgres.leaks.ground import Ground
from bastion.protocols.postgres.leaks.heard import Heard, heard
from bastion.protocols.postgres.leaks.others import Asyncpg, AsyncpgPortal, Psql
from bastion.protocols.postgres.leaks.searching import Search
from bastion.protocols.postgres.leaks.shapes import Shape
from bastion.protocols.postgres.leaks.tap import Tap

DRIVERS: Final = (
    Psycopg,
    PsycopgBinary,
    PsycopgPrepared,
    PsycopgPipeline,
    PsycopgCursor,
    Asyncpg,
    AsyncpgPortal,
    Psql,
)


class Outcome(enum.StrEnum):
    """What became of one shape by one driver."""

    COVERED = "covered"
    """It ran, and nothing that came back shows a canary."""
    REFUSED = "refused"
    HELD = "held"
    SHOWN = "shown"
    """It is harmless, and came back as it is."""
    LEAKED = "LEAKED"
    NEEDLESS = "NEEDLESS"
    """It is harmless, and was covered or refused all the same."""
    BROKEN = "BROKEN"
    """The driver could not read what came back, or the target failed what was not meant to fail."""
    NONE = "-"
    """This driver, or this target, has no way to run it."""


BAD: Final = frozenset({Outcome.LEAKED, Outcome.NEEDLESS, Outcome.BROKEN})


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, and what is to be said of it."""

    outcome: Outcome
    detail: str = ""


class Trial:
    """Tries shapes on one ground, through one tap."""

    def __init__(self, ground: Ground, tap: Tap, *, major: int, lacks: frozenset[str] = frozenset()) -> None:
        """Try against a target of version `major` that was built without what `lacks` names."""
        self._ground = ground
        self._tap = tap
        self._search = Search(ground.canaries)
        self._major = major
        self._lacks = lacks

    def attempt(self, shape: Shape, driver: Driver) -> Verdict:
        """Run a shape by a driver and return what became of it."""
        if shape.since > self._major or shape.needs in self._lacks or not driver.can(shape):
            return Verdict(Outcome.NONE)
        verdicts = [self._variant(shape, driver, steps) for steps in shape.variants]
        return next((v for v in verdicts if v.outcome in BAD), verdicts[0])

    def seen(self, shape: Shape, driver: Driver) -> list[str]:
        """Return the canaries that come back from a shape, whatever stands before the target."""
        found: list[str] = []
        for steps in shape.variants:
            answer, _ = self._run(shape, driver, steps)
            found += self._search.found(answer.pieces())
        return found

    def _variant(self, shape: Shape, driver: Driver, steps: Sequence[str]) -> Verdict:
        answer, choked = self._run(shape, driver, steps)
        if found := self._search.found(answer.pieces()):
            return Verdict(Outcome.LEAKED, ", ".join(found))
        if shape.harmless:
            return self._harmless(shape, answer, choked)
        if answer.held:
            return Verdict(Outcome.HELD)
        if answer.refused:
            return Verdict(Outcome.REFUSED, _message(answer))
        if shape.oracle:
            return Verdict(Outcome.LEAKED, "it ran, so what it tells apart is told")
        if choked:
            return Verdict(Outcome.BROKEN, choked)
        if answer.failed and not shape.fails:
            return Verdict(Outcome.BROKEN, _message(answer))
        return Verdict(Outcome.COVERED)

    def _harmless(self, shape: Shape, answer: Heard, choked: str) -> Verdict:
        if answer.held or answer.refused:
            return Verdict(Outcome.NEEDLESS, _message(answer))
        if choked or answer.failed:
            return Verdict(Outcome.BROKEN, choked or _message(answer))
        text = answer.text()
        missing = [wanted for wanted in map(self._ground.filled, shape.shows) if wanted not in text]
        return Verdict(Outcome.NEEDLESS, "what is open was covered") if missing else Verdict(Outcome.SHOWN)

    def _run(self, shape: Shape, driver: Driver, steps: Sequence[str]) -> tuple[Heard, str]:
        self._tap.taken()
        choked = driver.run([self._ground.filled(step) for step in steps], commit=shape.commit)
        answer = heard(self._tap.taken())
        return answer, choked if answer.whole else "messages that are none"


def _message(answer: Heard) -> str:
    """Return the first error, which the search has found to hold no canary."""
    return next((f"{error.get('C', '')} {error.get('M', '')}" for error in answer.errors), "")


def missing() -> Mapping[str, str]:
    """Return which drivers cannot be used on this machine, and why."""
    found = {driver.name: driver.missing() for driver in (Asyncpg, AsyncpgPortal, Psql)}
    return {name: why for name, why in found.items() if why}


def built(names: Sequence[str], login: Login) -> Iterator[tuple[str, Driver]]:
    """Yield the drivers of those names, each with its own connection."""
    for driver in DRIVERS:
        if driver.name in names:
            yield driver.name, driver(login)
