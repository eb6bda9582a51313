"""The three ways to one PostgreSQL: straight, through pgbouncer, through bastion. All on this machine."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bastion.demo.cluster import Cluster, any_installation, free_port, short_directory
from tests.bench.tickets import fed
from tests.kit.issuer import Issuer
from tests.kit.rig import ALICE, Api, Rig, until

USER, PASSWORD, DATABASE = "bench", "bench-password", "bench"
SCALE = 10
_ROWS = 1_000_000
_SQL = f"""
create table wide (id int primary key, name text, price numeric(10, 2), at timestamptz);
insert into wide select g, 'row number ' || g, g * 0.01, '2026-01-01'::timestamptz + g * interval '1 second'
    from generate_series(1, {_ROWS}) g;
create table incoming (like wide);
create view masked as select * from wide;
vacuum analyze;
"""


@dataclass
class Way:
    """One way to the database."""

    name: str
    host: str
    port: int
    user: str
    database: str
    process: int | None
    """Whose CPU and memory are counted; none for the bare target."""
    rig: Rig | None = None
    directory: Path = field(default_factory=Path)
    api: Api | None = None

    def dsn(self) -> str:
        """Return a connection string for one connection."""
        if self.rig is not None:
            (ticket,) = self._tickets(1)
            return psycopg.conninfo.make_conninfo(
                host=self.host, port=self.port, user=self.user, dbname=self.database, password=ticket
            )
        return psycopg.conninfo.make_conninfo(
            host=self.host, port=self.port, user=self.user, dbname=self.database, password=PASSWORD, sslmode="disable"
        )

    @contextmanager
    def environment(self, connections: int) -> Iterator[dict[str, str]]:
        """Yield the environment for a libpq program that opens up to so many connections, one after another."""
        chosen = {
            "PATH": os.environ["PATH"],
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
        }
        if self.rig is None:
            yield {**chosen, "PGPASSWORD": PASSWORD}
            return
        with fed(self.directory / "passwords", self._tickets(connections)) as path:
            yield {**chosen, "PGPASSFILE": str(path)}

    def _tickets(self, number: int) -> list[str]:
        """Return new tickets. One client asks for all of them, as the command line's does while it runs."""
        assert self.rig is not None
        if self.api is None:
            self.api = self.rig.api(ALICE)
        return [self.api.post("tickets", target=self.database).json()["ticket"] for _ in range(number)]

    def cpu(self) -> float:
        """Return the seconds of CPU that the process between has used so far."""
        if self.process is None:
            return 0.0
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Return the bytes of memory of the process between."""
        for line in Path(f"/proc/{self.process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")


@dataclass
class Place:
    """Everything up and running."""

    bin: Path
    ways: list[Way]
    notes: list[str]
    dsn: str
    """Straight to the database, as its superuser."""
    rig: Rig


@contextmanager
def place(sessions: int) -> Iterator[Place]:
    """Start everything, for up to so many sessions at once."""
    with ExitStack() as stack:
        home = short_directory("bench-")
        home.chmod(0o711)
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        cluster = stack.enter_context(_cluster(home / "db", sessions))
        installation = any_installation()
        straight = f"host={cluster.directory} port={cluster.port} user=postgres"
        with psycopg.connect(straight, autocommit=True) as connection:
            connection.execute(f"create role {USER} login password '{PASSWORD}'")
            connection.execute(f"create database {DATABASE} owner {USER}")
        dsn = f"{straight} dbname={DATABASE}"
        with psycopg.connect(f"{dsn} user={USER}", autocommit=True) as connection:
            for statement in filter(str.strip, _SQL.split(";")):
                connection.execute(statement)
        way = {"PGHOST": str(cluster.directory), "PGPORT": str(cluster.port), "PGUSER": USER, "PGDATABASE": DATABASE}
        initialise = [str(installation.bin / "pgbench"), "-i", "-q", "-s", str(SCALE)]
        subprocess.run(initialise, env={**os.environ, **way}, check=True, capture_output=True)
        ways = [Way("direct", "127.0.0.1", cluster.port, USER, DATABASE, None)]
        notes: list[str] = []
        if program := shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin"):
            ways.append(stack.enter_context(_pgbouncer(program, home / "pgbouncer", cluster.port, sessions)))
        else:
            notes.append("pgbouncer is not installed, so that nothing is compared with it: apt-get install pgbouncer")
        rig = stack.enter_context(_bastion(stack.enter_context(Issuer()), cluster.port, sessions))
        ways.append(Way("bastion", str(rig.runtime), 5432, "alice", "bench", rig.process.pid, rig, home))
        yield Place(installation.bin, ways, notes, dsn, rig)


def _cluster(directory: Path, sessions: int) -> Cluster:
    settings = {
        "listen_addresses": "127.0.0.1",
        "max_connections": str(sessions + 50),
        "shared_buffers": "512MB",
        "max_wal_size": "4GB",
        "unix_socket_permissions": "0777",
    }
    return Cluster(
        any_installation(),
        directory,
        password=PASSWORD,
        port=free_port(),
        settings=settings,
        access=("local all all trust", "host all all 127.0.0.1/32 scram-sha-256"),
        durable=False,
    )


@contextmanager
def _pgbouncer(program: str, directory: Path, target_port: int, sessions: int) -> Iterator[Way]:
    directory.mkdir(mode=0o755)
    (directory / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
    (directory / "pgbouncer.ini").write_text(
        "[databases]\n"
        f"{DATABASE} = host=127.0.0.1 port={target_port} dbname={DATABASE} user={USER} password={PASSWORD}\n"
        "[pgbouncer]\n"
        f"unix_socket_dir = {directory}\nlisten_port = 6432\nlisten_addr =\nunix_socket_mode = 0777\n"
        f"auth_type = scram-sha-256\nauth_file = {directory}/users\npool_mode = session\nserver_reset_query =\n"
        f"max_client_conn = {sessions + 50}\ndefault_pool_size = {sessions + 50}\nlog_connections = 0\n"
        "log_disconnections = 0\nlog_stats = 0\nignore_startup_parameters = extra_float_digits\n"
    )
    # pgbouncer refuses to run as root.
    owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if owner is not None:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    process = subprocess.Popen(
        [program, "-q", str(directory / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=owner.pw_uid if owner else None,
        group=owner.pw_gid if owner else None,
    )
    try:
        until(lambda: (directory / ".s.PGSQL.6432").exists() or None, "pgbouncer")
        yield Way("pgbouncer", str(directory), 6432, USER, DATABASE, process.pid)
    finally:
        process.terminate()
        process.wait()


def _bastion(issuer: Issuer, target_port: int, sessions: int) -> Rig:
    target: dict[str, Any] = {
        "protocol": "postgres",
        "address": f"127.0.0.1:{target_port}",
        "database": DATABASE,
        "user": USER,
        "credential": {"env": "BENCH_PASSWORD"},
        "tls": {"mode": "disable"},
        "labels": {"env": "prod"},
    }
    policy = (Path(__file__).parent / "policy.yaml").read_text()
    limits = {"sessions": sessions + 50, "sessions_per_identity": sessions + 50}
    environment = {"BENCH_PASSWORD": PASSWORD}
    return Rig(issuer, {"bench": target}, policy, environment=environment, settings={"limits": limits})


def machine() -> str:
    """Return what this machine is."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown processor",
    )
    kernel = os.uname().release
    return f"{os.cpu_count()} × {model}, Linux {kernel}, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}"
