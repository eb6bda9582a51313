"""Sessions that change the catalog and go on: temporary tables, and migrations in one transaction.

What a session has made, it uses through plain rules; what only seems to be something else is judged as what it is.
"""

import asyncio
import subprocess
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.kit.issuer import Issuer
from tests.kit.pgwire import bind, execute, frame, parse
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, BOB, ENVIRONMENT, Rig, loaded, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

SQL = """
create table customers (id int primary key, name text);
create table orders (id int primary key, amount int);
insert into customers values (1, 'Ada'), (2, 'Grace');
insert into orders values (1, 10);
create schema hidden;
create table hidden.customers (id int, name text);
insert into hidden.customers values (9, 'secret');
create table hidden.plans (id int);
create view sums as select sum(amount) from orders;
create function make_report() returns void language plpgsql
    as $$ begin create temp table report as select 42 as answer; end $$;
create function shadow() returns void language plpgsql
    as $$ begin create temp table customers as select * from hidden.customers; end $$;
create function redefines_it() returns void language plpgsql
    as $$ begin create or replace temp view mine as select id, name from hidden.customers; end $$;
create function drops_it() returns void language plpgsql as $$ begin drop table pg_temp.customers; end $$;
"""

# Alice works on what she made herself; bob, a dba, migrates the schema `public`.
POLICY = """
version: 1
auditors: {groups: [auditors]}
rules:
  - name: read-public
    effect: allow
    who: {groups: [engineers]}
    sql: {verbs: [select, explain], relations: [public.*, pg_catalog.*], access: read}
  - name: statements
    effect: allow
    who: {groups: [engineers]}
    sql: {verbs: [show, set, reset, discard, begin, commit, rollback, savepoint, release, prepare, deallocate, close,
      nothing], access: read}
  - name: own-tables
    effect: allow
    who: {groups: [engineers]}
    sql:
      verbs: [create, alter, drop, select, insert, update, delete, truncate, copy, analyze, lock]
      relations: pg_temp.*
  - name: own-functions
    effect: allow
    who: {groups: [engineers]}
    sql: {functions: [public.*]}
  - name: migrate
    effect: allow
    who: {groups: [dba]}
    sql: {verbs: [create, alter, drop, select, insert, update, delete, truncate], relations: public.*}
  - name: migrate-more
    effect: allow
    who: {groups: [dba]}
    sql: {verbs: [create], access: admin}
"""

SYNC = frame("S")
Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def rig(server: Server, issuer: Issuer) -> Iterator[Rig]:
    with (
        loaded(server, "own_view", SQL) as database,
        Rig(issuer, {"db": target(server, database)}, POLICY, environment=ENVIRONMENT) as running,
    ):
        yield running


@pytest.fixture
def alice(rig: Rig) -> Iterator[Connection]:
    with rig.connect(ALICE, "db") as connection:
        yield connection


@pytest.fixture
def bob(rig: Rig) -> Iterator[Connection]:
    """One whose transactions the test begins and ends."""
    with rig.connect(BOB, "db") as connection:
        yield connection


def rows(connection: Connection, text: str, *arguments: object) -> list[tuple[Any, ...]]:
    return connection.execute(text, arguments or None).fetchall()


def refused(connection: Connection, text: str) -> str:
    """Run what is refused; return why."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="refused by rule") as caught:
        connection.execute(text)
    return str(caught.value)


def test_a_temporary_table_is_used_over_the_session(alice: Connection) -> None:
    alice.execute("create temp table mine (id serial, note text)")
    alice.execute("insert into mine (id, note) values (1, 'one'), (%s, %s)", (2, "two"))
    assert rows(alice, "select note from mine order by id") == [("one",), ("two",)]
    alice.execute("alter table mine add more int")
    alice.execute("update mine set more = id * 2 where id = 1")
    assert rows(alice, "select more from mine where id = 1") == [(2,)]
    alice.execute("create temp table sums as select c.name, m.more from customers c join mine m using (id)")
    assert rows(alice, "select count(*) from sums") == [(2,)]
    with alice.cursor().copy("copy mine (id, note) from stdin") as copy:
        copy.write_row((3, "three"))
    assert rows(alice, "select count(*) from pg_temp.mine") == [(3,)]
    alice.execute("drop table mine")
    refused(alice, "select * from mine")


def test_a_temporary_table_is_the_sessions_own(rig: Rig, alice: Connection) -> None:
    alice.execute("create temp table notes (id int)")
    alice.execute("insert into notes values (1)")
    with rig.connect(ALICE, "db") as other:
        refused(other, "select * from notes")
        other.execute("create temp table notes (other text)")
        assert rows(other, "select other from notes") == []
    assert rows(alice, "select id from notes") == [(1,)]


def test_a_table_that_masquerades_is_judged_as_what_it_is(alice: Connection, bob: Connection) -> None:
    alice.execute("create temp table plans as select * from customers")
    assert len(rows(alice, "select name from plans")) == 2
    # It does not open the one that it is named like; nor is what it hides still judged by its name.
    refused(alice, "select * from hidden.plans")
    alice.execute("create temp table customers (id int, name text)")
    assert rows(alice, "select * from customers") == []
    alice.execute("insert into customers values (7, 'mine')")
    refused(alice, "insert into public.customers values (7, 'theirs')")
    assert rows(alice, "select name from public.customers where id = 1") == [("Ada",)]
    alice.execute("drop table customers")
    refused(alice, "insert into customers values (7, 'theirs')")
    refused(alice, "drop table customers")
    assert len(rows(alice, "select * from customers")) == 2


def test_what_a_path_puts_first_comes_first(alice: Connection) -> None:
    alice.execute("create temp table customers (id int, name text)")
    alice.execute("insert into customers values (7, 'mine')")
    alice.execute("set search_path = public, pg_temp")
    # Under one of the paths that the session has had, it is the temporary one: both count.
    assert len(rows(alice, "select * from customers")) == 2
    refused(alice, "insert into customers values (8, 'theirs')")
    refused(alice, "drop table customers")
    assert rows(alice, "select name from pg_temp.customers") == [("mine",)]


def test_an_evil_path_does_not_reach_what_the_gateway_asks(rig: Rig, server: Server) -> None:
    server.execute(
        "create schema if not exists evil; grant all on schema evil to public;"
        "create or replace function evil.eq(oid, oid) returns bool language sql as 'select false';"
        "drop operator if exists evil.= (oid, oid);"
        "create operator evil.= (function = evil.eq, leftarg = oid, rightarg = oid);"
        "drop domain if exists evil.text; create domain evil.text as int",
        database="own_view",
    )
    try:
        with rig.connect(ALICE, "db") as alice:
            alice.execute("set search_path = evil, pg_catalog, public")
            alice.execute("set statement_timeout = 1")
            alice.execute("set statement_timeout = 0")
            alice.execute("set quote_all_identifiers = on")
            alice.execute("create temp table mine (id int)")
            alice.execute("insert into pg_temp.mine values (1)")
            assert rows(alice, "select id from pg_temp.mine") == [(1,)]
            assert rows(alice, "show search_path") == [("evil, pg_catalog, public",)]
            assert rows(alice, "show client_min_messages") == [("notice",)]
    finally:
        server.execute("drop schema evil cascade", database="own_view")


def test_what_a_function_makes_is_seen(alice: Connection) -> None:
    rows(alice, "select make_report()")
    assert rows(alice, "select answer from report") == [(42,)]
    # What a function has put in front of a table that is allowed is not that table, and must not be taken for it.
    rows(alice, "select shadow()")
    assert rows(alice, "select name from customers") == [("secret",)]
    alice.execute("insert into customers values (3, 'mine')")
    rows(alice, "select drops_it()")
    refused(alice, "insert into customers values (3, 'theirs')")
    assert len(rows(alice, "select name from customers")) == 2


def test_a_view_that_a_function_redefines_is_seen(alice: Connection) -> None:
    alice.execute("create temp view mine as select id, name from customers")
    assert len(rows(alice, "select name from mine")) == 2
    rows(alice, "select redefines_it()")
    refused(alice, "select name from mine")


def test_what_was_prepared_by_sql_is_read_anew(alice: Connection) -> None:
    alice.execute("prepare named as select name from customers where id = 1")
    alice.execute("prepare adding as insert into customers values (5, 'mine')")
    alice.execute("create temp table customers (id int, name text)")
    assert rows(alice, "execute named") == []
    alice.execute("execute adding")
    alice.execute("drop table customers")
    refused(alice, "execute adding")
    assert rows(alice, "execute named") == [("Ada",)]


def test_a_transaction_that_is_undone_takes_its_tables_along(alice: Connection) -> None:
    alice.execute("begin")
    alice.execute("create temp table customers (id int, name text)")
    alice.execute("insert into customers values (5, 'mine')")
    assert rows(alice, "select id from customers") == [(5,)]
    alice.execute("rollback")
    refused(alice, "insert into customers values (5, 'theirs')")
    alice.execute("begin")
    alice.execute("savepoint before")
    alice.execute("create temp table customers (id int, name text)")
    alice.execute("insert into customers values (5, 'mine')")
    alice.execute("rollback to before")
    refused(alice, "insert into customers values (5, 'theirs')")
    alice.execute("rollback")


def test_several_statements_do_not_hide_what_is_undone_between_them(alice: Connection) -> None:
    alice.execute("begin")
    alice.execute("savepoint before")
    alice.execute("create temp table customers (id int, name text)")
    for undone in ("rollback to before", "drop table customers", "discard temp", "rollback"):
        with alice.transaction():
            refused(alice, f"{undone}; insert into customers values (5, 'theirs')")
            raise psycopg.Rollback
    alice.execute("rollback")
    alice.execute("create temp table customers (id int, name text)")
    refused(alice, "drop table customers; drop table customers")
    refused(alice, "discard all; insert into customers values (5, 'theirs')")
    refused(alice, "alter table customers rename to gone; drop table customers")


def test_tables_of_one_transaction_are_gone_with_it(alice: Connection) -> None:
    with alice.transaction():
        alice.execute("create temp table customers (id int, name text) on commit drop")
        alice.execute("insert into customers values (5, 'mine')")
    refused(alice, "insert into customers values (5, 'theirs')")
    with alice.transaction():
        alice.execute("create temp table kept (id int)")
        alice.execute("insert into kept values (1)")
    assert rows(alice, "select id from kept") == [(1,)]


@pytest.mark.parametrize("how", ["discard temp", "discard all"])
def test_what_is_discarded_is_gone(alice: Connection, how: str) -> None:
    alice.execute("create temp table customers (id int, name text)")
    alice.execute("insert into customers values (5, 'mine')")
    alice.execute(how)
    refused(alice, "insert into customers values (5, 'theirs')")
    assert len(rows(alice, "select name from customers")) == 2


def test_a_snapshot_that_does_not_show_what_others_commit_shows_nothing(alice: Connection) -> None:
    alice.execute("begin isolation level repeatable read")
    assert len(rows(alice, "select name from customers")) == 2
    alice.execute("create temp table late (id int)")
    refused(alice, "select id from late")
    alice.execute("rollback")


def test_modes_can_still_be_set_in_a_transaction_after_a_temporary_table(alice: Connection) -> None:
    alice.execute("create temp table late (id int)")
    alice.execute("begin")
    alice.execute("set transaction isolation level serializable")
    assert rows(alice, "select id from late") == []
    alice.execute("commit")


def test_a_migration_runs_in_one_transaction(rig: Rig, bob: Connection, alice: Connection, server: Server) -> None:
    with bob.transaction():
        bob.execute("create table parts (id int primary key, of int)")
        bob.execute("insert into parts values (1, 1), (2, 1)")
        bob.execute("alter table parts add weight numeric default 1")
        bob.execute("create index on parts (of)")
        bob.execute("update parts set weight = 2 where id = 1")
        assert rows(bob, "select sum(weight) from parts where of = %s", 1) == [(3,)]
        refused_elsewhere(rig)
    assert rows(alice, "select count(*) from parts") == [(2,)]
    bob.execute("begin")
    bob.execute("alter table parts rename to pieces")
    assert rows(bob, "select count(*) from pieces") == [(2,)]
    bob.execute("savepoint s")
    bob.execute("drop table pieces")
    refused(bob, "select count(*) from pieces")
    assert bob.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    bob.execute("rollback to s")
    assert rows(bob, "select count(*) from pieces") == [(2,)]
    bob.execute("rollback")
    assert rows(bob, "select count(*) from parts") == [(2,)]
    bob.execute("drop table parts")
    assert rows(bob, "select count(*) from customers") == [(2,)]


def refused_elsewhere(rig: Rig) -> None:
    with rig.connect(ALICE, "db") as other:
        refused(other, "select count(*) from parts")


def test_a_table_put_in_place_of_another_is_judged_by_its_own_name(bob: Connection) -> None:
    # Bob may do as he likes in public. A path that leads elsewhere once the table is out of the way is no way around.
    bob.execute("set search_path = public, hidden")
    with bob.transaction():
        bob.execute("alter table customers rename to customers_old")
        with bob.transaction():
            refused(bob, "select * from customers")
            raise psycopg.Rollback
        assert len(rows(bob, "select name from customers_old")) == 2
        refused_text = "alter table orders rename to o; drop table customers; select 1"
        with bob.transaction():
            refused(bob, refused_text)
            raise psycopg.Rollback
        raise psycopg.Rollback
    assert len(rows(bob, "select name from customers")) == 2


def test_own_locks_do_not_stand_in_the_way(bob: Connection) -> None:
    # The definition of the view `sums` cannot be read by anybody else meanwhile.
    with bob.transaction():
        bob.execute("truncate orders")
        bob.execute("alter table orders add extra int")
        bob.execute("insert into orders values (1, 1, 1)")
        assert rows(bob, "select extra from orders") == [(1,)]
        raise psycopg.Rollback


def test_a_timeout_of_the_clients_does_not_end_what_the_gateway_asks(alice: Connection) -> None:
    alice.execute("create temp table mine (id int)")
    alice.execute("set lock_timeout = '1ms'")
    alice.execute("set statement_timeout = '1s'")
    alice.execute("insert into mine values (1)")
    assert rows(alice, "select id from mine") == [(1,)]
    assert rows(alice, "show statement_timeout") == [("1s",)]


def test_unnamed_statements_and_portals_outlast_what_the_gateway_asks(rig: Rig) -> None:
    def run(name: str) -> bytes:
        return bind(name, name) + execute(name)

    with rig.wire(ALICE, "db") as wire:
        wire.ask("create temp table mine as select generate_series(1, 5) as id")
        wire.ask("begin")
        made = parse("ddl", "create temp table other (id int)") + parse("", "select id from mine order by id")
        wire.send(made + bind("", "") + execute("", 2) + SYNC)
        wire.until("Z")
        wire.send(run("ddl") + SYNC)
        wire.until("Z")
        wire.send(parse("more", "insert into other values (1)") + run("more") + SYNC)
        wire.until("Z")
        wire.send(execute("", 0) + SYNC)
        wire.until("Z")
        wire.send(bind("p", "") + execute("p") + SYNC)
        wire.until("Z")
        assert wire.errors == []
        assert [row[0] for row in wire.rows] == [b"1", b"2", b"3", b"4", b"5", b"1", b"2", b"3", b"4", b"5"]


def test_asyncpg_makes_and_uses_temporary_tables(rig: Rig) -> None:
    async def use() -> list[Any]:
        with rig.tunnel(ALICE, "db") as way:
            connection = await asyncpg.connect(
                host=way["host"], port=way["port"], user="alice", database="db", password=way["password"]
            )
            try:
                async with connection.transaction():
                    await connection.execute("create temp table mine (id int, note text)")
                    await connection.executemany("insert into mine values ($1, $2)", [(1, "one"), (2, "two")])
                    await connection.copy_records_to_table("mine", records=[(3, "three")])
                    found = await connection.fetch("select note from mine where id > $1 order by id", 1)
                async with connection.transaction():
                    async for row in connection.cursor("select id from mine order by id", prefetch=1):
                        await connection.execute("insert into mine values ($1, 'more')", row["id"] + 10)
                await connection.execute("alter table mine drop note")
                last = await connection.fetch("select * from mine where id = 1")
                return [[r["note"] for r in found], [tuple(r) for r in last]]
            finally:
                await connection.close()

    assert asyncio.run(use()) == [["two", "three"], [(1,)]]


def test_psql_runs_a_script_of_an_etl(rig: Rig, server: Server) -> None:
    script = r"""
\set ON_ERROR_STOP 1
begin;
create temp table loaded (id int, note text) on commit preserve rows;
\copy loaded from pstdin
1	one
2	two
\.
create temp table clean as select id, upper(note) as note from loaded;
commit;
select note from clean order by id;
drop table loaded, clean;
"""
    environment = {"PATH": "/usr/bin:/bin", "PGPASSWORD": rig.ticket(ALICE, "db"), "HOME": "/nonexistent"}
    done = subprocess.run(
        [str(server.bin / "psql"), "-qAtX", "-h", str(rig.runtime), "-U", "alice", "db"],
        input=script, capture_output=True, text=True, env=environment, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ONE\nTWO\n", "")


def test_nothing_of_it_shows(rig: Rig, alice: Connection, server: Server) -> None:
    heard: list[str] = []
    alice.add_notice_handler(lambda diagnostic: heard.append(str(diagnostic.message_primary)))
    alice.execute("set client_min_messages = debug1")
    alice.execute("create temp table mine (id int)")
    alice.execute("begin")
    alice.execute("alter table mine add note text")
    assert rows(alice, "select note from mine") == []
    alice.execute("commit")
    assert [text for text in heard if "bastion" in text] == []
    assert rows(alice, "select name from pg_prepared_statements where name like 'bastion%'") == []
    with rig.connect(BOB, "db") as other:
        assert len(rows(other, "select * from customers")) == 2
