"""Changes of the catalog that another session has not committed yet: nobody waits for them, to run by them unread."""

from collections.abc import Iterator

import pytest

from tests.kit import pgwire
from tests.kit.issuer import Issuer
from tests.kit.pgwire import Connection
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, ENVIRONMENT, MALLORY, Rig, loaded, target, until

pytestmark = [pytest.mark.live, pytest.mark.slow]

_SQL = """
create table kept (id int);
insert into kept select generate_series(1, 100);
create table people (id int, name text);
create table days (id int, at date) partition by range (at);
create table day1 partition of days for values from ('2020-01-01') to ('2021-01-01');
create table owners (id int primary key);
create table things (id int, owner int references owners on delete cascade);
insert into owners values (1);
insert into things values (1, 1);
create view shown as select id, name from people;
create function purge() returns int language plpgsql as $$ begin delete from kept; return 1; end $$;
create function purging(int) returns int language plpgsql immutable as
  $$ begin perform 1 from kept limit 1; return $1; end $$;
create table slow (id int);
create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(3); return null; end $$;
create constraint trigger late after insert on slow deferrable initially deferred
  for each row execute function slowly();
create function on_change() returns trigger language plpgsql as $$ begin delete from kept; return new; end $$;
"""
_POLICY = """
version: 1
rules:
  - {name: all, effect: allow, who: {groups: [engineers]}, sql: {access: admin}}
  - {name: calls, effect: allow, who: {subjects: [mallory]}, sql: {functions: [public.*]}}
"""


@pytest.fixture
def rig(postgres: Server, issuer: Issuer) -> Iterator[Rig]:
    with (
        loaded(postgres, "uncommitted", _SQL) as name,
        Rig(issuer, {"shop": target(postgres, name)}, _POLICY, environment=ENVIRONMENT) as made,
    ):
        yield made


@pytest.fixture
def maker(rig: Rig) -> Iterator[Connection]:
    with rig.wire(MALLORY, "shop") as connection:
        yield connection


@pytest.fixture
def other(rig: Rig) -> Iterator[Connection]:
    with rig.wire(ALICE, "shop") as connection:
        connection.ask("select 1")
        yield connection


def kept(server: Server) -> int:
    return int(server.execute("select count(*) from kept", database="uncommitted")[0][0])


def refused(connection: Connection, text: str) -> bool:
    return any(m.type == "E" and m.fields["C"] == "42501" for m in connection.ask(text))


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            "create trigger t before insert on people for each row execute function on_change()",
            "insert into people values (1)",
        ),
        (
            "create trigger t before insert on day1 for each row execute function on_change()",
            "insert into days values (1, '2020-05-05')",
        ),
        (
            "create trigger t after delete on things for each row execute function on_change()",
            "delete from owners where id = 1",
        ),
        ("create rule r as on insert to people do also select purge()", "insert into people values (1)"),
        ("create or replace view shown as select id, name from people where purge() > 0", "select * from shown"),
        ("alter table people add check (purge() > 0) not valid", "insert into people values (1)"),
        ("alter table people alter name set default purge()::text", "insert into people (id) values (1)"),
    ],
)
def test_nobody_waits_for_a_change_and_then_runs_by_it(
    postgres: Server, maker: Connection, other: Connection, change: str, text: str, prepared: bool
) -> None:
    if prepared:
        other.send(pgwire.parse("s", text) + pgwire.frame("S"))
        other.until("Z")
    maker.ask("begin")
    assert not [m for m in maker.ask(change) if m.type == "E"]
    if prepared:
        other.send(pgwire.bind("", "s") + pgwire.execute() + pgwire.frame("S"))
    else:
        other.send(pgwire.query(text))
    if not prepared:  # to bind, the target waits for the lock, and only to plan
        assert other.until("Z", patience=2.0) is not None, "it waits at the target"
    maker.ask("commit")
    if prepared:
        assert other.until("Z") is not None
    assert other.errors[-1]["C"] == "42501"
    assert kept(postgres) == 100
    assert refused(other, text)
    assert kept(postgres) == 100


def test_what_the_change_does_not_concern_goes_on(maker: Connection, other: Connection) -> None:
    maker.ask("begin")
    maker.ask("create trigger t before insert on people for each row execute function on_change()")
    assert not refused(other, "select count(*) from kept")
    assert not refused(other, "insert into owners values (2)")
    maker.ask("rollback")
    assert not refused(other, "insert into people values (1)")


def test_a_session_that_is_gone_leaves_nothing_in_doubt(rig: Rig, other: Connection) -> None:
    with rig.wire(MALLORY, "shop") as gone:
        gone.ask("begin")
        gone.ask("create trigger t before insert on people for each row execute function on_change()")
        assert refused(other, "insert into people values (1)")
    until(lambda: not refused(other, "insert into people values (1)"), "the target to end the session")


def test_a_commit_whose_client_is_gone_is_waited_for(rig: Rig, postgres: Server, other: Connection) -> None:
    with rig.wire(MALLORY, "shop") as gone:
        gone.ask("begin")
        gone.ask("insert into slow values (1)")
        gone.ask("create trigger t before insert on people for each row execute function on_change()")
        gone.send(pgwire.query("commit"))
        other.until("Z", patience=0.5)
    while kept(postgres) == 100 and not _has_trigger(postgres):
        assert refused(other, "insert into people values (1)")
    assert refused(other, "insert into people values (1)")
    assert kept(postgres) == 100


def _has_trigger(server: Server) -> bool:
    return bool(server.execute("select 1 from pg_trigger where tgname = 't'", database="uncommitted"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            "create table day2 partition of days (check (purge() > 0)) "
            "for values from ('2022-01-01') to ('2023-01-01')",
            "insert into days values (1, '2022-05-05')",
        ),
        ("create index on people (purging(id))", "insert into people values (1)"),
        ("create index on people (id) where purging(id) > 0", "insert into people values (1)"),
    ],
)
def test_what_is_added_to_a_table_is_known_to_all_at_once(
    postgres: Server, maker: Connection, other: Connection, change: str, text: str
) -> None:
    assert not [m for m in maker.ask(change) if m.type == "E"]
    assert refused(other, text)
    assert kept(postgres) == 100
