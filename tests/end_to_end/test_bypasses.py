"""Ways round the gateway that an insider with several sessions, or with patience, might find."""

from collections.abc import Iterator

import pytest

from tests.kit import pgwire, shop
from tests.kit.issuer import Issuer
from tests.kit.pgwire import Connection
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, CAROL, ENVIRONMENT, MALLORY, Rig, loaded, target, until

pytestmark = [pytest.mark.live, pytest.mark.slow]

_SQL = (
    shop.SQL
    + """
create function purge() returns int language plpgsql as $$ begin delete from public.orders; return 1; end $$;
create view report as select 1 as n;
"""
)
_POLICY = """
version: 1
auditors: {groups: [auditors]}
rules:
  - name: read
    effect: allow
    who: {groups: [engineers]}
    sql: {access: read}
  - name: views
    effect: allow
    who: {groups: [engineers]}
    sql: {verbs: [create, drop, alter]}
  - name: changes
    effect: hold
    who: {groups: [engineers]}
    sql: {verbs: [update, delete, insert]}
    approval: {by: [dba], votes: 1, expires: 15m}
    reason: A second pair of eyes.
"""


@pytest.fixture(scope="module")
def rig(postgres: Server, issuer: Issuer) -> Iterator[Rig]:
    with loaded(postgres, "bypassed", _SQL) as name:
        targets = {"shop": target(postgres, name)}
        with Rig(issuer, targets, _POLICY, environment=ENVIRONMENT) as made:
            yield made


def _refused(connection: Connection, text: str) -> bool:
    return any(m.type == "E" and m.fields["C"] == "42501" for m in connection.ask(text))


def _orders(server: Server) -> int:
    return int(server.execute("select count(*) from orders", database="bypassed")[0][0])


def test_view_that_another_session_makes_harmful_is_read_anew(rig: Rig, postgres: Server) -> None:
    with rig.wire(MALLORY, "shop") as victim, rig.wire(MALLORY, "shop") as maker:
        assert not _refused(maker, "create or replace view report as select 1 as n")
        assert not _refused(victim, "select n from report")
        assert not _refused(maker, "create or replace view report as select public.purge() as n")
        assert _refused(victim, "select n from report")
    assert _orders(postgres) == 500


def test_the_same_with_a_statement_prepared_before(rig: Rig, postgres: Server) -> None:
    with rig.wire(MALLORY, "shop") as victim, rig.wire(MALLORY, "shop") as maker:
        assert not _refused(maker, "create or replace view report as select 1 as n")
        victim.send(pgwire.parse("s", "select n from report") + pgwire.frame("S"))
        victim.until("Z")
        assert not _refused(maker, "begin")
        assert not _refused(maker, "create or replace view report as select public.purge() as n")
        assert not _refused(maker, "commit")
        before = len(victim.errors)
        victim.send(pgwire.bind("", "s") + pgwire.execute() + pgwire.frame("S"))
        victim.until("Z")
        assert [e["C"] for e in victim.errors[before:]] == ["42501"]
    assert _orders(postgres) == 500


def _plain_report(maker: Connection) -> None:
    assert not _refused(maker, "create or replace view report as select 1 as n")


def test_view_that_is_being_made_harmful_while_its_catalog_is_read(rig: Rig, postgres: Server) -> None:
    with rig.wire(MALLORY, "shop") as victim, rig.wire(MALLORY, "shop") as maker:
        _plain_report(maker)
        assert not _refused(maker, "begin")
        assert not _refused(maker, "create or replace view report as select public.purge() as n")
        # The catalog is read anew, and waits for the lock on the view.
        victim.send(pgwire.query("select n from report"))
        locked = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and application_name like 'bastion%'"
        until(lambda: postgres.execute(locked, database="bypassed"), "a lock that is waited for")
        assert not _refused(maker, "commit")
        victim.until("Z")
        assert [e["C"] for e in victim.errors] == ["42501"]
        _plain_report(maker)
    assert _orders(postgres) == 500


def _run(text: str) -> bytes:
    return pgwire.parse("", text) + pgwire.bind("", "") + pgwire.execute()


@pytest.mark.parametrize("extended", [False, True])
def test_view_that_is_made_harmful_behind_answers_that_nobody_takes(rig: Rig, postgres: Server, extended: bool) -> None:
    change = "create or replace view report as select public.purge() as n"
    said = [
        "select repeat('x', 100000) from generate_series(1, 25)",
        "select count(*) from generate_series(1, 5000000)",
    ]

    def at_rest() -> bool:
        busy = "select 1 from pg_stat_activity where state = 'active' and datname = 'bypassed'"
        return not postgres.execute(busy)

    with rig.wire(MALLORY, "shop") as victim, rig.wire(MALLORY, "shop") as maker:
        _plain_report(maker)
        assert not _refused(maker, "select 1")
        texts = [*said, change]
        maker.send(b"".join(map(_run, texts)) + pgwire.SYNC if extended else b"".join(map(pgwire.query, texts)))
        busy = "select 1 from pg_stat_activity where query like 'select count%' and state = 'active'"
        until(lambda: postgres.execute(busy), "the target to be busy")
        assert not _refused(victim, "select n from report")
        until(at_rest, "the target to be done")
        # The change is not there yet, or is seen.
        victim.ask("select n from report")
        assert _orders(postgres) == 500
        maker.until("Z")
        maker.send(pgwire.SYNC)
        maker.until("Z")
        _plain_report(maker)


def test_a_transaction_that_changes_the_catalog_keeps_nobody_waiting(rig: Rig) -> None:
    with rig.wire(MALLORY, "shop") as other, rig.wire(MALLORY, "shop") as maker:
        assert not _refused(maker, "begin")
        # The definition of the view `open_orders` cannot be read by anybody else meanwhile.
        assert not _refused(maker, "alter table orders add extra int")
        assert [m.type for m in other.ask("select count(*) from people")] == ["T", "D", "C", "Z"]
        maker.ask("rollback")


def test_view_that_is_made_harmful_while_people_are_asked(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as victim, rig.wire(MALLORY, "shop") as maker:
        _plain_report(maker)
        victim.send(pgwire.query("update people set email = 'x' where id = (select n from report)"))
        request = rig.waiting(CAROL)
        assert not _refused(maker, "create or replace view report as select public.purge() as n")
        assert rig.vote(CAROL, request).status_code == 200
        victim.until("Z")
        assert [e["C"] for e in victim.errors] == ["42501"]
        assert "bastion:changed" in victim.errors[0]["M"]
        _plain_report(maker)
    assert _orders(postgres) == 500


def test_role_and_path_cannot_be_changed_beside_the_row_of_pg_settings(rig: Rig) -> None:
    with rig.wire(MALLORY, "shop") as connection:
        for setting, value in (("role", "other"), ("search_path", "public, pg_catalog")):
            text = f"select set_config('{setting[:2]}' || '{setting[2:]}', '{value}', false) from pg_settings"
            assert _refused(connection, f"{text} where name = 'bytea_output'")


def test_approver_sees_what_a_name_stands_for(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        assert not _refused(connection, "prepare p(int) as update people set email = 'me@evil' where id = $1")
        connection.send(pgwire.query("execute p(1)"))
        request = rig.waiting(CAROL)
        assert "set email = 'me@evil' where id = $1" in request["action"]["text"]
        assert rig.vote(CAROL, request).status_code == 200
        connection.until("Z")
    assert postgres.execute("select email from people where id = 1", database="bypassed") == [("me@evil",)]


def test_text_that_cannot_be_read_is_on_the_record(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        connection.ask("selct 1")
        connection.ask("alter role app_rw pasword 'hunter2'")
        connection.send(pgwire.frame("X"))
        assert connection.until_closed()
    entries = [entry for session in rig.sessions("shop") for entry in rig.entries(session["id"])]
    told = [entry["data"]["text"] for entry in entries if entry["kind"] == "unread"]
    assert told == ["selct 1", "(text that may hold a secret)"]


def test_what_does_not_exist_is_said_not_to(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        (said,) = [m.fields["M"] for m in connection.ask("select * from peple") if m.type == "E"]
    assert "relation peple" in said
    assert said.endswith("the target seems to have nothing of that name")
