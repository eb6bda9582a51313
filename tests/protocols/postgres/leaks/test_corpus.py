"""The corpus bites: without a mask every shape shows what it is there for, and the ground is what it says."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg
import pytest

from bastion.demo.cluster import short_directory
from bastion.protocols.postgres.leaks.canaries import KINDS
from bastion.protocols.postgres.leaks.drivers import Psycopg, PsycopgBinary
from bastion.protocols.postgres.leaks.ground import COVERS, TYPES, Ground
from bastion.protocols.postgres.leaks.shapes import shapes
from bastion.protocols.postgres.leaks.tap import Tap
from bastion.protocols.postgres.leaks.trial import Outcome, Trial
from tests.kit.postgres import Server
from tests.kit.rig import loaded


def test_names_are_unique_and_there_are_many() -> None:
    names = [shape.name for shape in shapes()]
    assert len(set(names)) == len(names) > 250
    assert sum(shape.harmless for shape in shapes()) >= 20
    assert sum(shape.oracle for shape in shapes()) >= 20


def test_every_kind_of_canary_is_planted_under_every_cover() -> None:
    ground = Ground("somewhere", Random(1))
    assert {kind for _, kind in TYPES.values()} | {"mail"} == set(KINDS)
    masked = {str(column) for mask in ground.masks() for column in mask["columns"]}  # type: ignore[attr-defined]
    assert {f"somewhere.types_{cover}.{name}" for cover in COVERS for name in TYPES} <= masked
    assert masked == {f"somewhere.{column}" for column in ground.masked}


def test_texts_are_meant_for_the_schema_of_the_run() -> None:
    ground = Ground("elsewhere", Random(1))
    mail = ground.masked["people.email"][0].literal
    assert ground.filled("select '<<people.email>>' from scratch.people") == f"select '{mail}' from elsewhere.people"
    assert ground.filled("scratchy") == "scratchy"
    assert ground.removal() == "drop schema if exists elsewhere cascade"


@pytest.fixture(scope="module")
def bare(postgres: Server) -> Iterator[tuple[Trial, str]]:
    """A trial of the target itself, with nothing before it, and where it is reached."""
    ground = Ground("bare", Random(5))
    home = short_directory("bt-tap-")
    with loaded(postgres, "bare", "select 1") as database:
        with psycopg.connect(postgres.dsn(database, "app_rw"), autocommit=True) as connection:
            for statement in ground.statements():
                connection.execute(statement.encode())
        name = f".s.PGSQL.{postgres.port}"
        with Tap(home, name, postgres.directory / name) as tap:
            yield (
                Trial(ground, tap, major=postgres.major),
                psycopg.conninfo.make_conninfo(host=str(home), port=postgres.port, user="app_rw", dbname=database),
            )
    Path(home).rmdir()


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("kind", [Psycopg, PsycopgBinary])
def test_every_shape_shows_what_it_is_there_for(bare: tuple[Trial, str], kind: type[Psycopg], postgres: Server) -> None:
    trial, place = bare
    driver = kind(lambda: psycopg.conninfo.conninfo_to_dict(place))
    there = [shape for shape in shapes() if shape.since <= postgres.major and driver.can(shape)]
    showing = [shape for shape in there if not (shape.harmless or shape.oracle)]
    try:
        silent = {shape.name for shape in showing if not trial.seen(shape, driver)}
        oracles = [trial.attempt(shape, driver).outcome for shape in there if shape.oracle]
    finally:
        driver.close()
    # What a rule adds is sent in the simple protocol alone.
    expected = {shape.name for shape in showing if shape.blind}
    assert silent - {"rule that also selects"} == expected
    assert set(oracles) == {Outcome.LEAKED}
