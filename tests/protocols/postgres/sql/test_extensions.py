"""Well-known extensions beside which ordinary statements stay ordinary, and what of extensions is not vouched for."""

import pytest

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from tests.kit.postgres import Database
from tests.protocols.postgres.sql.conftest import catalog_of
from tests.protocols.postgres.sql.policies import READ, decide

pytestmark = pytest.mark.live

_EXTENSIONS = ("pg_trgm", "hstore", "citext", "pgcrypto", "dblink", "tablefunc", "intarray")


def _decisions(database: Database, texts: list[str]) -> list[str]:
    for name in _EXTENSIONS:
        database.execute(f"create extension {name} schema public")
    database.execute("create table items (id int primary key, at timestamptz, name text, tags int[], email citext)")
    analyst = CatalogAnalyst(catalog_of(database.dsn()))
    read = [analyst.read(text.encode(), frozenset({analyst.catalog.path})) for text in texts]
    return [text for text, one in zip(texts, read, strict=True) if decide(READ, one.action) != "allow"]


def test_ordinary_operators_are_no_less_ordinary_beside_extensions(database: Database) -> None:
    texts = [
        "SELECT id % 2, id - 1, now() - at FROM items",
        "SELECT id FROM items WHERE tags && '{1,2}' AND tags @> ARRAY[1]",
        """SELECT '{"a": 1}'::jsonb @> '{"a": 1}', '{"a": 1}'::jsonb -> 'a', '{"a": 1}'::jsonb ? 'a'""",
        "SELECT gen_random_uuid(), similarity(name, 'x'), name % 'x' FROM items",
        "SELECT id FROM items WHERE email = 'A@EXAMPLE.COM' ORDER BY email",
        "SELECT 'a=>1'::hstore -> 'a', 'A'::citext = 'a'",
    ]
    assert _decisions(database, texts) == []


def test_what_runs_text_fills_rows_or_sets_something_is_not_vouched_for(database: Database) -> None:
    texts = [
        "SELECT dblink_exec('dbname=x', 'DELETE FROM items')",
        "SELECT * FROM crosstab('DELETE FROM items RETURNING 1, 2, 3') AS t(a int, b int)",
        "SELECT populate_record(i, 'id=>1') FROM items i",
        "SELECT i #= 'id=>1'::hstore FROM items i",
        "SELECT set_limit(0.1)",
    ]
    assert _decisions(database, texts) == texts
