"""Catalogs: shared while they are fresh, and never gone by for long."""

import asyncio
import time
from dataclasses import replace

import psycopg
import pytest

from bastion.errors import ProtocolError
from bastion.model.target import Target
from bastion.protocols.postgres import catalogs as catalogs_module
from bastion.protocols.postgres.catalogs import CatalogLocked, Catalogs
from bastion.protocols.postgres.questions import SeenCatalog
from bastion.protocols.postgres.sql.building import SEEN, SETTINGS
from tests.kit import nouns
from tests.kit.postgres import PASSWORD, Database


def target(database: Database) -> Target:
    options = {"database": database.name, "tls": {"mode": "disable"}}
    return replace(nouns.target(), host="127.0.0.1", port=database.server.port, user="app_rw", options=options)


async def password(_: Target) -> bytes:
    return PASSWORD.encode()


@pytest.mark.live
async def test_sessions_share_a_catalog_while_it_is_fresh(database: Database) -> None:
    catalogs = Catalogs(password, lambda _: frozenset(), time.monotonic)
    one = await catalogs.analyst(target(database))
    assert await catalogs.analyst(target(database)) is one
    assert not one.outdated


@pytest.mark.live
async def test_what_others_changed_at_the_target_is_known_to_sessions_that_have_begun(database: Database) -> None:
    catalogs = Catalogs(password, lambda _: frozenset(), time.monotonic, fresh_for=0.05)
    begun = await catalogs.analyst(target(database))
    database.execute("create table public.made_elsewhere (id int)")
    grown_old = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, grown_old.set)
    await grown_old.wait()
    assert begun.outdated
    renewed = await catalogs.analyst(target(database))
    text = b"select id from public.made_elsewhere"
    assert begun.read(text, frozenset({begun.catalog.path})).action.access.name == "UNKNOWN"
    assert renewed.read(text, frozenset({renewed.catalog.path})).action.access.name == "READ"


@pytest.mark.live
async def test_what_is_locked_is_said_to_be(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogs_module, "_LOCKS_LAST", "10ms")
    database.execute("create table public.plain (id int); create view public.sums as select count(*) from public.plain")
    with psycopg.connect(database.dsn()) as holder:
        holder.execute("truncate public.plain")
        with pytest.raises(CatalogLocked, match="locked"):
            await Catalogs(password, lambda _: frozenset(), time.monotonic).analyst(target(database))


@pytest.mark.live
async def test_a_session_has_an_analyst_of_its_own(database: Database) -> None:
    catalogs = Catalogs(password, lambda _: frozenset(), time.monotonic)
    shared = await catalogs.analyst(target(database))
    with psycopg.connect(database.tcp()) as connection:
        connection.execute("create temp table mine (id int)")
        connection.execute(SETTINGS)
        text = f"SELECT a::pg_catalog.bytea, convert_to(b::text, 'UTF8') FROM ({SEEN}) AS answers(a, b)"
        rows = connection.execute(text.encode()).fetchall()
    seen = SeenCatalog(shared, tuple((bytes(name), bytes(row)) for name, row in rows), shared.count)
    own = await catalogs.view(seen)
    paths = frozenset({shared.catalog.path})
    assert own.catalog.path == shared.catalog.path
    assert [r.name for r in own.read(b"select id from mine", paths).action.resources] == ["pg_temp.mine"]
    assert shared.read(b"select id from mine", paths).action.access.name == "UNKNOWN"
    assert not own.outdated
    shared.changed()
    assert own.outdated
    with pytest.raises(ProtocolError):
        await catalogs.view(replace(seen, rows=seen.rows[1:]))
