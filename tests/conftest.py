"""What every test may ask for."""

import os

import hypothesis
import pytest

from tests.kit.idp import provider, running_provider
from tests.kit.postgres import database, every_postgres, fleet, postgres, postgres18

__all__ = ["database", "every_postgres", "fleet", "postgres", "postgres18", "provider", "running_provider"]


# The same examples in every run, however slow the machine is. BASTION_EXPLORE=1 looks for new ones instead.
hypothesis.settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("explore", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("explore" if os.environ.get("BASTION_EXPLORE") else "same")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the full run."""
    parser.addoption("--no-skips", action="store_true", help="fail when a test was skipped: nothing is missing here")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a full run that left something out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
