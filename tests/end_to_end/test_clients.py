"""Ordinary clients through the gateway: each sees exactly what it sees at the target itself."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.kit import nodejs, shop
from tests.kit.issuer import Issuer
from tests.kit.postgres import PASSWORD, Server
from tests.kit.rig import ALICE, ENVIRONMENT, Rig, loaded, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

NODE = Path(__file__).parents[1] / "kit" / "node"


class Ways:
    """The two ways to one database: straight, and through the gateway."""

    def __init__(self, server: Server, rig: Rig, database: str, programs: Path) -> None:
        self.server = server
        self.programs = programs
        """Where psql, pg_dump and pgbench of a version that is not older than the server are."""
        self.rig = rig
        self.database = database

    def direct(self) -> dict[str, str]:
        return _environment("127.0.0.1", self.server.port, "app_rw", self.database, PASSWORD)

    def gateway(self) -> dict[str, str]:
        """Return the settings for one connection: a ticket opens no more."""
        ticket = self.rig.ticket(ALICE, "shop")
        return _environment(str(self.rig.runtime), 5432, "alice", "shop", ticket)

    def run(self, way: dict[str, str], program: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=way,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def alike(self, program: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run a program both ways and return what it did, which was the same."""
        straight = self.run(self.direct(), program, *arguments, stdin=stdin)
        assert self.run(self.gateway(), program, *arguments, stdin=stdin) == straight
        return straight


def _environment(host: str, port: int, user: str, database: str, password: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PGHOST": host,
        "PGPORT": str(port),
        "PGUSER": user,
        "PGDATABASE": database,
        "PGPASSWORD": password,
        "PGCONNECT_TIMEOUT": "20",
    }


@pytest.fixture(scope="module")
def ways(every_postgres: Server, postgres: Server, postgres18: Server, issuer: Issuer) -> Iterator[Ways]:
    server = every_postgres
    # Most servers come without programs.
    programs = (postgres if server.major <= postgres.major else postgres18).bin
    with loaded(server, "shop", shop.SQL) as database:
        rig = Rig(issuer, {"shop": target(server, database)}, shop.READ_WRITE, environment=ENVIRONMENT)
        ways = Ways(server, rig, database, programs)
        # Before the gateway reads the catalog: what is made behind its back it knows a minute later.
        assert ways.run(ways.direct(), "pgbench", "-i", "-q")[0] == 0
        with rig:
            yield ways


SCRIPT = r"""
\set ON_ERROR_STOP 0
select 1 as one; select 2 as two \; select 3 as three;
\d
\d people
\d+ open_orders
\df total
\dn
\x on
select * from people where id = 7;
\x off
begin;
insert into people values (8001, 'Psql', null, null);
select name from people where id = 8001;
select 1 / 0;
select 'the transaction is aborted';
rollback;
select count(*) from people where id = 8001;
\copy (select id, note from orders order by id limit 5) to stdout csv header
create temp table copied (id int, note text);
copy copied from stdin;
1	first
2	\N
\.
table copied;
begin; declare c cursor for select id from orders order by id; fetch 3 from c; move 5 from c; fetch 1 from c; commit;
prepare by_id (int) as select amount from orders where id = $1; execute by_id(12); deallocate by_id;
explain (costs off) select * from orders where id = 1;
select * from people where name = 'Person 3' \gx
select $1 || $2 \bind a b \g
"""


def test_psql_prints_the_same(ways: Ways) -> None:
    script = SCRIPT if ways.server.major >= 16 else SCRIPT.replace(r"select $1 || $2 \bind a b \g", "")
    status, out, error = ways.alike("psql", "-X", "-f", "-", stdin=script)
    assert (status, "Person 7" in out, "division by zero" in error) == (0, True, True)


def test_syntax_error_is_shown_where_it_is(ways: Ways) -> None:
    status, _, error = ways.run(ways.gateway(), "psql", "-X", "-c", "select 1 +;")
    assert status == 1
    # The words of PostgreSQL quote the statement; ours only point at it.
    assert error.startswith("ERROR:  syntax error\nLINE 1: select 1 +;\n                  ^")


def test_psql_ends_with_the_same_status(ways: Ways) -> None:
    assert ways.alike("psql", "-X", "-c", "select 1 / 0")[0] == 1
    assert ways.alike("psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin="select 1/0;")[0] == 3


def test_the_newest_protocol_is_spoken_whatever_the_target_speaks(ways: Ways, postgres18: Server) -> None:
    newest = {**ways.gateway(), "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2"}
    done = subprocess.run(
        [str(postgres18.bin / "psql"), "-XAtc", "show server_version_num"],
        capture_output=True,
        text=True,
        env=newest,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) // 10000 == ways.server.major


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_loses_no_transaction(ways: Ways, mode: str) -> None:
    before = _history(ways)
    with ways.rig.tunnel(ALICE, "shop") as tunnel:
        way = _environment(tunnel["host"], tunnel["port"], "alice", "shop", tunnel["password"])
        status, out, error = ways.run(way, "pgbench", "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "25")
    assert status == 0, error
    assert "actually processed: 100/100" in out
    assert re.search(r"number of failed transactions: 0 ", out)
    assert _history(ways) == before + 100


def _history(ways: Ways) -> int:
    return int(ways.server.execute("select count(*) from pgbench_history", database="shop")[0][0])


def test_pg_dump_dumps_the_same(ways: Ways) -> None:
    straight = ways.run(ways.direct(), "pg_dump")
    dumped = ways.run(ways.gateway(), "pg_dump")
    assert (dumped[0], dumped[2]) == (0, "")
    assert _dump(dumped[1]) == _dump(straight[1])


def test_pg_dump_of_custom_format_restores(ways: Ways, tmp_path: Path) -> None:
    file = tmp_path / "shop.dump"
    assert ways.run(ways.gateway(), "pg_dump", "-Fc", "-f", str(file)) == (0, "", "")
    with loaded(ways.server, "restored", "select 1") as restored:
        straight = ways.direct()
        place = {**straight, "PGDATABASE": restored}
        status, script, error = ways.run(place, "pg_restore", "--no-owner", "-f", "-", str(file))
        assert (status, error) == (0, "")
        # The programs may be newer than the server.
        script = script.replace("SET transaction_timeout = 0;\n", "")
        assert ways.run(place, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", stdin=script)[::2] == (0, "")
        before, after = (ways.run(way, "pg_dump")[1] for way in (straight, place))
    assert _dump(after) == _dump(before)


def _dump(text: str) -> list[str]:
    """Return a dump without the words that are different each time."""
    return [line for line in text.splitlines() if not line.startswith((r"\restrict", r"\unrestrict"))]


def _with_psycopg(dsn: Callable[[], str]) -> list[Any]:
    seen: list[Any] = []
    with psycopg.connect(dsn(), prepare_threshold=2) as connection:
        seen.append(connection.execute("select 1, 'ü', null, now() is not null").fetchall())
        seen += [connection.execute("select %s::int * 2", (number,)).fetchall() for number in range(5)]
        seen.append(connection.execute("select id, amount from orders where id < %b", (5,), binary=True).fetchall())
        with connection.pipeline():
            cursors = [connection.execute("select amount from orders where id = %s", (n,)) for n in range(1, 20)]
        seen.append([cursor.fetchone() for cursor in cursors])
        try:
            with connection.transaction():
                connection.execute("insert into people values (%s, %s)", (8100, "psycopg"))
                connection.execute("select 1 / 0")
        except psycopg.Error as error:
            seen.append((error.sqlstate, error.diag.message_primary))
        seen.append(connection.execute("select count(*) from people where id = 8100").fetchall())
        with connection.cursor("named") as named:
            named.itersize = 40
            seen.append(sum(row[0] for row in named.execute("select id from orders order by id")))
        with connection.cursor().copy("copy (select id, note from orders order by id) to stdout") as copy:
            seen.append(list(copy.rows()))
        connection.execute("create temp table copied (a int, b text)")
        # Only then does anybody but the target know the table.
        connection.commit()
        with connection.cursor().copy("copy copied from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for number in range(200):
                copy.write_row((number, f"row {number}"))
        seen.append(connection.execute("select count(*), max(b) from copied").fetchall())
        connection.cursor().executemany("insert into copied values (%s, %s)", [(1, "x"), (2, "y")])
        seen.append(connection.info.transaction_status)
    return seen


def test_psycopg_sees_the_same(ways: Ways) -> None:
    straight = _with_psycopg(lambda: ways.server.tcp(ways.database))
    assert _with_psycopg(lambda: ways.rig.dsn(ALICE, "shop")) == straight


async def _with_psycopg_async(dsn: str) -> list[Any]:
    seen: list[Any] = []
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        seen.append(await (await connection.execute("select sum(amount) from orders")).fetchall())
        async with connection.pipeline() as pipeline:
            first = await connection.execute("select %s::text", ("a",))
            await connection.execute("select 1 / 0")
            with pytest.raises(psycopg.errors.DivisionByZero):
                await pipeline.sync()
            second = await connection.execute("select %s::text", ("b",))
            seen.append((await first.fetchall(), await second.fetchall()))
        await connection.execute("listen news")
        await connection.execute("select pg_notify('news', 'something')")
        notified = [n async for n in connection.notifies(timeout=10, stop_after=1)]
        seen.append([(n.channel, n.payload) for n in notified])
        seen.append([row async for row in connection.cursor().stream("select id from orders order by id limit 20")])
        running = asyncio.ensure_future(connection.execute("select pg_sleep(60)"))
        # A cancel request that comes before the statement cancels nothing.
        while not (await asyncio.wait([running], timeout=0.2))[0]:
            await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
        seen.append(await (await connection.execute("select 'usable'")).fetchall())
    return seen


async def test_psycopg_async_sees_the_same(ways: Ways) -> None:
    straight = await _with_psycopg_async(ways.server.tcp(ways.database))
    assert await _with_psycopg_async(ways.rig.dsn(ALICE, "shop")) == straight


async def _with_asyncpg(**place: Any) -> list[Any]:
    seen: list[Any] = []
    connection = await asyncpg.connect(**place, timeout=20)
    try:
        seen.append(
            [tuple(r) for r in await connection.fetch("select id, amount, note from orders order by id limit 9")]
        )
        statement = await connection.prepare("select name from people where id = $1")
        seen.append([await statement.fetchval(number) for number in range(1, 12)])
        seen.append([(a.name, a.type.name) for a in statement.get_attributes()])
        async with connection.transaction():
            numbers = [row[0] async for row in connection.cursor("select id from orders order by id", prefetch=70)]
        seen.append(numbers)
        try:
            async with connection.transaction():
                await connection.execute("insert into people values ($1, $2)", 8200, "asyncpg")
                await connection.execute("insert into people values ($1, $2)", 8200, "asyncpg")
        except asyncpg.UniqueViolationError as error:
            seen.append((error.sqlstate, error.detail))
        await connection.execute("create temp table copied (a int, b text, c bytea)")
        records = [(n, f"row {n}", bytes([n % 256])) for n in range(500)]
        seen.append(await connection.copy_records_to_table("copied", records=records))
        pieces: list[bytes] = []

        async def collect(data: bytes) -> None:
            pieces.append(bytes(data))

        seen.append(await connection.copy_from_query("table copied", output=collect, format="binary"))
        seen.append(b"".join(pieces))
        seen.append(await connection.executemany("insert into copied values ($1, $2)", [(1, "x"), (2, "y")]))
        seen.append(await connection.fetchval("select count(*) from copied"))
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetch("select pg_sleep(60)", timeout=0.3)
        seen.append(await connection.fetchval("select 'usable'"))
    finally:
        await connection.close()
    return seen


async def test_asyncpg_sees_the_same(ways: Ways) -> None:
    server, rig = ways.server, ways.rig
    straight = await _with_asyncpg(
        host="127.0.0.1", port=server.port, user="app_rw", password=PASSWORD, database=ways.database, ssl=False
    )
    ticket = rig.ticket(ALICE, "shop")
    through = await _with_asyncpg(host=str(rig.runtime), port=5432, user="alice", password=ticket, database="shop")
    assert through == straight


def test_node_postgres_sees_the_same(ways: Ways) -> None:
    modules = nodejs.installed(NODE)
    script = modules / "client.mjs"
    script.write_bytes((NODE / "client.mjs").read_bytes())

    def steps(way: dict[str, str]) -> list[Any]:
        done = subprocess.run(
            [str(nodejs.node()), str(script)], capture_output=True, text=True, env=way, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    straight = steps(ways.direct())
    assert steps(ways.gateway()) == straight
    assert straight[-1]["step"] == "rolled back"
