"""The corpus of ways out, by every driver: nothing gets past a mask, and nothing harmless is covered."""

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from bastion.protocols.postgres.leaks.drivers import (
    Driver,
    Login,
    Psycopg,
    PsycopgBinary,
    PsycopgCursor,
    PsycopgPipeline,
    PsycopgPrepared,
)
from bastion.protocols.postgres.leaks.heard import heard
from bastion.protocols.postgres.leaks.others import Asyncpg, AsyncpgPortal, Psql
from bastion.protocols.postgres.leaks.searching import Search
from bastion.protocols.postgres.leaks.shapes import shapes
from tests.end_to_end.leak_range import (
    COVERED,
    GUESSING,
    NONE,
    REFUSED,
    SHOWING,
    SHOWN,
    LeakRange,
    NodePostgres,
    Pg8000,
    Psycopg2,
    leak_range,
    oracles_apart,
)
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server

pytestmark = [pytest.mark.live, pytest.mark.slow]

Made = Callable[[Login], Driver]
EVERYTHING: list[Made] = [Psycopg, PsycopgBinary, Asyncpg, Psql, Psycopg2, Pg8000, NodePostgres]
"""Drivers that can run every shape, or nearly so."""
QUERIES: list[Made] = [PsycopgPrepared, PsycopgPipeline, PsycopgCursor, AsyncpgPortal]


@pytest.fixture(scope="module")
def range15(postgres: Server, issuer: Issuer) -> Iterator[LeakRange]:
    with leak_range(postgres, issuer) as running:
        yield running


@pytest.fixture(scope="module")
def range18(postgres18: Server, issuer: Issuer) -> Iterator[LeakRange]:
    with leak_range(postgres18, issuer) as running:
        yield running


def _named(driver: Made) -> str:
    return str(driver.name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("driver", EVERYTHING, ids=_named)
def test_nothing_gets_past_a_mask(range15: LeakRange, driver: Made) -> None:
    found = range15.tried(driver, oracles_apart)
    assert found["wrong"] == []
    # Most of it runs, and comes back covered: a gateway that refuses everything would not leak either.
    assert len(found[COVERED]) > 180
    harmless = {shape.name for shape in shapes() if shape.harmless}
    assert set(found[SHOWN]) == harmless - set(found.get(NONE, ()))


@pytest.mark.parametrize("driver", QUERIES, ids=_named)
def test_nothing_gets_past_a_mask_by_a_driver_for_queries(range15: LeakRange, driver: Made) -> None:
    found = range15.tried(driver, oracles_apart)
    assert found["wrong"] == []
    assert len(found[COVERED]) > 100


@pytest.mark.parametrize("driver", [PsycopgBinary, Asyncpg], ids=_named)
def test_nothing_gets_past_a_mask_of_the_newest_version(range18: LeakRange, driver: Made) -> None:
    found = range18.tried(driver, oracles_apart)
    assert found["wrong"] == []
    assert len(found[COVERED]) > 170


def test_what_a_mask_does_not_let_depend_is_refused(range15: LeakRange) -> None:
    found = range15.tried(Psycopg, lambda _: GUESSING)
    assert found["wrong"] == []
    assert {shape.name for shape in shapes() if shape.oracle} <= set(found[REFUSED])


@pytest.mark.parametrize("options", [["-t", "leaks.*"], ["--inserts", "-t", "leaks.people"]], ids=" ".join)
def test_a_dump_shows_nothing(range15: LeakRange, options: list[str]) -> None:
    told = range15.login(SHOWING)()
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
    range15.tap.taken()
    done = subprocess.run(
        [str(range15.server.bin / "pg_dump"), *options],
        capture_output=True,
        env={"PATH": os.environ["PATH"], **{names[key]: str(value) for key, value in told.items()}},
        timeout=60,
        check=False,
    )
    received = range15.tap.taken()
    assert Search(range15.ground.canaries).found([received, done.stdout, done.stderr]) == []
    # It was let in, and did read.
    assert len(heard(received).rows) > 100
