"""Masking on the wire: what is covered, by which of the protocol's ways, and what the record keeps of it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.kit import pgwire
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, CAROL, ENVIRONMENT, Person, Rig, loaded, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

READER = Person("rita", ("engineers", "readers"))
MAIL, SSN = "ada.canary7f3a@corp.example", "912-66-4821"
NEVER_TYPED = "944-18-0377"
_SQL = f"""
create table public.users (id int primary key, name text, email text unique, ssn text, dept text, note text);
insert into public.users values (1, 'Ada', '{MAIL}', '{SSN}', 'ops', 'call 4111 1111 1111 1111'),
  (2, 'Bob', 'bob@corp.example', '{NEVER_TYPED}', 'ops', null), (3, 'Cy', null, null, 'dev', 'nothing');
create view public.contacts as select id, email as contact from public.users;
create function public.mail_of(int) returns text language sql stable as 'select email from public.users where id = $1';
grant all on all tables in schema public to app_rw;
"""
_POLICY = """
version: 1
auditors: {groups: [auditors]}
rules:
  - {name: read, effect: allow, who: {groups: [engineers]}, sql: {access: read}}
  - {name: change, effect: allow, who: {groups: [engineers]}, sql: {verbs: [insert, update, delete]}}
  - {name: call, effect: allow, who: {groups: [engineers]}, sql: {functions: [public.mail_of, pg_catalog.pg_notify]}}
  - {name: listen, effect: allow, who: {groups: [engineers]}, sql: {verbs: [listen, notify]}}
masks:
  - name: mail
    columns: [public.users.email]
    cover: partial
    unless: {groups: [readers]}
    approval: {by: [dba]}
  - {name: numbers, columns: [public.users.ssn], cover: {partial: {keep: 4}}, unless: {groups: [readers]}}
  - {name: cards, detect: [payment_card], cover: full, unless: {groups: [readers]}}
"""


@pytest.fixture(scope="module")
def rig(postgres: Server, issuer: Issuer) -> Iterator[Rig]:
    with (
        loaded(postgres, "masked", _SQL) as name,
        Rig(issuer, {"shop": target(postgres, name)}, _POLICY, environment=ENVIRONMENT) as made,
    ):
        yield made


@pytest.fixture
def ada(rig: Rig) -> Iterator["psycopg.Connection[Any]"]:
    with rig.connect(ALICE, "shop") as connection:
        yield connection


def test_a_bare_column_has_its_masks_cover_and_the_rest_stays(ada: "psycopg.Connection[Any]") -> None:
    rows = ada.execute("select id, name, email, ssn from public.users order by id").fetchall()
    assert rows == [
        (1, "Ada", "a***@***.example", "***-**-4821"),
        (2, "Bob", "b***@***.example", "***-**-0377"),
        (3, "Cy", None, None),
    ]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "query",
    [
        "select * from users where id = 1",
        "select email as name, ssn as dept from users where id = 1",
        "select contact from contacts where id = 1",
        "select email || '', upper(ssn) from users where id = %s",
        "select u from users u where id = 1",
        "select row_to_json(u) from users u where id = %s",
        "select array_agg(email order by id), string_agg(ssn, ';') from users",
        "select x from (select id, email as x from users) s where id = 1",
        "with t(a, b) as (select id, ssn from users) select b from t where a = 1",
        "select name from users where id = 2 union all select email from users where id = 1",
        "select mail_of(1)",
        "select min(email), max(ssn) from users",
        "select l.v from users u, lateral (values (u.email), (u.ssn)) l(v) where u.id = 1",
        "update users set dept = 'ops' where id = 1 returning email, ssn",
        "select (select email from users where id = 1)",
    ],
)
def test_no_value_of_a_masked_column_comes_back(ada: "psycopg.Connection[Any]", query: str, binary: bool) -> None:
    arguments = (1,) if "%s" in query else ()
    said = str(ada.execute(query, arguments, binary=binary, prepare="select" in query).fetchall())
    assert said
    for secret in (MAIL, SSN, SSN.upper(), MAIL[:12]):
        assert secret not in said


def test_a_mask_spares_whom_it_says(rig: Rig) -> None:
    with rig.connect(READER, "shop") as connection:
        assert connection.execute("select email, note from users where id = 1").fetchone() == (
            MAIL,
            "call 4111 1111 1111 1111",
        )


def test_what_looks_like_a_card_is_covered_wherever_it_stands(ada: "psycopg.Connection[Any]") -> None:
    assert ada.execute("select note from users where id = 1").fetchone() == ("call ********",)
    assert ada.execute("select note from users where id = 3").fetchone() == ("nothing",)


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_copied_rows_are_covered(ada: "psycopg.Connection[Any]", form: str) -> None:
    for source in ("users (id, email, ssn, note)", "(select email, ssn, note from users)"):
        with ada.cursor() as cursor, cursor.copy(f"copy {source} to stdout (format {form})") as copy:
            data = b"".join(bytes(part) for part in copy)
        assert b"a***@***.example" in data
        for secret in (MAIL, SSN, "4111 1111"):
            assert secret.encode() not in data


def test_a_cursor_and_a_statement_of_sql_are_covered(ada: "psycopg.Connection[Any]") -> None:
    ada.execute("begin")
    ada.execute("declare c cursor for select email from users order by id")
    assert ada.execute("fetch 1 from c").fetchone() == ("a***@***.example",)
    ada.execute("prepare p as select ssn from users where id = 1")
    assert ada.execute("execute p").fetchone() == ("***-**-4821",)
    ada.execute("commit")
    ada.execute("deallocate p")


def test_errors_do_not_quote_what_is_masked(ada: "psycopg.Connection[Any]") -> None:
    for text in (
        f"insert into users (id, email) values (9, '{MAIL}')",
        f"update users set email = '{MAIL}' where id = 2",
    ):
        with pytest.raises(psycopg.errors.UniqueViolation) as caught:
            ada.execute(text)
        assert "canary" not in str(caught.value)
        assert "withholds" in str(caught.value)
        assert caught.value.diag.constraint_name == "users_email_key"
    with pytest.raises(psycopg.errors.UndefinedColumn, match="nosuch"):
        ada.execute("select nosuch from pg_catalog.pg_class")


@pytest.mark.parametrize(
    "query",
    [
        "select count(*) from users where ssn like '912%'",
        "select id from users order by ssn",
        "select 1 / (case when ssn like '912%' then 0 else 1 end) from users",
        "select count(*) from (values ('912-66-4821')) g(v) join users u on u.ssn = g.v",
        "insert into users (id, note) select 10 + id, ssn from users",
        "update users set note = ssn",
        "select pg_notify('news', ssn) from users",
    ],
)
def test_what_would_tell_it_otherwise_is_denied(ada: "psycopg.Connection[Any]", query: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="masked"):
        ada.execute(query)


def test_a_comparison_is_held_where_the_mask_says_who_approves(rig: Rig, ada: "psycopg.Connection[Any]") -> None:
    assert ada.execute(f"select name from users where email = '{MAIL}'").fetchone() == ("Ada",)
    with rig.wire(ALICE, "shop") as wire:
        wire.send(pgwire.query("select email from users where email like 'ada%'"))
        request = rig.waiting(CAROL)
        assert request["demands"][0]["rule"] == "mail"
        assert rig.vote(CAROL, request).status_code == 200
        assert wire.until("Z") is not None
        assert wire.rows == [[b"a***@***.example"]]


def test_notifications_come_without_their_payload(rig: Rig, ada: "psycopg.Connection[Any]") -> None:
    ada.execute("listen news")
    with rig.connect(READER, "shop") as reader:
        reader.execute("select pg_notify('news', email) from users where id = 1")
    (notice,) = ada.notifies(timeout=10, stop_after=1)
    assert (notice.channel, notice.payload) == ("news", "")


def test_the_record_holds_what_was_seen(rig: Rig) -> None:
    before = {s["id"] for s in rig.sessions("shop")}
    with rig.connect(ALICE, "shop") as connection:
        connection.execute("select email, note, ssn as dept from users").fetchall()
    (session,) = {s["id"] for s in rig.sessions("shop")} - before
    finished = [e["data"] for e in rig.entries(session) if e["kind"] == "finished"]
    assert finished[-1]["covered"] == {"email": "mail", "dept": "numbers"}
    assert finished[-1]["found"] == {"payment_card": 1}
    stored = b"".join(p.read_bytes() for p in rig.state.rglob("*") if p.is_file())
    assert NEVER_TYPED.encode() not in stored
    told = rig.run(Person("dave", ("auditors",)), "show", session).stdout
    assert "covered: email by mail, dept by numbers" in told
    assert NEVER_TYPED not in told


def test_a_mask_of_a_column_that_is_not_there_lets_nobody_in(postgres: Server, issuer: Issuer, own_shop: str) -> None:
    policy = _POLICY.partition("masks:")[0] + "masks:\n  - {name: m, columns: [public.orders.emial], cover: full}\n"
    targets = {"shop": target(postgres, own_shop)}
    with (
        Rig(issuer, targets, policy, environment=ENVIRONMENT) as rig,
        pytest.raises(psycopg.OperationalError, match=r"masks public\.orders\.emial, and database"),
    ):
        rig.connect(ALICE, "shop")


def test_a_session_ends_when_its_masks_come_to_name_other_columns(rig: Rig) -> None:
    with rig.connect(ALICE, "shop") as connection:
        connection.execute("prepare p as select name from users where id = 1")
        rig.reload(_POLICY.replace("public.users.ssn]", "public.users.ssn, public.users.name]"))
        try:
            with pytest.raises(psycopg.OperationalError, match="no longer configured as it was"):
                connection.execute("execute p")
            with rig.connect(ALICE, "shop") as other:
                assert other.execute("select name from users where id = 1").fetchone() == ("********",)
        finally:
            rig.reload(_POLICY)


def test_who_is_spared_is_read_anew_with_the_policy(rig: Rig) -> None:
    with rig.connect(READER, "shop") as connection:
        assert connection.execute("select email from users where id = 1").fetchone() == (MAIL,)
        rig.reload(_POLICY.replace("unless: {groups: [readers]}", "unless: {groups: [nobody]}"))
        try:
            with pytest.raises(psycopg.OperationalError, match="no longer configured as it was"):
                connection.execute("select email from users where id = 1")
            with rig.connect(READER, "shop") as other:
                assert other.execute("select email from users where id = 1").fetchone() == ("a***@***.example",)
        finally:
            rig.reload(_POLICY)


def test_a_column_that_is_renamed_is_not_shown_under_its_new_name(postgres: Server, issuer: Issuer) -> None:
    policy = _POLICY.replace(
        "masks:",
        "  - {name: alter, effect: allow, who: {groups: [engineers]}, sql: {verbs: [alter, drop, create]}}\nmasks:",
    )
    with (
        loaded(postgres, "renamed", _SQL + "alter table public.users owner to app_rw;") as name,
        Rig(issuer, {"shop": target(postgres, name)}, policy, environment=ENVIRONMENT) as rig,
        rig.connect(READER, "shop") as connection,
        rig.connect(ALICE, "shop") as other,
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="masked"):
            other.execute("alter table public.users rename column email to e")
        connection.execute("alter table public.users rename column email to e")
        with pytest.raises(psycopg.OperationalError, match="the policy masks"):
            other.execute("select * from users")
        with pytest.raises(psycopg.OperationalError, match="the policy masks"):
            rig.connect(ALICE, "shop")
