"""What names mean to a session that has made temporary objects, and what they may mean behind a change in one text."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from bastion.model.action import Access
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.building import SEEN, SETTINGS, decoded, seen
from tests.kit.postgres import Database, Server, fresh_database

_MADE = """
create temp table orders (id int, mine text);
create temp table "only" (id int);
create temp view shows as select mine from orders;
create type pg_temp.kind as enum ('a');
"""
PUBLIC = ("public",)


@pytest.fixture(scope="module")
def database(every_postgres: Server) -> Iterator[Database]:
    with fresh_database(every_postgres) as made:
        made.execute(
            "create table public.orders (id int, theirs text); create table public.people (id int);"
            "create schema staging; create table staging.people (id int); create table staging.orders (id int)"
        )
        yield made


def analyst_of(connection: "psycopg.Connection[Any]", *, private: bool = True) -> CatalogAnalyst:
    connection.execute("savepoint before")
    connection.execute(SETTINGS)
    text = f"SELECT a, b::pg_catalog.text FROM ({SEEN}) AS answers(a, b)"
    rows = connection.execute(text.encode()).fetchall()
    connection.execute("rollback to savepoint before")
    return CatalogAnalyst(seen(decoded((a.encode(), b.encode()) for a, b in rows), PUBLIC), private=private)


@pytest.fixture(scope="module")
def own(database: Database) -> Iterator[CatalogAnalyst]:
    """Reads for a session with temporary objects."""
    with psycopg.connect(database.dsn()) as connection:
        connection.execute(_MADE)
        yield analyst_of(connection)


@pytest.fixture(scope="module")
def plain(database: Database) -> Iterator[CatalogAnalyst]:
    """Reads for a session without any."""
    with psycopg.connect(database.dsn()) as connection:
        yield analyst_of(connection, private=False)


def told(analyst: CatalogAnalyst, text: str, *paths: tuple[str, ...]) -> set[tuple[str, str]]:
    reading = analyst.read(text.encode(), frozenset(paths or (PUBLIC,)))
    return {(r.name, r.verb) for r in reading.action.resources}


def access(analyst: CatalogAnalyst, text: str, *paths: tuple[str, ...]) -> Access:
    return analyst.read(text.encode(), frozenset(paths or (PUBLIC,))).action.access


def test_what_is_temporary_comes_first(own: CatalogAnalyst, plain: CatalogAnalyst) -> None:
    assert told(own, "select mine from orders") == {("pg_temp.orders", "select")}
    assert told(own, "select theirs from public.orders") == {("public.orders", "select")}
    assert told(own, "select id from pg_temp.only") == {("pg_temp.only", "select")}
    assert told(own, f"select id from {own.catalog.temporary_schema}.only") == {("pg_temp.only", "select")}
    assert told(own, "select mine from shows") == {("pg_temp.shows", "select"), ("pg_temp.orders", "select")}
    assert access(own, "select 'a'::kind") is Access.READ
    assert told(plain, "select theirs from orders") == {("public.orders", "select")}
    assert access(plain, "select id from pg_temp.only") is Access.UNKNOWN


def test_a_path_can_put_it_last(own: CatalogAnalyst) -> None:
    last = ("public", "pg_temp")
    assert told(own, "select id from orders", last) == {("public.orders", "select")}
    assert told(own, "select id from orders", ("public", own.catalog.temporary_schema)) == {("public.orders", "select")}
    both = {("public.orders", "select"), ("pg_temp.orders", "select")}
    assert told(own, "select id from orders", last, PUBLIC) == both
    assert told(own, "drop table orders", last, PUBLIC) == {("public.orders", "drop"), ("pg_temp.orders", "drop")}


def test_what_is_temporary_of_others_nobody_names(own: CatalogAnalyst) -> None:
    assert access(own, "select * from pg_temp_4711.only") is Access.UNKNOWN


def test_a_new_table_comes_to_be_where_the_path_says(own: CatalogAnalyst) -> None:
    # That a temporary one has its name makes it no temporary one.
    assert told(own, "create table orders (id int)") == {("public.orders", "create")}
    assert told(own, "create table orders (id int)", ("pg_temp", "public")) == {("pg_temp.orders", "create")}
    assert told(own, "create temp table orders (id int)") == {("pg_temp.orders", "create")}
    assert told(own, "create view orders as select 1") == {("public.orders", "create")}
    assert told(own, "create table orders as select 1") >= {("public.orders", "create")}


@pytest.mark.parametrize(
    "undone",
    [
        *("rollback", "rollback to a", "commit", "commit and chain", "discard temp", "discard all"),
        *("drop table orders", "alter table orders rename to gone"),
    ],
)
def test_behind_what_takes_it_away_a_name_is_not_certain(own: CatalogAnalyst, undone: str) -> None:
    assert access(own, f"{undone}; select id from orders") is Access.UNKNOWN
    assert ("public.orders", "drop") in told(own, f"{undone}; drop table orders")
    assert ("pg_temp.orders", "drop") in told(own, f"{undone}; drop table orders")


@pytest.mark.parametrize("before", ["rollback", "rollback to a", "commit", "discard all", "savepoint a"])
def test_a_session_without_any_can_go_on_in_one_text(plain: CatalogAnalyst, before: str) -> None:
    assert access(plain, f"{before}; select id from orders") is Access.READ


def test_the_second_of_two_drops_may_reach_further(plain: CatalogAnalyst) -> None:
    path = ("staging", "public")
    assert told(plain, "drop table people", path) == {("staging.people", "drop")}
    both = {("staging.people", "drop"), ("public.people", "drop")}
    assert told(plain, "drop table people; drop table people", path) == both
    moved = told(plain, "alter table public.people set schema staging; alter table orders add x int", path)
    assert {("staging.orders", "alter"), ("public.orders", "alter")} <= moved
    assert ("pg_temp.people", "drop") in told(
        plain, "create temp table people (); drop table people; drop table people"
    )
