"""What every test may ask for."""

from tests.kit.idp import provider, running_provider
from tests.kit.postgres import database, every_postgres, postgres, postgres18

__all__ = ["database", "every_postgres", "postgres", "postgres18", "provider", "running_provider"]
