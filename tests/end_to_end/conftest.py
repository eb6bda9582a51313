"""What the end-to-end tests share: an issuer for each process, and a shop on PostgreSQL."""

from collections.abc import Callable, Iterator

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


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, bool], None]:
    """Returns a function that counts a hostile case, so that the run can print how many went as they should."""
    return lambda what, good: record_property("tally", [what, good])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the hostile cases went."""
    counts: dict[str, list[bool]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", []):
                if name == "tally" and report.when == "call":
                    counts.setdefault(value[0], []).append(value[1])
    for what, results in sorted(counts.items()):
        terminalreporter.write_line(f"{what}: {sum(results)} of {len(results)} as expected")
