"""What tells of a value without showing it: by failing, by how many rows there are, by what stands for `=`."""

from collections.abc import Iterator

import pytest

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from tests.kit.postgres import Server, fresh_database
from tests.protocols.postgres.sql.conftest import catalog_of
from tests.protocols.postgres.sql.watching import read, uses, watching

pytestmark = [pytest.mark.live]

_SQL = """
CREATE EXTENSION citext;
CREATE TABLE people (id int PRIMARY KEY, name text, nick citext, ssn text, doc jsonb, data json, bin bytea);
CREATE TABLE plain (id int PRIMARY KEY, nick citext);
CREATE FUNCTION ssn_of(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM people WHERE id = $1';
CREATE SCHEMA op;
CREATE OPERATOR op.= (LEFTARG = text, RIGHTARG = text, FUNCTION = textlike);
CREATE OPERATOR op.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = to_date);
"""
_WATCHED = ("public.people.ssn", "public.people.doc", "public.people.data", "public.people.bin")
OUTPUT, TOLD = {"ssn": "output"}, {"ssn": "output predicate"}


@pytest.fixture(scope="module")
def watcher(postgres: Server) -> Iterator[CatalogAnalyst]:
    """Watches columns of text, of JSON and of bytes."""
    with fresh_database(postgres) as database:
        database.execute(_SQL)
        yield watching(catalog_of(database.dsn("postgres")), _WATCHED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # conversions that may fail
        ("SELECT ssn::json FROM people", TOLD),
        ("SELECT (left(ssn, 1) || 'x')::jsonb FROM people", TOLD),
        ("SELECT doc::json, data::jsonb, doc::text FROM people", {"doc": "output", "data": "output"}),
        ("SELECT (doc -> 'a')::json FROM people", {"doc": "output predicate"}),
        ("SELECT convert_to(ssn, 'UTF8'), convert_to(ssn, 'utf-8') FROM people", OUTPUT),
        ("SELECT convert_to(ssn, 'LATIN1') FROM people", TOLD),
        ("SELECT length(ssn), length(bin) FROM people", {"ssn": "output", "bin": "output"}),
        ("SELECT length(bin, 'UTF8') FROM people", {"bin": "output predicate"}),
        ("SELECT j.a FROM people, json_to_record(to_json(ssn)) AS j(a int)", TOLD),
        # sizes that may be too large
        ("SELECT repeat(ssn, 3), lpad(ssn, 20, 'x'), rpad(ssn, 9) FROM people", OUTPUT),
        ("SELECT repeat(ssn, 1073741824) FROM people", TOLD),
        ("SELECT lpad('', 1073741824, ssn) FROM people", TOLD),
        ("SELECT repeat(ssn, id) FROM people", TOLD),
        # nulls where none may be
        ("SELECT json_build_object('a', ssn), jsonb_build_object(ssn, left(ssn, 1)) FROM people", OUTPUT),
        ("SELECT json_build_object('a', 1, left(ssn, 1), 2) FROM people", TOLD),
        ("SELECT json_build_object(VARIADIC ARRAY[left(ssn, 1), '1']) FROM people", TOLD),
        ("SELECT json_object_agg(name, left(ssn, 1)), json_object_agg(ssn, 1) FROM people", OUTPUT),
        ("SELECT jsonb_object_agg(left(ssn, 1), 1) FROM people", TOLD),
        ("SELECT format('<%s> %2$L%%', ssn, left(ssn, 2)) FROM people", OUTPUT),
        ("SELECT format('%I', left(ssn, 1)) FROM people", TOLD),
        ("SELECT format('%*s', length(ssn), 'x') FROM people", TOLD),
        ("SELECT format(name, left(ssn, 1)) FROM people", TOLD),
        # parts that may be none, or fewer
        ("SELECT jsonb_object_keys(doc) FROM people", {"doc": "output"}),
        ("SELECT jsonb_object_keys(jsonb_build_object(ssn, 1, 'x', 2)) FROM people", TOLD),
        ("SELECT k.value FROM people, jsonb_each(jsonb_build_object(ssn, 1)) k", TOLD),
        ("SELECT jsonb_array_length(doc) FROM people", {"doc": "output"}),
        ("SELECT jsonb_array_length(jsonb_build_object(ssn, 1) -> 'x') FROM people", TOLD),
        ("SELECT xmlserialize(CONTENT xmlelement(NAME a, ssn) AS text) FROM people", OUTPUT),
        ("SELECT xmlserialize(CONTENT xmlelement(NAME a, ssn) AS varchar(9)) FROM people", TOLD),
        ("SELECT xmlserialize(DOCUMENT xmlforest(ssn AS a) AS text) FROM people", TOLD),
        # what functions return
        ("SELECT id FROM plain WHERE ssn_of(id) = 'x'", {"public.ssn_of": "predicate"}),
        ("SELECT id FROM plain ORDER BY ssn_of(id)", {"public.ssn_of": "predicate"}),
        ("SELECT ssn_of(1)", {"public.ssn_of": "output"}),
        # compiled code that only computes
        ("SELECT id FROM plain WHERE nick = 'x'", {}),
        # operators by other names than their own
        ("SELECT id FROM people WHERE ssn = '9%'", {"ssn": "equality"}),
        ("SELECT id FROM people WHERE ssn OPERATOR(pg_catalog.=) '9%'", {"ssn": "equality"}),
        ("SELECT id FROM people WHERE ssn OPERATOR(op.=) '9%'", {"ssn": "predicate"}),
        ("SELECT ssn OPERATOR(op.||) 'YYYY' FROM people", TOLD),
    ],
)  # fmt: skip
def test_what_tells_of_a_value_is_a_comparison(watcher: CatalogAnalyst, text: str, expected: dict[str, str]) -> None:
    found = uses(read(watcher, text))
    assert {name: how for name, how in found.items() if name in expected or "." not in name} == expected


def test_an_operator_that_the_search_path_may_mean_is_not_taken_for_another(watcher: CatalogAnalyst) -> None:
    text = b"SELECT id FROM people WHERE ssn = '9%'"
    assert uses(watcher.read(text, frozenset({("op", "pg_catalog", "public")}))) == {"ssn": "predicate"}


@pytest.fixture(scope="module")
def newer(postgres18: Server) -> Iterator[CatalogAnalyst]:
    """The same on a server that has the constructors of SQL/JSON."""
    with fresh_database(postgres18) as database:
        database.execute(_SQL.replace("CREATE EXTENSION citext;", "").replace("citext", "text"))
        yield watching(catalog_of(database.dsn("postgres")), _WATCHED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT JSON_OBJECT('a': ssn), JSON_ARRAY(ssn), JSON_SCALAR(ssn) FROM people", OUTPUT),
        ("SELECT JSON_OBJECT('a': ssn RETURNING jsonb) FROM people", OUTPUT),
        ("SELECT JSON_OBJECT('a': ssn RETURNING varchar(9)) FROM people", TOLD),
        ("SELECT JSON_ARRAYAGG(ssn RETURNING varchar(9)) FROM people", TOLD),
        ("SELECT JSON_OBJECT(ssn: 1, '9': 2 WITH UNIQUE KEYS) FROM people", TOLD),
        ("SELECT JSON_OBJECTAGG(ssn: 1 WITH UNIQUE KEYS) FROM people", TOLD),
        ("SELECT JSON_OBJECT(left(ssn, 1): 1) FROM people", TOLD),
        ("SELECT JSON(ssn) FROM people", TOLD),
    ],
)
def test_what_constructors_of_json_tell(newer: CatalogAnalyst, text: str, expected: dict[str, str]) -> None:
    assert uses(read(newer, text)) == expected
