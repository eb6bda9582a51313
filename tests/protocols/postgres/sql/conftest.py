"""Databases of the corpora on real servers, and analysts that have read their catalogs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.loading import load
from tests.kit.postgres import Server

CORPUS = Path(__file__).parents[3] / "corpus"

_ROLES = """
DO $$ BEGIN
  CREATE ROLE gw_app LOGIN; CREATE ROLE gw_super LOGIN SUPERUSER; CREATE ROLE other_app; GRANT other_app TO gw_app;
EXCEPTION WHEN duplicate_object THEN NULL; END $$
"""
_EXTENSIONS = ("dblink", "pgcrypto", "file_fdw", "postgres_fdw", "adminpack", "tablefunc", "lo", "xml2", "pgrowlocks")
_DATABASE = "sql_corpus"
_OURS = """
SELECT pg_get_functiondef(oid) FROM pg_proc
WHERE prolang = (SELECT oid FROM pg_language WHERE lanname = 'plpgsql')
AND pronamespace IN ('public'::regnamespace, 'scratch'::regnamespace)
"""
RAN = "a function of somebody ran"
"""What every function of the corpora says when it runs, also where what it does is undone afterwards."""


@pytest.fixture(scope="session")
def corpus_database(every_postgres: Server) -> Iterator[Server]:
    """Each server in turn, with the database of the corpora on it."""
    server = every_postgres
    server.execute(_ROLES)
    server.execute(f"CREATE DATABASE {_DATABASE} OWNER gw_app")
    server.execute("ALTER SCHEMA public OWNER TO gw_app; GRANT pg_read_all_stats TO gw_app", database=_DATABASE)
    available = {row[0] for row in server.execute("SELECT name FROM pg_available_extensions")}
    for name in available.intersection(_EXTENSIONS):
        server.execute(f"CREATE EXTENSION {name}", database=_DATABASE)
    with psycopg.connect(server.dsn(_DATABASE, "gw_app"), autocommit=True) as connection:
        connection.execute((CORPUS / "fixture.sql").read_text())
    setup = yaml.safe_load((CORPUS / "sql_attacks.yaml").read_text())["setup"]
    server.execute(setup, database=_DATABASE)
    for (definition,) in server.execute(_OURS, database=_DATABASE):
        server.execute(definition.replace("BEGIN", f"BEGIN RAISE NOTICE '{RAN}';", 1), database=_DATABASE)
    yield server
    server.execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")


def catalog_of(dsn: str) -> Catalog:
    """Return the catalog that a role sees."""

    async def read() -> Catalog:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            return await load(connection)

    return asyncio.run(read())


@pytest.fixture(scope="session")
def dsn(corpus_database: Server) -> str:
    """How the role of the corpora reaches their database."""
    return corpus_database.dsn(_DATABASE, "gw_app")


@pytest.fixture(scope="session")
def analyst(dsn: str) -> CatalogAnalyst:
    """Reads as the role of the corpora."""
    return CatalogAnalyst(catalog_of(dsn))


@pytest.fixture(scope="session")
def super_analyst(corpus_database: Server) -> CatalogAnalyst:
    """Reads as a superuser."""
    return CatalogAnalyst(catalog_of(corpus_database.dsn(_DATABASE, "gw_super")))
