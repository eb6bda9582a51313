"""Reads a catalog over a connection of the gateway's own.

In one read-only transaction of repeatable read with an empty search path, so that the snapshot is of one moment and
every definition in it spells its names out.
"""

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from bastion.protocols.postgres.sql.building import QUERIES, SESSION, build
from bastion.protocols.postgres.sql.catalog import Catalog

_BEGIN: Final = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
_EMPTY_PATH: Final = "SELECT pg_catalog.set_config('search_path', '', true)"


async def load(connection: psycopg.AsyncConnection[Any]) -> Catalog:
    """Return the catalog as `connection`, which must be idle, sees it; leaves it idle. Raises `psycopg.Error`."""
    rows: dict[str, Sequence[Sequence[Any]]] = {}
    async with connection.cursor() as cursor:
        autocommit = connection.autocommit
        if not autocommit:
            await connection.set_autocommit(True)
        await cursor.execute(_BEGIN)
        try:
            rows["session"] = await (await cursor.execute(SESSION)).fetchall()
            await cursor.execute(_EMPTY_PATH)
            for name, query in QUERIES.items():
                rows[name] = await (await cursor.execute(query)).fetchall()
        finally:
            await cursor.execute("ROLLBACK")
            if not autocommit:
                await connection.set_autocommit(False)
    return build(rows)
