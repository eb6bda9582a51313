"""The leak test of PostgreSQL, as the command line runs it."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any, ClassVar, Final

import psycopg

from bastion.errors import TargetError
from bastion.protocols.clientside import PLANTER, PROBER, IssuedTicket, Json, Tried
from bastion.protocols.postgres.leaks.ground import Ground
from bastion.protocols.postgres.leaks.shapes import shapes
from bastion.protocols.postgres.leaks.tap import Tap
from bastion.protocols.postgres.leaks.trial import BAD, DRIVERS, Trial, built, missing

SCHEMA: Final = "bastion_leak_test_"
_XML: Final = "select '<a/>'::xml"
_OPEN: Final = ["pg_notify", "set_config", "current_setting", "lo_*", "*_to_xml*", "setval", "pg_get_serial_sequence"]
"""What the prober may call beside what harms nobody: so that it is the masks that are tried, not the rules."""


class PostgresLeakTest:
    """One run, with a schema and canaries of its own."""

    drivers: ClassVar[tuple[str, ...]] = tuple(driver.name for driver in DRIVERS)

    def __init__(self, ticket: Callable[[str], IssuedTicket], directory: Path) -> None:
        self._ticket = ticket
        self._directory = directory
        self.planted = False
        self.ground = Ground(f"{SCHEMA}{secrets.token_hex(4)}", SystemRandom())

    @staticmethod
    def missing() -> Mapping[str, str]:
        """Return which drivers cannot be used on this machine, and why."""
        return missing()

    @property
    def removal(self) -> str:
        """Return the statement that drops the schema."""
        return self.ground.removal()

    def rules(self, planter: str, prober: str) -> tuple[list[Json], list[Json]]:
        """Return rules under which the planter may do anything to the schema and the prober use it, and the masks."""
        schema = self.ground.schema
        return [
            _allow("planter-changes", planter, {"access": "admin"}),
            _allow("planter-calls", planter, {"functions": [f"{schema}.*"]}),
            _allow("prober-reads", prober, {"access": "read"}),
            _allow("prober-writes", prober, {"relations": [f"{schema}.*"], "access": "write"}),
            _allow("prober-makes", prober, {"verbs": ["create", "drop"], "access": "admin"}),
            _allow("prober-listens", prober, {"verbs": ["listen", "unlisten", "notify"]}),
            _allow("prober-sets", prober, {"settings": ["leak.*", "application_name"]}),
            _allow("prober-calls", prober, {"functions": [f"{schema}.*", *(f"pg_catalog.{name}" for name in _OPEN)]}),
        ], self.ground.masks()

    def plant(self) -> None:
        """Make the schema and fill it."""
        self._as_planter(self.ground.statements())

    def attempts(self, drivers: Sequence[str]) -> Iterator[Tried]:
        """Run every shape by every one of `drivers`."""
        first = self._ticket(PROBER)
        name = f".s.PGSQL.{first.port}"
        with Tap(self._directory, name, first.directory / name) as tap:
            trial = Trial(self.ground, tap, major=self._major, lacks=self._lacks)
            for driver, running in built(drivers, self._login):
                try:
                    for shape in shapes():
                        verdict = trial.attempt(shape, running)
                        bad = verdict.outcome in BAD
                        yield Tried(shape.family, shape.name, driver, verdict.outcome.value, bad, verdict.detail)
                finally:
                    running.close()

    def remove(self) -> None:
        """Drop the schema."""
        self._as_planter([self.removal])
        self.planted = False

    def _login(self) -> dict[str, Any]:
        return _place(self._ticket(PROBER), self._directory)

    def _as_planter(self, statements: Iterator[str] | list[str]) -> None:
        ticket = self._ticket(PLANTER)
        try:
            with psycopg.connect(**_place(ticket, ticket.directory), autocommit=True) as connection:
                self._major = connection.info.server_version // 10000
                self._lacks = frozenset() if _works(connection, _XML) else frozenset({"xml"})
                self.planted = True
                for statement in statements:
                    connection.execute(statement.encode())
        except psycopg.Error as error:
            # What it says of our own statements holds no value but ours.
            said = str(error).strip().splitlines()
            raise TargetError(f"the schema of the leak test: {said[0] if said else 'the connection broke'}") from error


def _works(connection: "psycopg.Connection[Any]", statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def _place(ticket: IssuedTicket, directory: Path) -> dict[str, Any]:
    return {
        "host": str(directory),
        "port": ticket.port,
        "user": "bastion",
        "dbname": ticket.target,
        "password": ticket.secret,
    }


def _allow(name: str, subject: str, clause: Json) -> Json:
    return {"name": name, "effect": "allow", "who": {"subjects": [subject]}, "sql": clause}
