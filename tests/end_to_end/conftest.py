"""What the end-to-end tests share: an issuer for each process, and a shop on PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.kit import shop
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import loaded


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    """An issuer that answers."""
    with Issuer() as running:
        yield running


@pytest.fixture(scope="module")
def shop_database(postgres: Server) -> Iterator[str]:
    """A shop's database on `postgres`, for tests that leave it as it is or change rows of their own."""
    with loaded(postgres, "shop", shop.SQL) as name:
        yield name


@pytest.fixture
def own_shop(postgres: Server) -> Iterator[str]:
    """A shop's database of one test."""
    with loaded(postgres, "own_shop", shop.SQL) as name:
        yield name
