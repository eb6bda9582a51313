"""Every hostile SQL case, and every harmless one beside it, through a gateway to a real server."""

import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from tests.end_to_end.attacks import SQL, Range, firing_range, played
from tests.kit.issuer import Issuer
from tests.kit.postgres import Fleet, Server
from tests.kit.versions import MAJORS, installation_of

Tally: TypeAlias = Callable[[str, bool], None]

pytestmark = [pytest.mark.live, pytest.mark.slow]

NOT_REPRESENTED = {
    "SQL-P-054": "wants a budget of writes a minute, which a policy cannot give; each execution is judged by itself",
}
"""The cases that are not played, and why."""

_LONGEST = 30.0

EVERYWHERE = tuple(SQL)[::10]
"""Every tenth case, attack or control: those that are also played at a server of each version."""


@pytest.fixture(scope="module")
def firing(postgres: Server, issuer: Issuer) -> Iterator[Range]:
    with firing_range(postgres, issuer, SQL, "sql") as running:
        yield running


@pytest.fixture(scope="module", params=MAJORS)
def firing_everywhere(
    request: pytest.FixtureRequest, postgres: Server, fleet: Fleet, issuer: Issuer
) -> Iterator[Range]:
    major = request.param
    if major == postgres.major:
        yield request.getfixturevalue("firing")
        return
    with firing_range(fleet(installation_of(major)), issuer, SQL, "sql") as running:
        yield running


def _cases(kind: str) -> list[str]:
    return [name for name, case in SQL.items() if case["kind"] == kind and name not in NOT_REPRESENTED]


def test_every_case_is_played_but_those_listed() -> None:
    assert len(SQL) == 110
    assert len(_cases("attack")) + len(_cases("control")) == len(SQL) - len(NOT_REPRESENTED)
    assert set(NOT_REPRESENTED) <= set(SQL)


@pytest.mark.parametrize("name", _cases("attack"))
def test_attack_does_not_get_through(firing: Range, name: str, tally: Tally) -> None:
    _play(firing, name, tally)


@pytest.mark.parametrize("name", _cases("control"))
def test_harmless_case_passes(firing: Range, name: str, tally: Tally) -> None:
    _play(firing, name, tally)


@pytest.mark.parametrize("name", [name for name in EVERYWHERE if name not in NOT_REPRESENTED])
def test_each_version_fares_no_worse(firing_everywhere: Range, name: str, tally: Tally) -> None:
    _play(firing_everywhere, name, tally)


def _play(firing: Range, name: str, tally: Tally) -> None:
    case = SQL[name]
    began = time.monotonic()
    outcome = played(firing, case)
    took = time.monotonic() - began
    tally(f"SQL {case['kind']}s", not outcome.problems)
    assert outcome.problems == []
    assert took < case["expect"].get("max_seconds", _LONGEST)
