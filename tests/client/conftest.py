"""A stand-in for the gateway, with a real database behind it where a test asks for one."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.stand_in import StandIn, gateway
from tests.kit.postgres import Database


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with gateway() as running:
        yield running


@pytest.fixture
def database_gateway(database: Database) -> Iterator[StandIn]:
    with gateway(database) as running:
        yield running


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A private directory whose path leaves room for the name of a unix socket."""
    with tempfile.TemporaryDirectory(prefix="bt-", dir="/tmp") as made:
        yield Path(made)
