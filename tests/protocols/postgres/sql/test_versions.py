"""One grammar, that of 18, reads for servers of six versions: where they disagree, it is never to the statement's good.

Each text is read, and run, at each version. What the server turns away does no harm; what it takes and we call a read
has to give what 18 gives, and to run nothing of somebody's, though every name that came into the grammar after 13 is
taken here by a function, a type or a column of somebody's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from bastion.model.action import Access
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from tests.kit.postgres import Database, Server, fresh_database
from tests.kit.versions import MAJORS
from tests.protocols.postgres.sql.conftest import RAN, catalog_of

_TRAP = f"LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '{RAN}'; RETURN NULL; END $$"
SETUP = f"""
CREATE FUNCTION public.json_array(int, int) RETURNS text {_TRAP};
CREATE FUNCTION public.json_arrayagg(int) RETURNS text {_TRAP};
CREATE FUNCTION public."json_scalar"(int) RETURNS text {_TRAP};
CREATE FUNCTION public."json_serialize"(text) RETURNS text {_TRAP};
CREATE FUNCTION public."json_value"(jsonb, text) RETURNS text {_TRAP};
CREATE FUNCTION public."json_query"(jsonb, text) RETURNS text {_TRAP};
CREATE FUNCTION public."json_exists"(jsonb, text) RETURNS text {_TRAP};
CREATE FUNCTION public."json"(text) RETURNS text {_TRAP};
CREATE FUNCTION public."merge_action"() RETURNS text {_TRAP};
CREATE FUNCTION public."system_user"() RETURNS text {_TRAP};
CREATE FUNCTION public.extract(text, date) RETURNS text {_TRAP};
CREATE FUNCTION public.any_value(int) RETURNS text {_TRAP};
CREATE FUNCTION public.guards(text) RETURNS bool {_TRAP};
CREATE DOMAIN public."json" AS text CHECK (public.guards(VALUE));
CREATE TABLE public.one ("system_user" text, old int, x1f int, _000 int);
INSERT INTO public.one VALUES ('cell', 1, 2, 3);
GRANT SELECT ON public.one TO app_rw;
"""
PATH = "public, pg_catalog"
"""The path under which a name of somebody's goes before a built-in one."""


NEVER = 99


@dataclass(frozen=True)
class Probe:
    """A text, what 18 gives for it, and the first version at which it means that and is a read."""

    text: str
    gives: str
    since: int = 13


PROBES = (
    # Numbers: until 15, what came after the digits was a name for the column.
    Probe("SELECT 0x1F", "31", 16),
    Probe("SELECT 1_000", "1000", 16),
    Probe("SELECT 0b101, 0o17", "5 15", 16),
    Probe("SELECT 1_5.2_5", "15.25", 16),
    Probe("SELECT (SELECT 1_000) + 1", "1001", 16),
    Probe("SELECT -0xFF", "-255", 16),
    Probe("SELECT 1AS a", "", NEVER),
    Probe("SELECT 123abc", "", NEVER),
    Probe("SELECT 1.5e", "", NEVER),
    Probe("SELECT '1_000', \"_000\" FROM one", "1_000 3"),
    Probe("SELECT 5 !", "", NEVER),
    Probe("SELECT 1 << 4 - 1", "8"),
    # Words that became keywords.
    Probe("SELECT system_user IS NULL FROM one", "True", 16),
    Probe('SELECT "system_user" FROM one', "cell"),
    Probe("SELECT o.system_user FROM one o", "cell"),
    Probe("SELECT json_array(1, 2)", "[1, 2]", 16),
    Probe("SELECT json_arrayagg(1)", "[1]", 16),
    Probe("SELECT json_object('a' VALUE 1)", "{'a': 1}", 16),
    Probe("SELECT '1' IS JSON", "True", 16),
    Probe("SELECT json_scalar(1)", "1", 17),
    Probe("SELECT json_serialize('1')", "1", 17),
    Probe("SELECT json_value(jsonb '{\"a\": 1}', '$.a')", "1", 17),
    Probe("SELECT json_query(jsonb '{\"a\": 1}', '$.a')", "1", 17),
    Probe("SELECT json_exists(jsonb '{\"a\": 1}', '$.a')", "True", 17),
    Probe("SELECT a FROM json_table(jsonb '[1]', '$[*]' COLUMNS (a int PATH '$')) t", "1", 17),
    Probe("SELECT merge_action()", "", NEVER),
    Probe("SELECT json('1')", "1", 17),
    Probe("SELECT CAST('1' AS json)", "1", 17),
    Probe("SELECT json '1'", "1", 17),
    Probe("SELECT '1'::json", "1", 17),
    Probe("SELECT '{1}'::json[]", "[1]", 17),
    # What became a function of another name, or of another place.
    Probe("SELECT extract(year FROM date '2020-02-03')::int", "2020"),
    Probe("SELECT substring('abc' FROM 2 FOR 1), position('b' IN 'abc'), trim(BOTH 'a' FROM 'aba')", "b 2 b"),
    Probe("SELECT overlay('abc' PLACING 'x' FROM 1 FOR 1)", "xbc"),
    Probe("SELECT overlay('abc', 'x', 1)", "xbc", 14),
    Probe("SELECT substring('abc' SIMILAR 'a#\"b#\"c' ESCAPE '#')", "b", 14),
    Probe("SELECT timestamptz '2020-01-01 00:00+00' AT LOCAL IS NULL", "False", 17),
    Probe("SELECT 'x' IS NORMALIZED, normalize('x')", "True x"),
    # What the grammar learnt.
    Probe("SELECT 1 FROM (SELECT 1)", "1", 16),
    Probe("SELECT (jsonb '{\"a\": 1}')['a']", "1", 14),
    Probe("SELECT count(*) FROM one GROUP BY DISTINCT ROLLUP (old, old)", "1", 14),
    Probe(
        "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 1)"
        " SEARCH DEPTH FIRST BY n SET o SELECT n FROM t",
        "1",
        14,
    ),
    Probe(
        "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 1)"
        " CYCLE n SET is_cycle USING path SELECT n FROM t",
        "1",
        14,
    ),
    Probe("SELECT 1 year", "", NEVER),
    Probe("SELECT 1 AS year", "1"),
    Probe("SELECT x.old FROM one AS x", "1"),
    Probe("SELECT U&'\\0061', E'\\x61', $$a$$", "a a a"),
)
"""Texts on which servers of different versions disagree, and their neighbours on which they do not."""


@pytest.fixture(scope="module")
def trapped(every_postgres: Server) -> Iterator[Database]:
    """A database where somebody has taken the names of later versions."""
    with fresh_database(every_postgres) as database:
        database.execute(SETUP)
        database.execute(f"ALTER DATABASE {database.name} SET search_path = {PATH}")
        yield database


@pytest.fixture(scope="module")
def reader(trapped: Database) -> CatalogAnalyst:
    return CatalogAnalyst(catalog_of(trapped.dsn("app_rw")))


@pytest.mark.live
@pytest.mark.parametrize("probe", [pytest.param(probe, id=probe.text[:50]) for probe in PROBES])
def test_what_an_old_server_takes_for_something_else_is_no_read(
    trapped: Database, reader: CatalogAnalyst, probe: Probe
) -> None:
    major = trapped.server.major
    reading = reader.read(probe.text.encode(), frozenset({reader.catalog.path}))
    is_read = reading.readable and reading.action.access <= Access.READ
    given, ran = _run(trapped, probe.text)
    if is_read:
        assert not ran
        assert given in (None, probe.gives)
    if major >= probe.since:
        assert is_read, reading.action.resources
        assert given == probe.gives
    if probe.since == NEVER:
        assert not is_read


def test_the_traps_are_sprung_by_old_servers(trapped: Database) -> None:
    """The test above tests something: run at the server itself, these texts do run what is somebody's."""
    major = trapped.server.major
    sprung = {probe.text for probe in PROBES if _run(trapped, probe.text)[1]}
    assert ("SELECT json_array(1, 2)" in sprung) == (major < 16)
    assert ("SELECT json_scalar(1)" in sprung) == (major < 17)
    assert ("SELECT '1'::json" in sprung) == (major < 17)
    assert ("SELECT merge_action()" in sprung) == (major < 17)
    assert (_run(trapped, "SELECT 1_000")[0] == "1") == (major < 15)


def test_every_version_is_probed() -> None:
    assert tuple(range(13, 19)) == MAJORS
    assert len(PROBES) >= 40


def _run(database: Database, text: str) -> tuple[str | None, bool]:
    """Return what the server gives for a text, None if it turned it away, and whether something of somebody's ran."""
    notices: list[str] = []
    with psycopg.connect(database.dsn("app_rw"), autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        try:
            row = connection.execute(text).fetchone()
        except psycopg.Error:
            return None, RAN in notices
    return " ".join(map(str, row or ())), RAN in notices
