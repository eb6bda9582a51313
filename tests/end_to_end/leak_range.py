"""The ground of the leak test on a test's own server, behind a gateway that runs, for further drivers."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pg8000
import pg8000.core
import psycopg
import psycopg2

from bastion.demo.cluster import short_directory
from bastion.protocols.clientside import PLANTER, PROBER
from bastion.protocols.postgres.leaks.drivers import Driver, Login
from bastion.protocols.postgres.leaks.ground import Ground
from bastion.protocols.postgres.leaks.running import PostgresLeakTest
from bastion.protocols.postgres.leaks.shapes import Shape, shapes
from bastion.protocols.postgres.leaks.tap import Tap
from bastion.protocols.postgres.leaks.trial import BAD, Outcome, Trial
from tests.kit import nodejs
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ENVIRONMENT, Person, Rig, loaded, target

NODE = Path(__file__).parents[1] / "kit" / "node"
ASKING = Person(PROBER)
GUESSING, SHOWING = "guessing", "showing"
"""Two targets that are the same database: at the one no condition on a masked column is allowed, at the other all are,
so that there nothing but the covers stands between a value and the client."""


class LeakRange:
    """A ground, a gateway and the bytes that pass."""

    def __init__(self, server: Server, rig: Rig, ground: Ground, tap: Tap) -> None:
        self.server = server
        self.rig = rig
        self.ground = ground
        self.tap = tap
        with psycopg.connect(server.dsn()) as connection:
            has_xml = _has_xml(connection)
        self.trial = Trial(ground, tap, major=server.major, lacks=frozenset() if has_xml else frozenset({"xml"}))

    def login(self, at: str) -> Login:
        """Return what logs the prober in at a target, through the tap."""
        return lambda: {
            "host": str(self.tap.directory),
            "port": 5432,
            "user": ASKING.subject,
            "dbname": at,
            "password": self.rig.ticket(ASKING, at),
        }

    def tried(self, driver: Callable[[Login], Driver], at: Callable[[Shape], str]) -> dict[str, list[str]]:
        """Try every shape at the target that `at` says; return what failed, and the names of all by their outcome."""
        running: dict[str, Driver] = {}
        found: dict[str, list[str]] = {"wrong": []}
        try:
            for shape in shapes():
                place = at(shape)
                if place not in running:
                    running[place] = driver(self.login(place))
                verdict = self.trial.attempt(shape, running[place])
                found.setdefault(verdict.outcome.value, []).append(shape.name)
                if verdict.outcome in BAD:
                    found["wrong"].append(f"{shape.name}: {verdict.outcome}: {verdict.detail}")
        finally:
            for one in running.values():
                one.close()
        return found


def oracles_apart(shape: Shape) -> str:
    """Have only oracles meet a mask that allows no conditions: everything else is to be covered, not refused."""
    return GUESSING if shape.oracle else SHOWING


@contextmanager
def leak_range(server: Server, issuer: Issuer) -> Iterator[LeakRange]:
    """Plant on a server, start a gateway, and listen in."""
    test = PostgresLeakTest(lambda who: NotImplemented, Path())
    ground = test.ground = Ground("leaks", Random(server.major))
    rules, masks = test.rules(PLANTER, PROBER)
    document = {"version": 1, "rules": rules, "masks": [m for at in (GUESSING, SHOWING) for m in _masks(masks, at)]}
    with loaded(server, "leaks", "select 1") as database:
        with psycopg.connect(server.dsn(database, "app_rw"), autocommit=True) as connection:
            for statement in ground.statements():
                connection.execute(statement.encode())
        targets = {at: target(server, database, labels={"mode": at}) for at in (GUESSING, SHOWING)}
        home = short_directory("bt-tap-")
        with (
            Rig(issuer, targets, json.dumps(document) + "\n", environment=ENVIRONMENT) as rig,
            Tap(home, rig.socket.name, rig.socket) as tap,
        ):
            yield LeakRange(server, rig, ground, tap)
        home.rmdir()


def _masks(masks: list[dict[str, object]], at: str) -> list[dict[str, object]]:
    predicates = "deny" if at == GUESSING else "allow"
    more = {"where": {"targets": [at]}, "unless": {"subjects": [PLANTER]}, "predicates": predicates}
    return [{**mask, "name": f"{mask['name']}-{at}", **more} for mask in masks]


def _has_xml(connection: "psycopg.Connection[Any]") -> bool:
    try:
        connection.execute("select '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


class Psycopg2:
    """psycopg2, which knows the simple protocol alone."""

    name = "psycopg2"

    def __init__(self, login: Login) -> None:
        self._login = login
        self._connection: Any = None

    def can(self, shape: Shape) -> bool:
        return True

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(**self._login())
        self._connection.autocommit = commit
        try:
            for step in steps:
                with self._connection.cursor() as cursor:
                    if step.startswith("copy "):
                        cursor.copy_expert(step, BytesIO())
                        continue
                    cursor.execute(step)
                    if cursor.description:
                        cursor.fetchall()
        except psycopg2.Error as error:
            return "" if error.pgcode or isinstance(error, psycopg2.OperationalError) else repr(type(error))
        except (ValueError, ArithmeticError) as error:
            return repr(type(error))
        finally:
            if not self._connection.closed:
                self._connection.rollback()
        return ""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Pg8000:
    """pg8000, which describes in a cycle of its own."""

    name = "pg8000"

    def __init__(self, login: Login) -> None:
        self._login = login
        self._connection: Any = None

    def can(self, shape: Shape) -> bool:
        return not shape.is_several

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        if self._connection is None:
            told = self._login()
            self._connection = pg8000.core.CoreConnection(
                told["user"],
                unix_sock=f"{told['host']}/.s.PGSQL.{told['port']}",
                database=told["dbname"],
                password=told["password"],
                ssl_context=False,
            )
        try:
            for step in steps if commit else ["begin", *steps]:
                self._connection.execute_unnamed(step, stream=BytesIO() if step.startswith("copy ") else None)
        except pg8000.DatabaseError:
            return ""
        except (pg8000.InterfaceError, ValueError, LookupError, TypeError) as error:
            return repr(type(error))
        finally:
            self._settle(commit=commit)
        return ""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _settle(self, *, commit: bool) -> None:
        try:
            if not commit:
                self._connection.execute_simple("rollback")
        except pg8000.Error:
            self._connection = None


class NodePostgres:
    """node-postgres, in a process that takes one line of JSON for each exchange and answers with one."""

    name = "node-postgres"

    def __init__(self, login: Login) -> None:
        self._login = login
        self._process: subprocess.Popen[str] | None = None

    def can(self, shape: Shape) -> bool:
        return True

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        if self._process is None or self._process.poll() is not None:
            self._process = _node(self._login())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"steps": list(steps), "commit": commit}) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        return str(json.loads(said)["choked"]) if said else "it ended"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def _node(told: dict[str, Any]) -> "subprocess.Popen[str]":
    script = nodejs.installed(NODE) / "leaks.mjs"
    script.write_bytes((NODE / "leaks.mjs").read_bytes())
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE", "password": "PGPASSWORD"}
    return subprocess.Popen(
        [str(nodejs.node()), str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={names[key]: str(value) for key, value in told.items()},
    )


COVERED = Outcome.COVERED.value
REFUSED = Outcome.REFUSED.value
SHOWN = Outcome.SHOWN.value
NONE = Outcome.NONE.value
