"""Every hostile case against masks, and every harmless one beside it, byte by byte to a real server."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from tests.end_to_end.attacks import MASK, Range, firing_range, played
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server

Tally: TypeAlias = Callable[[str, bool], None]

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(scope="module")
def firing(postgres: Server, issuer: Issuer) -> Iterator[Range]:
    with firing_range(postgres, issuer, MASK, "mask") as running:
        yield running


def test_every_case_is_played() -> None:
    assert len(MASK) == 50
    assert {case["kind"] for case in MASK.values()} == {"attack", "control"}


@pytest.mark.parametrize("name", MASK)
def test_case_ends_as_it_should(firing: Range, name: str, tally: Tally) -> None:
    case = MASK[name]
    outcome = played(firing, case)
    tally(f"masking {case['kind']}s", not outcome.problems)
    assert outcome.problems == []
