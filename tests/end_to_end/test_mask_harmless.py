"""Ordinary reports beside masked columns: each comes back exactly as the target gives it, by every protocol."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, ENVIRONMENT, Rig, loaded, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

CORPUS = Path(__file__).parents[1] / "corpus"
QUERIES: list[str] = yaml.safe_load((CORPUS / "harmless_masks.yaml").read_text())
POLICY = """
version: 1
rules:
  - {name: read, effect: allow, who: {groups: [engineers]}, sql: {access: read}}
  - {name: call, effect: allow, who: {groups: [engineers]}, sql: {functions: [shop.with_tax]}}
masks:
  - name: personal
    columns: [shop.customers.email, shop.customers.ssn, shop.payments.card, shop.staff.salary, shop.visits.address]
    cover: full
    trusts: [shop.with_tax]
"""


class Ways:
    """The same database, straight and through a gateway that masks."""

    def __init__(self, straight: "psycopg.Connection[Any]", masked: "psycopg.Connection[Any]") -> None:
        self.straight = straight
        self.masked = masked


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def ways(request: pytest.FixtureRequest, issuer: Issuer) -> Iterator[Ways]:
    server: Server = request.getfixturevalue(request.param)
    with (
        loaded(server, "reports", (CORPUS / "harmless_masks.sql").read_text()) as name,
        Rig(issuer, {"reports": target(server, name)}, POLICY, environment=ENVIRONMENT) as rig,
        psycopg.connect(server.dsn(name, "app_rw"), autocommit=True) as straight,
        rig.connect(ALICE, "reports") as masked,
    ):
        yield Ways(straight, masked)


def test_there_are_enough() -> None:
    assert len(set(QUERIES)) == len(QUERIES) >= 60


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_nothing_clean_is_covered(ways: Ways, binary: bool) -> None:
    straight = {query: _answer(ways.straight, query, binary=binary) for query in QUERIES}
    masked = {query: _answer(ways.masked, query, binary=binary) for query in QUERIES}
    assert {query: masked[query] for query in QUERIES if masked[query] != straight[query]} == {}
    assert {query: straight[query] for query in QUERIES if not isinstance(straight[query], tuple)} == {}


def _answer(connection: "psycopg.Connection[Any]", query: str, *, binary: bool) -> object:
    cursor = psycopg.RawCursor(connection)
    try:
        cursor.execute(query, binary=binary)
    except psycopg.Error as error:
        return str(error)
    assert cursor.pgresult is not None
    result = cursor.pgresult
    columns = [(result.fname(n), result.ftype(n), result.fmod(n)) for n in range(result.nfields)]
    rows = [[result.get_value(row, n) for n in range(result.nfields)] for row in range(result.ntuples)]
    return (columns, rows) if rows else None
