"""Catalogs: shared while they are fresh, and never gone by for long."""

import asyncio
import time
from dataclasses import replace

import pytest

from bastion.model.target import Target
from bastion.protocols.postgres.catalogs import Catalogs
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
