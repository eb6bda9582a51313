"""Real PostgreSQL servers for tests, each shared by all tests of one pytest process.

`postgres` is the machine's own, with TLS and every way of authentication; `postgres18` is the embedded one, without
TLS; `every_postgres` is one of each supported version in turn; `database` is an empty database of its own on
`postgres`.

A machine without a PostgreSQL fails these tests rather than skipping them: `./install.sh test` installs one.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest

from bastion.demo.cluster import (
    Cluster,
    Installation,
    embedded_installation,
    free_port,
    machine_installations,
    short_directory,
)
from tests.kit.certificates import Authority, Pair
from tests.kit.versions import MAJORS, installation_of

PASSWORD = "secret"
"""The password of every role of these servers."""

_ACCESS = (
    "local   all all                        trust",
    "host    all md5user   127.0.0.1/32     md5",
    "host    all plainuser 127.0.0.1/32     password",
    "host    all trusted   127.0.0.1/32     trust",
    "host    all all       127.0.0.1/32     scram-sha-256",
    "host    replication all 127.0.0.1/32   scram-sha-256",
)
_ACCESS_TLS = (
    "hostssl   all certuser  127.0.0.1/32   cert",
    "hostssl   all tlsonly   127.0.0.1/32   scram-sha-256",
    "hostnossl all tlsonly   127.0.0.1/32   reject",
)
_ROLES = """
create role app_rw login password 'secret';
create role other login password 'secret';
create role tlsonly login password 'secret';
create role certuser login;
create role trusted login;
create role plainuser login password 'secret';
set password_encryption = 'md5';
create role md5user login password 'secret';
"""


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL, reached by unix socket (everybody trusted) or on 127.0.0.1 (each role in its own way)."""

    major: int
    bin: Path
    directory: Path
    """Where its unix socket `.s.PGSQL.<port>` is."""
    port: int
    ca: Path | None
    """The authority of its TLS certificate (localhost, 127.0.0.1); None where it has no TLS."""
    authority: Authority | None
    client_certificate: Pair | None
    """For the role `certuser`."""
    cluster: Cluster

    def dsn(self, database: str = "postgres", user: str = "postgres", **more: Any) -> str:
        """Return a connection string that goes by unix socket, as superuser unless told otherwise."""
        values: dict[str, Any] = {"host": self.directory, "port": self.port, "dbname": database, "user": user, **more}
        return psycopg.conninfo.make_conninfo(**values)

    def tcp(self, database: str = "postgres", user: str = "app_rw", **more: Any) -> str:
        """Return a connection string that goes by TCP and has to authenticate."""
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "dbname": database,
            "user": user,
            "password": PASSWORD,
        }
        return psycopg.conninfo.make_conninfo(**{**values, **more})

    def execute(self, statement: str, arguments: Sequence[object] = (), database: str = "postgres") -> list[Any]:
        """Run statements as superuser, straight at the server, and return the rows of the last."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement, arguments or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    @property
    def log(self) -> str:
        """What the server has logged so far: statements included, each connection with its user and database."""
        return self.cluster.log


@dataclass(frozen=True)
class Database:
    """An empty database of one test; `app_rw` owns its schema `public`."""

    server: Server
    name: str

    def dsn(self, user: str = "postgres", **more: Any) -> str:
        """Return a connection string to it by unix socket."""
        return self.server.dsn(self.name, user, **more)

    def tcp(self, user: str = "app_rw", **more: Any) -> str:
        """Return a connection string to it by TCP."""
        return self.server.tcp(self.name, user, **more)

    def execute(self, statement: str, arguments: Sequence[object] = ()) -> list[Any]:
        """Run statements in it as superuser, straight at the server, and return the rows of the last."""
        return self.server.execute(statement, arguments, self.name)


@contextmanager
def running(installation: Installation) -> Iterator[Server]:
    """Run a server of that installation."""
    home = short_directory("bt-pg-")
    # The server's user has to reach its own directory below this one.
    home.chmod(0o711)
    directory = home / "db"
    settings = {
        "listen_addresses": "127.0.0.1",
        "max_connections": "200",
        "max_prepared_transactions": "20",
        "wal_level": "logical",
        "log_connections": "on",
        "log_statement": "all",
        "log_line_prefix": "%m [%p] %u@%d %a ",
        "unix_socket_permissions": "0777",
    }
    access: tuple[str, ...] = _ACCESS
    authority, pair, client = None, None, None
    if not installation.embedded:
        # Beside the data, so that they go with it even if this process is killed.
        directory.mkdir(mode=0o700)
        authority = Authority(directory)
        pair, client = authority.server(), authority.client("certuser")
        access = (*_ACCESS_TLS, *_ACCESS)
        settings |= {
            "ssl": "on",
            "ssl_cert_file": str(pair.certificate),
            "ssl_key_file": str(pair.key),
            "ssl_ca_file": str(authority.certificate),
        }
    cluster = Cluster(
        installation,
        directory,
        password=PASSWORD,
        port=free_port(),
        settings=settings,
        access=access,
        owned=(pair.key,) if pair else (),
        durable=False,
    )
    with cluster:
        ca = authority.certificate if authority else None
        server = Server(
            installation.major, installation.bin, cluster.directory, cluster.port, ca, authority, client, cluster
        )
        server.execute(_ROLES)
        yield server
    shutil.rmtree(home, ignore_errors=True)


Fleet: TypeAlias = Callable[[Installation], Server]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Starts a server when it is first asked for; each runs until the last test of this process."""
    started: dict[Path, Server] = {}
    with ExitStack() as stack:

        def server(installation: Installation) -> Server:
            if installation.bin not in started:
                started[installation.bin] = stack.enter_context(running(installation))
            return started[installation.bin]

        yield server


@pytest.fixture(scope="session")
def postgres(fleet: Fleet) -> Server:
    """The machine's PostgreSQL, with TLS."""
    return fleet(_machine())


@pytest.fixture(scope="session")
def postgres18(fleet: Fleet) -> Server:
    """The embedded PostgreSQL."""
    return fleet(_embedded())


@pytest.fixture(scope="session", params=MAJORS)
def every_postgres(request: pytest.FixtureRequest, fleet: Fleet) -> Server:
    """A PostgreSQL of each supported version in turn."""
    return fleet(installation_of(request.param))


@pytest.fixture
def database(postgres: Server) -> Iterator[Database]:
    """An empty database on `postgres`."""
    with fresh_database(postgres) as made:
        yield made


_numbers = itertools.count(1)


@contextmanager
def fresh_database(server: Server) -> Iterator[Database]:
    """Make an empty database on `server`, and drop it afterwards whoever is still connected."""
    name = f"t{next(_numbers)}"
    server.execute(f"create database {name}")
    server.execute("alter schema public owner to app_rw", database=name)
    try:
        yield Database(server, name)
    finally:
        server.execute(f"drop database {name} with (force)")


def _machine() -> Installation:
    found = machine_installations()
    if not found:
        pytest.fail("these tests need the machine's PostgreSQL, for TLS: apt-get install postgresql", pytrace=False)
    return found[0]


def _embedded() -> Installation:
    found = embedded_installation()
    if found is None:
        pytest.fail("these tests need the embedded PostgreSQL: pip install 'bastion[demo]'", pytrace=False)
    return found
