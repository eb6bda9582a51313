"""Secrets in statements are struck out of what is stored and shown."""

import pytest

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst

SECRET = "hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "ALTER ROLE gw_app PASSWORD 'hunter2'",
        "CREATE ROLE x LOGIN PASSWORD 'hunter2' VALID UNTIL 'infinity'",
        "ALTER USER gw_app WITH ENCRYPTED PASSWORD $$hunter2$$",
        "ALTER ROLE gw_app PASSWORD E'hunter2'",
        "ALTER ROLE gw_app PASSWORD U&'hunter2'",
        "/* hunter2 */ ALTER ROLE gw_app PASSWORD 'hunter2' -- hunter2",
        "CREATE USER MAPPING FOR x SERVER s OPTIONS (user 'a', password 'hunter2')",
        "ALTER USER MAPPING FOR x SERVER s OPTIONS (SET password 'hunter2')",
        "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'h', dbname 'hunter2')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2' PUBLICATION p",
        "ALTER SUBSCRIPTION s CONNECTION 'password=hunter2'",
        "ALTER SYSTEM SET primary_conninfo = 'password=hunter2'",
        "SELECT 1; ALTER ROLE gw_app PASSWORD 'hunter2'; SELECT 2",
        "SELECT dblink_connect('password=hunter2')",
        "SELECT crypt('hunter2', gen_salt('bf'))",
        "ALTER ROLE gw_app PASWORD 'hunter2' password",
        "ALTER ROLE gw_app PASSWORD 'hunter2",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''hunter2'''; END $$",
        "PREPARE p AS SELECT crypt('hunter2', 'x')",
        "ALTER ROLE gw_app PASWORD 'hunter2'",
        "CREATE GROUP x PASSWRD 'hunter2'",
        "SELECT dblink_connect('postgresql://u:hunter2@h/d')",
        "SELECT 'postgresql://u:hunter2@h/d'",
        "COPY orders FROM PROGRAM 'curl http://u:hunter2@h'",
        "COPY orders TO PROGRAM 'PGPASSWORD=hunter2 psql'",
        "COPY orders TO '/tmp/secret/hunter2'",
        "IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b OPTIONS (key 'hunter2')",
        "CREATE FOREIGN TABLE f (a int) SERVER s OPTIONS (key 'hunter2')",
        "UPDATE users SET name = 'hunter2' WHERE email = 'token'",
    ],
)
def test_is_struck_out(text: str, analyst: CatalogAnalyst) -> None:
    reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
    action = reading.action
    assert action.secret
    assert action.text == text
    assert SECRET not in action.safe_text
    assert SECRET not in reading.message
    assert not any(SECRET in repr((r.name, r.facts)) for r in action.resources)


def test_what_is_no_secret_stays(analyst: CatalogAnalyst) -> None:
    text = "SELECT 'hello'; ALTER ROLE gw_app PASSWORD 'hunter2'"
    action = analyst.read(text.encode(), frozenset({analyst.catalog.path})).action
    assert action.safe_text == "SELECT 'hello'; ALTER ROLE gw_app PASSWORD '***'"
    assert not analyst.read(b"SELECT 'hello'", frozenset({analyst.catalog.path})).action.secret
