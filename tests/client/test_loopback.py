import asyncio
import contextlib
import os
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from bastion.client.gateway import Gateway
from bastion.client.loopback import LoopbackServer, PrivateLoopback, PublicLoopback
from bastion.errors import AccessRefused, UsageError
from bastion.protocols.clientside import IssuedTicket, LoopbackAddress
from tests.client.stand_in import TOKEN, StandIn
from tests.kit.postgres import Database

POSTGRES = "bastion.protocols.postgres.loopback:Loopback"


def issuer(stand_in: StandIn) -> Callable[[str], IssuedTicket]:
    gateway = Gateway(stand_in.directory, lambda: TOKEN)

    def issue(client: str) -> IssuedTicket:
        found = gateway.ticket("prod-db", reason="testing", client=client)
        return IssuedTicket(found["ticket"], found["target"], Path(found["directory"]), found["port"])

    return issue


@pytest.fixture
def address(database_gateway: StandIn) -> Iterator[LoopbackAddress]:
    with PrivateLoopback("prod-db", POSTGRES, issuer(database_gateway)) as found:
        yield found


@pytest.fixture
def tunnel(database_gateway: StandIn) -> Iterator[LoopbackAddress]:
    with served(issuer(database_gateway)) as found:
        yield found


@contextlib.contextmanager
def served(issue: Callable[[str], IssuedTicket]) -> Iterator[LoopbackAddress]:
    """Run a public endpoint in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(step: "asyncio.Future[LoopbackAddress]") -> LoopbackAddress:
        return asyncio.run_coroutine_threadsafe(step, loop).result(20)  # type: ignore[arg-type]

    endpoint = PublicLoopback("prod-db", POSTGRES, issue, 0)
    try:
        yield run(endpoint.__aenter__())  # type: ignore[arg-type]
        run(endpoint.__aexit__(None, None, None))  # type: ignore[arg-type]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def dsn(address: LoopbackAddress, **more: object) -> str:
    values = {"host": address.host, "port": address.port, "dbname": address.target, "user": "bastion", **more}
    if address.password and "password" not in more:
        values["password"] = address.password
    return psycopg.conninfo.make_conninfo(**values)  # type: ignore[arg-type]


def test_every_connection_spends_a_ticket_of_its_own(database_gateway: StandIn, address: LoopbackAddress) -> None:
    for _ in range(2):
        with psycopg.connect(dsn(address, application_name="tests")) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    assert database_gateway.asked == [{"target": "prod-db", "reason": "testing", "client": "tests"}] * 2
    assert database_gateway.tickets == {}


def test_only_this_user_reaches_a_private_endpoint(address: LoopbackAddress) -> None:
    assert stat.S_IMODE(os.stat(address.host).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{address.host}/.s.PGSQL.5432").st_mode) == 0o600


def test_a_private_endpoint_leaves_nothing_behind(database_gateway: StandIn) -> None:
    with PrivateLoopback("prod-db", POSTGRES, issuer(database_gateway)) as address:
        assert os.path.isdir(address.host)
    assert not os.path.exists(address.host)
    assert "loopback" not in {t.name for t in threading.enumerate()}


def test_cancelling_passes(database_gateway: StandIn, address: LoopbackAddress) -> None:
    with psycopg.connect(dsn(address), autocommit=True) as connection:
        timer = threading.Timer(0.2, connection.cancel_safe)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(60)")
        timer.join()
        assert connection.execute("select 1").fetchone() == (1,)
    assert database_gateway.cancels == 1


def test_cancelling_at_a_gateway_that_is_gone_is_answered_by_silence(
    database_gateway: StandIn, address: LoopbackAddress
) -> None:
    with psycopg.connect(dsn(address)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        (database_gateway.directory / ".s.PGSQL.5432").unlink()
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(f"{address.host}/.s.PGSQL.5432")
            asking.sendall(struct.pack("!IIII", 16, 80877102, 1, 2))
            assert asking.recv(100) == b""


def test_a_tunnel_asks_for_its_password(database_gateway: StandIn, tunnel: LoopbackAddress) -> None:
    with psycopg.connect(dsn(tunnel)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    for wrong in ("", "another"):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn(tunnel, password=wrong))
    assert len(database_gateway.asked) == 1


def test_no_two_tunnels_share_a_password(database_gateway: StandIn) -> None:
    with served(issuer(database_gateway)) as one, served(issuer(database_gateway)) as other:
        assert one.password != other.password
        assert one.port != other.port


def test_another_target_cannot_be_named(database_gateway: StandIn, address: LoopbackAddress) -> None:
    with pytest.raises(psycopg.OperationalError, match="leads to prod-db and nowhere else"):
        psycopg.connect(dsn(address, dbname="postgres"))
    assert database_gateway.asked == []


def test_psql_and_a_pool_of_connections(address: LoopbackAddress) -> None:
    command = ["psql", "-X", "-At", dsn(address), "-c", "select 1", "-c", "\\c", "-c", "select 2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.isdigit()] == ["1", "2"]
    pool = [psycopg.connect(dsn(address)) for _ in range(8)]
    for connection in pool:
        assert connection.execute("select 1").fetchone() == (1,)
        connection.close()


def test_much_data_passes_both_ways(address: LoopbackAddress) -> None:
    with psycopg.connect(dsn(address)) as connection:
        connection.execute("create temporary table t (a int, b text)")
        with connection.cursor().copy("copy t from stdin") as copy:
            for number in range(50_000):
                copy.write_row((number, "x" * 100))
        rows = connection.execute("select a, b from t order by a").fetchall()
    assert len(rows) == 50_000
    assert rows[-1] == (49_999, "x" * 100)


def test_a_refused_ticket_is_told_in_the_clients_words(database_gateway: StandIn) -> None:
    def refuse(client: str) -> IssuedTicket:
        raise AccessRefused("no rule lets you in", hint="ask somebody")

    with (
        PrivateLoopback("prod-db", POSTGRES, refuse) as address,
        pytest.raises(psycopg.OperationalError, match=r"no rule lets you in\nHINT:  ask somebody"),
    ):
        psycopg.connect(dsn(address))


def test_a_ticket_that_the_gateway_refuses_is_told(database_gateway: StandIn) -> None:
    def stale(client: str) -> IssuedTicket:
        return IssuedTicket("spent", "prod-db", database_gateway.directory, 5432)

    with (
        PrivateLoopback("prod-db", POSTGRES, stale) as address,
        pytest.raises(psycopg.OperationalError, match="the ticket is not valid"),
    ):
        psycopg.connect(dsn(address))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("!II", 4, 196608),
        struct.pack("!II", 2**31, 196608),
        struct.pack("!II", 8, 80877103) * 4,
        struct.pack("!II", 16, 131072) + b"user\0a\0\0",
        struct.pack("!II", 15, 196608) + b"user\0a\0",
        struct.pack("!II", 14, 196608) + b"\xff\0a\0\0\0",
        b"\0\0",
    ],
    ids=["tls", "http", "short", "long", "encryption", "protocol", "open", "bytes", "half"],
)
def test_what_is_no_start_up_is_refused_and_the_next_client_served(
    database_gateway: StandIn, tunnel: LoopbackAddress, sent: bytes
) -> None:
    with socket.create_connection((tunnel.host, tunnel.port), timeout=10) as rude:
        rude.sendall(sent)
        rude.shutdown(socket.SHUT_WR)
        while rude.recv(4096):
            continue
    with psycopg.connect(dsn(tunnel)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert len(database_gateway.asked) == 1


def test_a_slow_reader_slows_the_target_and_fills_no_memory(database: Database, address: LoopbackAddress) -> None:
    with psycopg.connect(dsn(address)) as slow:
        slow.pgconn.send_query(b"select repeat('x', 1000) from generate_series(1, 200000)")
        while slow.pgconn.flush():
            continue
        waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'ClientWrite'"
        deadline = time.monotonic() + 20
        while not database.execute(waits):
            assert time.monotonic() < deadline
        slow.pgconn.finish()


def test_a_taken_port_is_a_usage_error(database_gateway: StandIn) -> None:
    async def listen() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = LoopbackServer("prod-db", POSTGRES, issuer(database_gateway))
            with pytest.raises(UsageError, match="can't be listened on"):
                await server.listen_at(taken.getsockname()[1])

    asyncio.run(listen())
