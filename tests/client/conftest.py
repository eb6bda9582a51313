"""A stand-in for the gateway, with a real database behind it where a test asks for one."""

from collections.abc import Iterator

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
