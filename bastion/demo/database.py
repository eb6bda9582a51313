"""The demo's target: a real PostgreSQL with the sample data, reached by unix socket with a password."""

import secrets
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

from bastion.demo.cluster import Cluster, Installation, any_installation
from bastion.demo.sample import SCHEMA, tables

DATABASE = "shop"
USER = "app_rw"


class SampleDatabase:
    """A PostgreSQL that holds the sample data while the `with` block runs."""

    def __init__(self, directory: Path, installation: Installation | None = None) -> None:
        """Prepare to run in `directory`, which is deleted afterwards."""
        self._directory = directory
        self._installation = installation or any_installation()
        self._stack = ExitStack()
        self.password = secrets.token_urlsafe(24)
        """The password of the application's role: what nobody but the gateway is to know."""

    @property
    def description(self) -> str:
        """What the person should know of the server."""
        origin = "embedded" if self._installation.embedded else "this machine's"
        return f"PostgreSQL {self._installation.major} ({origin})"

    def __enter__(self) -> "SampleDatabase":
        """Start the server and load the data."""
        superuser = secrets.token_urlsafe(24)
        with ExitStack() as stack:
            self._cluster = stack.enter_context(
                Cluster(self._installation, self._directory, password=superuser, durable=False)
            )
            self._load(superuser)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server and delete everything."""
        self._stack.close()

    @property
    def address(self) -> tuple[Path, int]:
        """The directory of the unix socket, and the port that its name carries."""
        return self._cluster.directory, self._cluster.port

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Return what the database answers when it is asked directly, past the gateway: to check what happened."""
        with psycopg.connect(self._dsn(DATABASE, USER, self.password), autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def _load(self, superuser: str) -> None:
        with psycopg.connect(self._dsn("postgres", "postgres", superuser), autocommit=True) as connection:
            role, password = sql.Identifier(USER), sql.Literal(self.password)
            connection.execute(sql.SQL("create role {} login password {}").format(role, password))
            connection.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(DATABASE), role))
        with psycopg.connect(self._dsn(DATABASE, "postgres", superuser)) as connection:
            connection.execute(sql.SQL("alter schema public owner to {}").format(sql.Identifier(USER)))
        # The application's role owns the tables. It could drop them: what stops the tour's DROP is the gateway.
        with psycopg.connect(self._dsn(DATABASE, USER, self.password)) as connection:
            connection.execute(SCHEMA)
            for table in tables():
                copy = sql.SQL("copy {} from stdin").format(sql.Identifier(table.name))
                with connection.cursor() as cursor, cursor.copy(copy) as writer:
                    for row in table.rows:
                        writer.write_row(row)
        with psycopg.connect(self._dsn(DATABASE, USER, self.password), autocommit=True) as connection:
            connection.execute("analyze")

    def _dsn(self, database: str, user: str, password: str) -> str:
        directory, port = self.address
        return psycopg.conninfo.make_conninfo(
            host=str(directory), port=port, dbname=database, user=user, password=password
        )
