"""The sample data, as values and in a real database."""

import re
import shutil
from collections.abc import Iterator

import psycopg
import pytest

from bastion.demo import sample
from bastion.demo.cluster import embedded_installation, machine_installations, short_directory
from bastion.demo.database import SampleDatabase


def test_it_is_the_same_every_time() -> None:
    assert sample.tables() == sample.tables()


def test_card_numbers_pass_the_test_of_their_check_digit() -> None:
    payments = next(t for t in sample.tables() if t.name == "payments")
    cards = [str(row[2]) for row in payments.rows]
    assert all(map(sample.passes_luhn, cards))
    assert {len(card) for card in cards} == {15, 16}
    assert not sample.passes_luhn("4000000000000001")


def test_addresses_are_ascii_and_numbers_are_never_issued() -> None:
    customers = next(t for t in sample.tables() if t.name == "customers")
    for _, _, email, _, ssn, _, _ in customers.rows:
        assert re.fullmatch(r"[a-z]+\.[a-z]+\d+@example\.(com|org|net)", str(email))
        assert re.fullmatch(r"9\d\d-\d\d-\d{4}", str(ssn))


INSTALLATIONS = [i for i in (embedded_installation(), *machine_installations()) if i]


@pytest.fixture(scope="module", params=INSTALLATIONS, ids=lambda i: f"{i.major}")
def shop(request: pytest.FixtureRequest) -> Iterator[SampleDatabase]:
    home = short_directory("bt-")
    home.chmod(0o711)
    with SampleDatabase(home / "db", request.param) as database:
        yield database
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.live
def test_every_row_arrives(shop: SampleDatabase) -> None:
    for table in sample.tables():
        assert shop.query(f"select count(*) from {table.name}") == [(len(table.rows),)]


@pytest.mark.live
def test_only_the_password_opens_it(shop: SampleDatabase) -> None:
    directory, port = shop.address
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=str(directory), port=port, dbname="shop", user="app_rw", password="wrong")
