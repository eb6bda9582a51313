"""What definitions tell of watched columns, and what they would take from under their names."""

from collections.abc import Iterator

import pytest

from bastion.model.mask import ANY, BECAUSE, USES
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import ChangesCatalog
from tests.kit.postgres import Server, fresh_database
from tests.protocols.postgres.sql.conftest import catalog_of
from tests.protocols.postgres.sql.watching import read, uses, watching

pytestmark = [pytest.mark.live]

_SQL = """
CREATE FUNCTION spy() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_user::text';
CREATE FUNCTION same(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE DOMAIN code AS text;
CREATE TABLE people (id int PRIMARY KEY, name text, email text, ssn text, alias code, doc jsonb,
                     head text GENERATED ALWAYS AS (left(ssn, 3)) STORED);
CREATE TABLE plain (id int PRIMARY KEY, v text);
CREATE TABLE days (who text, at date) PARTITION BY RANGE (at);
CREATE TABLE day1 PARTITION OF days FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE parent (secret text);
CREATE TABLE child (extra text) INHERITS (parent);
CREATE VIEW contacts AS SELECT id, email AS contact FROM people;
CREATE VIEW loose AS SELECT id, ssn FROM people;
CREATE MATERIALIZED VIEW kept AS SELECT contact FROM contacts;
"""
_PEOPLE = ("email", "ssn", "alias", "doc")
"""Any of which a generated column may show."""
_WATCHED = (
    "public.people.email",
    "public.people.ssn",
    "public.people.alias",
    "public.people.doc",
    "public.days.who",
    "public.parent.secret",
)


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def watcher(request: pytest.FixtureRequest) -> Iterator[CatalogAnalyst]:
    """Watches columns of tables that its role may define things for, on an older and on a newer server."""
    server: Server = request.getfixturevalue(request.param)
    with fresh_database(server) as database:
        database.execute(_SQL)
        yield watching(catalog_of(database.dsn("postgres")), _WATCHED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # what is checked, indexed or sorted
        ("ALTER TABLE people ADD CHECK (ssn LIKE '9%')", {"ssn": "predicate"}),
        ("ALTER TABLE people ADD CHECK (id > 0)", {}),
        ("ALTER TABLE people ADD UNIQUE (email), ADD PRIMARY KEY (id)", {"email": "predicate"}),
        ("ALTER TABLE people ADD FOREIGN KEY (email) REFERENCES plain (v)", {"email": "predicate"}),
        ("ALTER TABLE plain ADD FOREIGN KEY (v) REFERENCES people (email)", {"email": "predicate"}),
        ("ALTER TABLE plain ADD COLUMN e text REFERENCES people (email)", {"email": "predicate"}),
        ("ALTER TABLE people ADD EXCLUDE USING btree (ssn WITH =)", {"ssn": "predicate"}),
        ("ALTER TABLE people ADD COLUMN g text GENERATED ALWAYS AS (left(ssn, 1)) STORED", {"ssn": "predicate"}),
        ("ALTER TABLE people ADD COLUMN g int DEFAULT 5", {}),
        ("ALTER TABLE people ALTER ssn TYPE varchar(3)", {"ssn": "predicate"}),
        ("ALTER TABLE people ALTER ssn TYPE int", {"ssn": "predicate"}),
        ("ALTER TABLE people ALTER ssn TYPE varchar", {}),
        ("ALTER TABLE people ALTER ssn TYPE text USING right(ssn, 4)", {"ssn": "predicate"}),
        ("ALTER TABLE people ALTER name TYPE text USING ssn", {"ssn": "written"}),
        ("CREATE INDEX ON people (email)", {}),
        ("CREATE UNIQUE INDEX ON people (email)", {"email": "predicate"}),
        ("CREATE UNIQUE INDEX ON people (name)", {}),
        ("CREATE INDEX ON people ((1 / (length(ssn) - 11)))", {"ssn": "predicate"}),
        ("CREATE INDEX ON people (id) WHERE ssn LIKE '9%'", {"ssn": "predicate"}),
        ("CREATE INDEX ON nobody_knows (id) WHERE ssn LIKE '9%'", {}),
        ("CREATE STATISTICS s ON left(ssn, 1), name FROM people", {"ssn": "predicate"}),
        ("CREATE POLICY p ON people USING (ssn LIKE '9%')", {"ssn": "predicate"}),
        ("CREATE POLICY p ON plain USING (EXISTS (SELECT FROM people WHERE ssn > '5'))", {"ssn": "predicate"}),
        ("CREATE POLICY p ON plain USING (id > 0)", {}),
        ("ALTER DOMAIN code ADD CHECK (VALUE LIKE 'a%')", {"alias": "predicate"}),
        ("ALTER DOMAIN code DROP CONSTRAINT x", {}),
        ("CLUSTER plain USING plain_pkey", {}),
        ("CLUSTER parent", {"secret": "predicate"}),
        ("CLUSTER", {ANY: "predicate"}),
        # what would be shown elsewhere, or no longer be known
        ("ALTER TABLE days DETACH PARTITION day1", {"who": "written"}),
        ("ALTER TABLE child NO INHERIT parent", {"secret": "written"}),
        ("ALTER TABLE parent INHERIT plain", {"secret": "written"}),
        ("ALTER TABLE plain ATTACH PARTITION parent DEFAULT", {"secret": "written"}),
        ("ALTER TABLE people ALTER head DROP EXPRESSION", dict.fromkeys((*_PEOPLE, "head"), "written")),
        ("ALTER TABLE people RENAME email TO note", {"email": "written"}),
        ("ALTER TABLE people RENAME name TO note", {}),
        ("ALTER TABLE parent RENAME TO other", {"secret": "written"}),
        ("ALTER TABLE parent SET SCHEMA pg_temp", {"secret": "written"}),
        ("CREATE OR REPLACE VIEW contacts AS SELECT 1 AS id, ''::text AS contact", {"email": "written"}),
        ("CREATE OR REPLACE VIEW loose AS SELECT 1 AS id, ''::text AS ssn", {}),
        ("CREATE VIEW fresh AS SELECT email FROM people", {"email": "written"}),
        ("ALTER FUNCTION spy() RENAME TO other", {ANY: "untraced"}),
        ("ALTER FUNCTION spy() SET SCHEMA pg_temp", {ANY: "untraced"}),
        ("ALTER SCHEMA other RENAME TO another", {ANY: "untraced"}),
        # what runs, and could read anything
        ("CREATE TABLE t (v text DEFAULT spy())", {ANY: "untraced"}),
        ("CREATE TABLE t (v text CHECK (v = spy()))", {ANY: "untraced"}),
        ("CREATE TABLE t (id int PRIMARY KEY DEFAULT 1, at date DEFAULT now(), v text CHECK (v > 'a'))", {}),
        ("CREATE SCHEMA s CREATE TABLE t (v text DEFAULT spy())", {ANY: "untraced"}),
        ("CREATE DOMAIN d AS text DEFAULT spy()", {ANY: "untraced"}),
        ("ALTER DOMAIN code SET DEFAULT spy()", {ANY: "untraced"}),
        ("ALTER TABLE plain ADD COLUMN w text DEFAULT spy()", {ANY: "untraced"}),
        ("ALTER TABLE plain ALTER v SET DEFAULT spy()", {ANY: "untraced"}),
        ("CREATE INDEX ON plain (same(v))", {ANY: "untraced"}),
        ("CREATE POLICY p ON plain USING (spy() LIKE 'a%')", {ANY: "untraced"}),
        ("CREATE RULE r AS ON INSERT TO plain DO ALSO INSERT INTO log SELECT ssn FROM people", {ANY: "untraced"}),
        ("CREATE RULE r AS ON DELETE TO people DO ALSO INSERT INTO log VALUES (old.ssn)", {ANY: "untraced"}),
        ("CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION spy()", {ANY: "untraced"}),
    ],
)  # fmt: skip
def test_what_a_definition_does_with_what_is_watched(
    watcher: CatalogAnalyst, text: str, expected: dict[str, str]
) -> None:
    found = uses(read(watcher, text))
    assert {name: how for name, how in found.items() if name in expected or "." not in name} == expected


def test_a_definition_for_a_watched_table_is_in_reach_of_its_masks(watcher: CatalogAnalyst) -> None:
    """What is said when it fails can quote values."""
    (resource,) = read(watcher, "CREATE UNIQUE INDEX ON people (name)").action.resources
    assert {"public.people.email", "public.people.ssn"} <= {*resource.facts[USES]}  # type: ignore[misc]
    (resource,) = read(watcher, "CREATE UNIQUE INDEX ON plain (v)").action.resources
    assert USES not in resource.facts


def test_what_a_definition_does_is_explained(watcher: CatalogAnalyst) -> None:
    (resource,) = read(watcher, "ALTER TABLE child NO INHERIT parent").action.resources
    assert "its table would no longer be a part" in str(resource.facts[BECAUSE])


def test_a_schema_that_brings_its_own_views_may_hide_others(watcher: CatalogAnalyst) -> None:
    """It may be the first that names are looked for in, such as that of the role's own name."""
    assert read(watcher, "CREATE SCHEMA s").effects == (ChangesCatalog(adds=True),)
    shadowing = read(watcher, "CREATE SCHEMA s CREATE VIEW contacts AS SELECT ssn AS contact FROM public.people")
    assert shadowing.effects == (ChangesCatalog(names=frozenset({"contacts", "people"})),)
