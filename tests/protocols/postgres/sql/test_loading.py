"""The catalog as it is read from real servers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.building import SEEN, SETTINGS, decoded, path_of, seen, sight
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.loading import load
from tests.protocols.postgres.sql.conftest import catalog_of


def test_reads_what_the_analysis_looks_up(analyst: CatalogAnalyst) -> None:
    catalog = analyst.catalog
    orders = catalog.relations["public", "orders"]
    assert list(orders.columns) == ["id", "user_id", "amount", "status", "note"]
    assert catalog.keys[orders.oid] == (frozenset({"id"}),)
    two = catalog.relations["public", "two_keys"]
    assert catalog.keys[two.oid] == (frozenset({"a", "b"}),)
    assert catalog.role == "gw_app"
    assert catalog.path == ("gw_app", "public")
    assert not catalog.privileged
    assert catalog.relations["pg_catalog", "pg_class"].system
    assert catalog.functions["purge_orders"][0].volatility == "v"
    assert not catalog.functions["purge_orders"][0].vouched
    assert all(function.vouched for function in catalog.functions["now"])
    view = catalog.relations["public", "v_contacts"]
    assert "users.email AS contact" in catalog.views[view.oid] or "email AS contact" in catalog.views[view.oid]


def test_a_superuser_is_told_apart(super_analyst: CatalogAnalyst) -> None:
    assert super_analyst.catalog.privileged


@pytest.mark.parametrize("autocommit", [True, False])
async def test_leaves_the_connection_as_it_was(dsn: str, autocommit: bool) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=autocommit) as connection:
        await load(connection)
        assert connection.autocommit is autocommit
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        shown = await (await connection.execute("SHOW search_path")).fetchone()
        assert shown == ('"$user", public',)


async def test_built_in_casts_and_operators_need_no_naming(analyst: CatalogAnalyst) -> None:
    catalog = analyst.catalog
    ours = {catalog.functions_by_oid[cast.function].full_name for cast in catalog.casts}
    assert ours == {"scratch.box2txt"}
    for name in ("=", "<", "||", "+", "~~", "->>", "@>"):
        for operator in catalog.operators[name]:
            function = catalog.functions_by_oid[operator.function]
            assert function.vouched or operator.schema != "pg_catalog", (name, function.full_name)


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ('"$user", public', ("me", "public")),
        ("Public", ("public",)),
        ('"A b", c', ("A b", "c")),
        ('"a""b"', ('a"b',)),
        ("", ()),
        ('""', ()),
        ('"open', ()),
        ('"a"b', ()),
    ],
)
def test_a_search_path_is_read_as_the_server_reads_it(setting: str, path: tuple[str, ...]) -> None:
    assert path_of(setting, "me") == path


@given(st.lists(st.text(min_size=1, max_size=8).filter(lambda name: name != "$user" and "\0" not in name), max_size=4))
def test_any_quoted_path_is_read_back(names: list[str]) -> None:
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert path_of(quoted, "me") == tuple(names)


_TANGLED = """
create schema tangle;
set search_path = tangle, pg_catalog;
create function no(oid, oid) returns bool language sql as 'select false';
create operator = (function = no, leftarg = oid, rightarg = oid);
create domain text as int;
create domain pg_temp.int8 as pg_catalog.text check (value = 'never');
create function array_agg(pg_catalog.text) returns pg_catalog.text language sql as 'select null::pg_catalog.text';
create temp view pg_class as select 1;
create temp table kept (id int primary key, made_at timestamptz default now());
create temp view shows as select id from kept;
set datestyle = 'SQL, DMY';
set client_min_messages = debug1;
set quote_all_identifiers = on;
set array_nulls = off;
"""


SEEN_AS_TEXT = f"SELECT a, b::pg_catalog.text FROM ({SEEN}) AS answers(a, b)".encode()


def seen_over(connection: "psycopg.Connection[Any]") -> Catalog:
    """Return the catalog as a session sees it, asked for as the gateway asks, with the answers in text."""
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT bastion_catalog")
        cursor.execute(SETTINGS)
        found = cursor.execute(SEEN_AS_TEXT).fetchall()
        cursor.execute("ROLLBACK TO SAVEPOINT bastion_catalog")
    rows = decoded((name.encode(), row.encode()) for name, row in found)
    return seen(rows, ("gw_app", "public"))


def test_a_session_sees_what_every_other_sees(dsn: str) -> None:
    shared = catalog_of(dsn)
    with psycopg.connect(dsn) as connection:
        found = seen_over(connection)
    for field in dataclasses.fields(Catalog):
        one, other = getattr(shared, field.name), getattr(found, field.name)
        if field.name in ("casts",):
            one, other = sorted(map(repr, one)), sorted(map(repr, other))
        assert plain(other) == plain(one), field.name


def plain(value: Any) -> Any:
    """Return a value in which the order of rows does not count."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return sorted(map(repr, value)) if isinstance(value, tuple) else value


def test_no_object_or_setting_of_a_session_gets_into_what_is_asked(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        before = seen_over(connection)
        connection.execute(_TANGLED)
        found = seen_over(connection)
        assert connection.execute("show search_path").fetchone() == ("tangle, pg_catalog",)
        assert connection.execute("show lock_timeout").fetchone() == ("0",)
        connection.rollback()
    assert found.temporary_schema.startswith("pg_temp_")
    assert set(found.temporary) == {"pg_class", "kept", "shows"}
    assert list(found.temporary["kept"].columns) == ["id", "made_at"]
    assert found.temporary_types["int8"].checks == ("(VALUE = 'never'::text)",)
    assert found.path == ("gw_app", "public")
    for name in ("relations", "views", "keys", "triggers", "policies"):
        one = getattr(before, name, {})
        assert {key: getattr(found, name)[key] for key in one} == one


def test_another_sessions_temporary_objects_are_nobody_elses(dsn: str) -> None:
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        one.execute("create temp table only_mine (id int)")
        one.commit()
        assert seen_over(other).temporary == {}
        other.execute("create temp table only_theirs (id int)")
        assert set(seen_over(other).temporary) == {"only_theirs"}


@pytest.mark.parametrize(
    "answers", [[(b"sight", b"[")], [(b"other", b"[]")], [(b"sight", b"\xff")], [(b"sight", b"{}{}")], []]
)
def test_an_answer_that_cannot_be_read_is_none(answers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises((ValueError, LookupError)):
        sight(decoded(answers))
