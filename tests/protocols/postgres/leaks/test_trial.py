"""How the leak test judges what came back."""

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.protocols.postgres.leaks.ground import Ground
from bastion.protocols.postgres.leaks.heard import heard
from bastion.protocols.postgres.leaks.shapes import Shape
from bastion.protocols.postgres.leaks.trial import Outcome, Trial
from tests.kit import pgwire

GROUND = Ground("scratch", Random(1))
CANARY = GROUND.masked["people.email"][0].literal.encode()
OPEN = GROUND.open["people.name"][0].encode()
ATTACK = Shape("attack", "f", (("select 1",),))
FAILING = Shape("failing", "f", (("select 1",),), fails=True)
ORACLE = Shape("oracle", "f", (("select 1",), ("select 2",)), oracle=True)
HARMLESS = Shape("harmless", "f", (("select 1",),), shows=("<<people.name>>",))


def row(*cells: bytes) -> bytes:
    body = struct.pack("!H", len(cells)) + b"".join(struct.pack("!I", len(cell)) + cell for cell in cells)
    return pgwire.frame("D", body)


def error(kind: str = "E", **fields: str) -> bytes:
    return pgwire.frame(kind, b"".join(pgwire.string(name + text) for name, text in fields.items()) + b"\0")


REFUSED = error(S="ERROR", C="42501", M="refused", D="The statement was not sent to the target.")
HELD = error("N", S="NOTICE", M="waiting", H='An approver runs "bastion approve x".')
FAILED = error(S="ERROR", C="22012", M="division by zero")


class Scripted:
    """A driver that receives what it is told, and stands in for the tap as well."""

    def __init__(self, answers: Sequence[bytes], choked: str = "") -> None:
        self._answers = list(answers)
        self._kept = b""
        self._choked = choked

    def can(self, shape: Shape) -> bool:
        return True

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        self._kept = self._answers.pop(0)
        return self._choked

    def close(self) -> None:
        pass

    def taken(self) -> bytes:
        kept, self._kept = self._kept, b""
        return kept


@pytest.mark.parametrize(
    ("shape", "answers", "outcome"),
    [
        (ATTACK, [row(b"***")], Outcome.COVERED),
        (ATTACK, [row(CANARY)], Outcome.LEAKED),
        (ATTACK, [REFUSED], Outcome.REFUSED),
        (ATTACK, [HELD], Outcome.HELD),
        (ATTACK, [FAILED], Outcome.BROKEN),
        (FAILING, [FAILED], Outcome.COVERED),
        (ATTACK, [row(CANARY) + REFUSED], Outcome.LEAKED),
        (ATTACK, [error("N", S="NOTICE", M=f"told {CANARY.decode()}")], Outcome.LEAKED),
        (ATTACK, [pgwire.frame("A", b"\0\0\0\1" + pgwire.string("news") + pgwire.string(CANARY))], Outcome.LEAKED),
        (ATTACK, [pgwire.frame("d", CANARY)], Outcome.LEAKED),
        (ATTACK, [pgwire.frame("d", CANARY[:4]) + pgwire.frame("d", CANARY[4:])], Outcome.LEAKED),
        (ATTACK, [pgwire.frame("S", pgwire.string("application_name") + pgwire.string(CANARY))], Outcome.LEAKED),
        (ATTACK, [b"".join(row(bytes([char])) for char in CANARY)], Outcome.LEAKED),
        (ATTACK, [b"".join(row(b"0", bytes([char])) for char in CANARY)], Outcome.LEAKED),
        (ATTACK, [row(b"x")[:-1]], Outcome.BROKEN),
        (ORACLE, [REFUSED, REFUSED], Outcome.REFUSED),
        (ORACLE, [REFUSED, row(b"1")], Outcome.LEAKED),
        (ORACLE, [HELD, HELD], Outcome.HELD),
        (HARMLESS, [row(OPEN)], Outcome.SHOWN),
        (HARMLESS, [row(b"***")], Outcome.NEEDLESS),
        (HARMLESS, [REFUSED], Outcome.NEEDLESS),
        (HARMLESS, [HELD], Outcome.NEEDLESS),
        (HARMLESS, [FAILED], Outcome.BROKEN),
        (HARMLESS, [row(OPEN, CANARY)], Outcome.LEAKED),
    ],
)
def test_outcome_is_what_came_back(shape: Shape, answers: list[bytes], outcome: Outcome) -> None:
    script: Any = Scripted(answers)
    assert Trial(GROUND, script, major=15).attempt(shape, script).outcome is outcome


def test_driver_that_cannot_read_a_covered_value_fails_the_test() -> None:
    script: Any = Scripted([row(b"***")], choked="ValueError")
    assert Trial(GROUND, script, major=15).attempt(ATTACK, script).outcome is Outcome.BROKEN


@pytest.mark.parametrize(
    "shape", [Shape("new", "f", (("select 1",),), since=17), Shape("xml", "f", (("select 1",),), needs="xml")]
)
def test_what_the_target_cannot_do_is_not_run(shape: Shape) -> None:
    script: Any = Scripted([])
    trial = Trial(GROUND, script, major=15, lacks=frozenset({"xml"}))
    assert trial.attempt(shape, script).outcome is Outcome.NONE


@given(st.binary(max_size=200))
def test_any_bytes_are_heard(data: bytes) -> None:
    list(heard(data).pieces())
