"""Which columns are watched, and what definitions in the catalog make of them."""

from collections.abc import Iterator

import psycopg
import pytest

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.lineage.watching import watch
from tests.kit.postgres import Database, Server, fresh_database
from tests.protocols.postgres.sql.conftest import catalog_of
from tests.protocols.postgres.sql.watching import columns, read, uses, watching

SCHEMA = """
CREATE SCHEMA crm;
CREATE TABLE people (id int PRIMARY KEY, gone int, name text, email text,
                     folded text GENERATED ALWAYS AS (lower(email)) STORED);
ALTER TABLE people DROP COLUMN gone;
CREATE TABLE crm.leads (id int, mail text, mail2 text, note text);
CREATE TABLE events (id int, day date, ip text) PARTITION BY RANGE (day);
CREATE TABLE events_a PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parent (id int, ip text);
CREATE TABLE child (extra text) INHERITS (parent);
CREATE TABLE plain (id int, note text);
CREATE FUNCTION mine(text) RETURNS text LANGUAGE sql AS 'SELECT $1';

CREATE VIEW plainly AS SELECT id, email AS contact, name FROM people;
CREATE VIEW twice AS SELECT p.id, p.contact AS again, q.contact || '' AS changed
    FROM plainly p JOIN plainly q USING (id);
CREATE VIEW picking AS SELECT id FROM people WHERE email LIKE 'a%';
CREATE VIEW calling AS SELECT id, mine(email) AS called, mine(name) AS other FROM people;
CREATE VIEW looping AS WITH RECURSIVE t(a, b) AS (
    SELECT id, email FROM people UNION ALL SELECT a + 1, b FROM t WHERE a < 3) SELECT a, b FROM t;
CREATE VIEW counting AS SELECT count(*) AS n, max(id) FILTER (WHERE email IS NOT NULL) AS newest FROM people;
CREATE MATERIALIZED VIEW kept AS SELECT id, email, mine(name) AS other FROM people;

CREATE TABLE ruled (id int, email text);
CREATE TABLE copies (email text);
CREATE RULE copying AS ON UPDATE TO ruled DO ALSO INSERT INTO copies VALUES (old.email);
CREATE SCHEMA "dotted.name";
CREATE TABLE "dotted.name".ruled (id int, email text);
CREATE RULE copying AS ON DELETE TO "dotted.name".ruled DO ALSO INSERT INTO copies VALUES (old.email);
CREATE TABLE answering (id int);
CREATE RULE answering AS ON INSERT TO answering DO INSTEAD SELECT email FROM people;

CREATE TABLE secured (id int, note text);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secured USING (EXISTS (SELECT FROM people WHERE email = current_user AND mine(name) = 'x'));
CREATE TABLE checked (id int DEFAULT length(mine('a')), note text CHECK (mine(note) <> ''));

CREATE DOMAIN short AS text CHECK (length(VALUE) < 100);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a text, b text);
CREATE FUNCTION paired(pair) RETURNS text LANGUAGE sql AS 'SELECT ($1).a';
CREATE CAST (pair AS text) WITH FUNCTION paired(pair) AS IMPLICIT;
CREATE TABLE pairs (p pair);
CREATE SCHEMA other;
CREATE TABLE other.people (id int, name text, email text, folded text);
CREATE TABLE other.plain (note text, id int);
"""
WATCHED = ("public.people.email", "public.events.ip", "public.ruled.email", "public.pairs.p")


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def made(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with all kinds of definitions, on an older and on a newer server."""
    server: Server = request.getfixturevalue(request.param)
    with fresh_database(server) as database:
        database.execute(SCHEMA)
        yield database


@pytest.fixture(scope="module")
def catalog(made: Database) -> Catalog:
    """Its catalog."""
    return catalog_of(made.dsn("postgres"))


@pytest.fixture(scope="module")
def watcher(catalog: Catalog) -> CatalogAnalyst:
    """Watches some of its columns."""
    return watching(catalog, WATCHED)


def named(catalog: Catalog, *patterns: str) -> tuple[dict[str, set[str]], list[str]]:
    watched, useless = watch(catalog, patterns)
    return {catalog.relations_by_oid[oid].full_name: set(names) for oid, names in watched.items()}, useless


@pytest.mark.parametrize(
    ("patterns", "expected", "useless"),
    [
        (["crm.leads.note"], {"crm.leads": {"note"}}, []),
        (["crm.*.mail*"], {"crm.leads": {"mail", "mail2"}}, []),
        (["public.plainly.contact"], {"public.plainly": {"contact"}}, []),
        (
            ["crm.leads.nobody", "crm.leads", "a.b.c.d", "*"],
            {},
            ["crm.leads.nobody", "crm.leads", "a.b.c.d", "*"],
        ),
        (["public.people.email"], {"public.people": {"email", "folded"}}, []),
        (["public.events.ip"], {"public.events": {"ip"}, "public.events_a": {"ip"}}, []),
        (["public.child.extra"], {"public.child": {"extra"}}, []),
        (["public.events_a.ip"], {"public.events": {"ip"}, "public.events_a": {"ip"}}, ["public.events_a.ip"]),
        (
            ["public.child.i*"],
            {"public.child": {"id", "ip"}, "public.parent": {"id", "ip"}},
            ["public.child.i*"],
        ),
        (["public.*.ip"], {f"public.{t}": {"ip"} for t in ("events", "events_a", "parent", "child")}, []),
        (["*.*.relname"], {}, ["*.*.relname"]),
        (["pg_catalog.pg_class.relname"], {"pg_catalog.pg_class": {"relname"}}, []),
    ],
)
def test_which_columns_a_pattern_names(
    catalog: Catalog, patterns: list[str], expected: dict[str, set[str]], useless: list[str]
) -> None:
    assert named(catalog, *patterns) == (expected, useless)


def test_columns_have_their_numbers(catalog: Catalog) -> None:
    people = catalog.relations["public", "people"]
    assert people.numbers == {"id": 1, "name": 3, "email": 4, "folded": 5}
    assert people.generated == {"folded"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT email, folded FROM people", ["email", "[email folded]"]),
        ("COPY people TO STDOUT", ["", "", "email"]),
        ("INSERT INTO people VALUES (1, 'x') RETURNING *", ["", "", "email", "[email folded]"]),
        ("SELECT ip FROM events_a", ["ip ip"]),
        ("SELECT ip FROM events", ["ip"]),
        ("SELECT * FROM plainly", ["", "email", ""]),
        ("SELECT * FROM twice", ["", "email", "[email]"]),
        ("SELECT * FROM calling", ["", "[email public.mine()]", "[public.mine()]"]),
        ("SELECT * FROM looping", ["", "email"]),
        ("SELECT * FROM kept", ["", "email", ""]),
        ("SELECT p FROM people p", ["[email folded]"]),
        ("SELECT email FROM people p, mine('a')", ["email"]),
    ],
)
def test_what_definitions_show(watcher: CatalogAnalyst, text: str, expected: list[str]) -> None:
    (found,) = read(watcher, text).outputs
    assert columns(found) == expected


def test_a_view_may_be_watched_by_itself(catalog: Catalog) -> None:
    watcher = watching(catalog, ["public.plainly.contact"])
    (found,) = read(watcher, "SELECT contact, name FROM plainly").outputs
    assert columns(found) == ["contact", ""]
    assert read(watcher, "SELECT email FROM people").outputs == ()
    both = watching(catalog, ["public.plainly.contact", "public.people.email"])
    (found,) = read(both, "SELECT contact FROM plainly").outputs
    assert found.columns[0].origins == {("public.plainly", "contact"), ("public.people", "email")}
    assert found.columns[0].bare


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT id FROM picking", {"email": "predicate"}),
        ("SELECT id FROM counting c, plain", {}),
        ("SELECT called FROM calling", {"email": "output untraced", "public.mine": "output"}),
        ("INSERT INTO answering VALUES (1)", {"email": "untraced", "folded": "untraced"}),
        ("UPDATE ruled SET id = 1", {"email": "untraced"}),
        ("UPDATE ruled SET id = 1 RETURNING id", {"email": "untraced"}),
        ("DELETE FROM ruled WHERE id = 1", {}),
        ("SELECT note FROM secured", {}),
        ("INSERT INTO checked (note) VALUES ('a') RETURNING id", {}),
        ("REFRESH MATERIALIZED VIEW kept", {}),
        ("SELECT email::short FROM people", {"email": "output untraced"}),
        ("SELECT email::mood FROM people", {"email": "output predicate"}),
        ("SELECT email::pair FROM people", {"email": "output untraced"}),
        ("SELECT upper(p) FROM pairs", {"p": "output untraced"}),
        ("INSERT INTO events_a SELECT * FROM events", {}),
        ("INSERT INTO plain SELECT id, ip FROM events_a", {"ip": "written"}),
        ("INSERT INTO people (id, name) SELECT id, folded FROM people", {"email": "written", "folded": "written"}),
        ("ALTER TABLE people RENAME COLUMN email TO mail", {"email": "written"}),
        ("ALTER TABLE people RENAME COLUMN name TO called", {}),
        ("ALTER TABLE people RENAME TO persons", {"email": "written", "folded": "written"}),
        ("ALTER TABLE people SET SCHEMA crm", {"email": "written", "folded": "written"}),
        ("SELECT * FROM pg_toast.pg_toast_1", {"*": "untraced"}),
        ("CREATE VIEW z AS SELECT 1; SELECT id FROM plain", {"*": "untraced"}),
    ],
)
def test_how_definitions_use_what_is_watched(watcher: CatalogAnalyst, text: str, expected: dict[str, str]) -> None:
    found = uses(read(watcher, text))
    assert {name: how for name, how in found.items() if name in expected or "." not in name} == expected


def test_rules_are_found_whatever_the_schema_is_called(catalog: Catalog) -> None:
    watched = {catalog.relations["dotted.name", "ruled"].oid: frozenset({"email"})}
    analyst = CatalogAnalyst(catalog, watched=watched)
    assert uses(read(analyst, 'DELETE FROM "dotted.name".ruled WHERE id = 1')) == {"email": "untraced"}
    assert uses(read(analyst, 'UPDATE "dotted.name".ruled SET id = 1')) == {}


def test_a_name_may_mean_several_tables(watcher: CatalogAnalyst) -> None:
    def shown(text: str) -> tuple[list[list[str]], dict[str, str]]:
        reading = watcher.read(text.encode(), frozenset({("public",), ("other",)}))
        return [columns(outputs) for outputs in reading.outputs], uses(reading)

    assert shown("SELECT email, name FROM people")[0] == [["[email]", ""]]
    assert shown("SELECT people.email FROM people, plain")[1] == {"email": "untraced"}
    assert shown("SELECT email FROM public.people")[0] == [["email"]]


def test_what_runs_by_a_name_nobody_knows_may_show_anything(watcher: CatalogAnalyst, catalog: Catalog) -> None:
    assert uses(watcher.compose(read(watcher, "FETCH ALL FROM nobody"), {}, {})) == {"*": "untraced"}
    plain = CatalogAnalyst(catalog)
    assert uses(plain.compose(read(plain, "FETCH ALL FROM nobody"), {}, {})) == {}


NAMES = (
    "SELECT 1, 'a'::text, upper('a'), ARRAY[1], ROW(1), (SELECT 2), (SELECT 3 AS x), EXISTS (SELECT 1)",
    "SELECT current_date, current_user, localtimestamp(2), now(), current_time, session_user, ARRAY(SELECT 1)",
    "SELECT CASE WHEN true THEN 1 END, CASE WHEN true THEN 1 ELSE id END, CASE id WHEN 1 THEN 2 END FROM plain",
    "SELECT coalesce(1, 2), greatest(1), least(2), nullif(1, 2), id::text, id::int::text, (1 + 1)::text FROM plain",
    "SELECT '{}'::jsonb -> 'a', (ARRAY[1])[1], id IS NULL, (id), -id, (id + 1)::numeric(4, 2) FROM plain",
    'SELECT p, p.*, (p).name, count(*) OVER (), id COLLATE "C" FROM (SELECT id::text, name FROM people) p',
    "SELECT extract(year FROM now()), substring('a' FROM 1), trim('a'), position('a' IN 'b')",
    "SELECT (SELECT name FROM people LIMIT 1), (VALUES (1)), (SELECT 1 UNION SELECT 1), 1 IN (1), NOT true",
    "VALUES (1, 2)",
    "SELECT * FROM generate_series(1, 2), json_each('{}') AS j, unnest(ARRAY[1]) WITH ORDINALITY AS u(v)",
    "SELECT * FROM ROWS FROM (generate_series(1, 2), now()) AS r, md5('b'), now() AS n",
    "SELECT * FROM people NATURAL JOIN plainly LEFT JOIN (events JOIN plain USING (id)) USING (id)",
    "SELECT * FROM json_to_record('{}') AS x(a int, b text), LATERAL (SELECT x.a AS c) y, (VALUES (1)) AS v(w)",
    "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM t WHERE a < 2) SELECT * FROM t",
    "WITH t AS (DELETE FROM people RETURNING *) SELECT * FROM t",
    "UPDATE people p SET name = 'x' FROM plain q WHERE p.id = q.id RETURNING *",
    "DELETE FROM people p USING plain q WHERE p.id = q.id RETURNING *",
    "INSERT INTO people (id, name) VALUES (9, 'x') ON CONFLICT DO NOTHING RETURNING *, upper(name)",
)
XML = (
    "SELECT xmlconcat('<a/>'), xmlforest(id), xmlelement(name q), xmlserialize(CONTENT '<a/>' AS text) FROM plain",
    "SELECT * FROM XMLTABLE('/a' PASSING '<a/>' COLUMNS b text, n FOR ORDINALITY) x",
)
"""The embedded server knows no XML."""
NEWER = (
    "MERGE INTO people p USING plain q ON p.id = q.id WHEN MATCHED THEN DELETE RETURNING *",
    "MERGE INTO people p USING plain q ON p.id = q.id WHEN MATCHED THEN DELETE RETURNING old.email, q.id, p.*",
    "UPDATE people SET name = 'x' RETURNING old.email, new.*, id",
    "UPDATE people SET name = 'x' RETURNING WITH (OLD AS o, NEW AS n) o.email, n.name",
    "SELECT json_object('a': id), json_array(1), json_arrayagg(id), json_scalar(1) FROM plain GROUP BY id",
    "SELECT json_serialize('{}'), json_value('{}', '$.a'), json_query('{}', '$'), json_exists('{}', '$')",
    "SELECT * FROM JSON_TABLE('{}', '$' COLUMNS (a int, NESTED '$.x' COLUMNS (b text, NESTED '$.y' COLUMNS (d int),"
    " e int), c FOR ORDINALITY, NESTED '$.z' COLUMNS (f int))) j",
)


@pytest.mark.parametrize("text", [*NAMES, *XML, *NEWER])
def test_columns_have_the_names_that_the_server_gives_them(catalog: Catalog, made: Database, text: str) -> None:
    """Also their number and order: what is covered goes by them."""
    if (text in NEWER and catalog.version < 180000) or (text in XML and catalog.version >= 180000):
        return
    if text.startswith("SELECT"):  # something that is covered, so that there are outputs to compare
        text = text.replace("SELECT ", "SELECT (SELECT email FROM people LIMIT 1) AS covered, ", 1)
    with psycopg.connect(made.dsn("postgres")) as connection:
        names = [column.name for column in connection.execute(text.encode()).description or ()]
        connection.rollback()
    outputs = read(watching(catalog, ["public.people.*", "public.events.ip"]), text).outputs
    if text == "VALUES (1, 2)" or "WITH RECURSIVE" in text:
        assert outputs == ()
    else:
        (found,) = outputs
        assert found.rest is None
        assert [column.name for column in found.columns] == names
