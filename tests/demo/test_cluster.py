"""The PostgreSQL that demo and tests run."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bastion.demo.cluster import Cluster, any_installation, short_directory
from bastion.errors import TargetUnreachable
from tests.kit.postgres import PASSWORD, Database, Server

pytestmark = pytest.mark.live


def test_it_answers_and_is_what_it_says(every_postgres: Server) -> None:
    ((version,),) = every_postgres.execute("show server_version_num")
    assert int(version) // 10000 == every_postgres.major


def test_each_role_authenticates_in_its_way(postgres: Server) -> None:
    for role in ("app_rw", "md5user", "plainuser", "trusted"):
        with psycopg.connect(postgres.tcp(user=role)) as connection:
            assert connection.execute("select current_user").fetchone() == (role,)


def test_tls_can_be_verified(postgres: Server) -> None:
    with psycopg.connect(postgres.tcp(user="tlsonly", sslmode="verify-full", sslrootcert=postgres.ca)) as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="pg_hba"):
        psycopg.connect(postgres.tcp(user="tlsonly", sslmode="disable"))


def test_a_client_certificate_is_enough(postgres: Server) -> None:
    pair = postgres.client_certificate
    assert pair is not None
    with psycopg.connect(
        postgres.tcp(user="certuser", password=None, sslcert=pair.certificate, sslkey=pair.key, sslmode="require")
    ) as connection:
        assert connection.execute("select current_user").fetchone() == ("certuser",)


def test_a_wrong_password_does_not_open_it(postgres: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.tcp(password="wrong"))


def test_a_database_is_empty_and_belongs_to_the_application(database: Database) -> None:
    with psycopg.connect(database.tcp()) as connection:
        connection.execute("create table notes (id int primary key)")
        assert connection.execute("select count(*) from notes").fetchone() == (0,)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that a server's user can pass through."""
    made = short_directory("bt-")
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_nothing_is_left_when_it_is_closed(home: Path) -> None:
    with Cluster(any_installation(), home / "db", password=PASSWORD) as cluster:
        process = int((cluster.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert not home.exists()


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    with pytest.raises(TargetUnreachable, match="no_such_setting"):
        Cluster(any_installation(), home / "db", password=PASSWORD, settings={"no_such_setting": "1"})
