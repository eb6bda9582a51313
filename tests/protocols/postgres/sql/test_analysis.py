"""What is understood of a text, and what is remembered of it."""

import string
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.action import Access, Resource
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import (
    ChangesCatalog,
    Closes,
    Deallocates,
    Declares,
    DiscardsAll,
    EndsTransaction,
    Executes,
    Fetches,
    Prepares,
    Reading,
    RollsBack,
    SetsPath,
)


def read(analyst: CatalogAnalyst, text: str, *paths: tuple[str, ...]) -> Reading:
    reading = analyst.read(text.encode(), frozenset(paths or {analyst.catalog.path}))
    assert reading.readable, reading.message
    return reading


def told(analyst: CatalogAnalyst, text: str, *paths: tuple[str, ...]) -> set[tuple[str, str, str]]:
    return {(r.kind, r.name, r.verb) for r in read(analyst, text, *paths).action.resources}


def found(reading: Reading, name: str, verb: str) -> Resource:
    (resource,) = [r for r in reading.action.resources if (r.name, r.verb) == (name, verb)]
    return resource


def test_names_every_relation_that_is_read_and_its_columns(analyst: CatalogAnalyst) -> None:
    reading = read(analyst, "SELECT u.name, sum(amount) FROM orders o JOIN users u ON u.id = o.user_id GROUP BY 1")
    assert found(reading, "public.orders", "select").facts["columns"] == ["user_id", "amount"]
    assert found(reading, "public.users", "select").facts["columns"] == ["id", "name"]
    assert reading.action.access is Access.READ


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("SELECT count(*) FROM users", []),
        ("SELECT * FROM users", ["id", "name", "email", "ssn", "dept", "created"]),
        ("SELECT u FROM users u", ["id", "name", "email", "ssn", "dept", "created"]),
        ("SELECT u::text FROM users u", ["id", "name", "email", "ssn", "dept", "created"]),
        ("SELECT 1 AS u FROM users u ORDER BY u::text", ["id", "name", "email", "ssn", "dept", "created"]),
        ("SELECT id AS email FROM users ORDER BY email", ["id", "email"]),
        ("SELECT b FROM users AS x(a, b)", ["name"]),
        ("SELECT j.ssn FROM (users CROSS JOIN cards) AS j", ["ssn"]),
        ("SELECT 1 FROM users JOIN cards USING (id)", ["id"]),
        ("SELECT (SELECT email) FROM users", ["email"]),
        ("SELECT s.x FROM (SELECT ssn AS x FROM users) s", ["ssn"]),
        ("SELECT 1 FROM users WHERE ssn = '1' GROUP BY dept HAVING max(name) > 'a'", ["name", "ssn", "dept"]),
        ("SELECT email FROM (SELECT id FROM users) s, users", ["id", "email"]),
        ("SELECT public.users.email FROM public.users", ["email"]),
        ("SELECT nobody FROM users", ["nobody"]),
        ("COPY users (id, name) TO STDOUT", ["id", "name"]),
        ("UPDATE users SET name = email WHERE id = 1", ["id", "email"]),
        ("DELETE FROM users WHERE id = 1 RETURNING ssn", ["id", "ssn"]),
        ("INSERT INTO users VALUES (1) RETURNING users.*", ["id", "name", "email", "ssn", "dept", "created"]),
        ("INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET name = users.email", ["email"]),
    ],
)
def test_columns_that_are_read(analyst: CatalogAnalyst, text: str, columns: list[str]) -> None:
    assert found(read(analyst, text), "public.users", "select").facts["columns"] == columns


def test_a_name_means_all_that_any_path_of_the_session_leads_to(analyst: CatalogAnalyst) -> None:
    text = "SELECT id FROM users"
    assert told(analyst, text, ("public",)) == {("relation", "public.users", "select")}
    both = {("relation", "public.users", "select"), ("relation", "scratch.users", "select")}
    assert told(analyst, text, ("public",), ("scratch",)) == both
    assert ("function", "scratch.upper", "call") in told(analyst, "SELECT upper('a')", ("public",), ("scratch",))
    assert told(analyst, "SELECT pg_catalog.upper('a')", ("scratch",)) == {("statement", "", "select")}


def test_a_path_counts_from_the_statement_that_sets_it(analyst: CatalogAnalyst) -> None:
    text = "SELECT upper('a'); SET search_path = scratch; SELECT upper('a')"
    assert ("function", "scratch.upper", "call") in told(analyst, text, ("public",))


def test_a_function_says_what_the_catalog_says_of_it(analyst: CatalogAnalyst) -> None:
    resource = found(read(analyst, "SELECT mail_of(1)"), "public.mail_of", "call")
    assert resource.access is Access.UNKNOWN
    assert resource.facts == {"is": "function", "volatility": "stable", "definer": True, "language": "sql"}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("DELETE FROM orders", "missing"),
        ("DELETE FROM orders WHERE true", "unselective"),
        ("DELETE FROM orders WHERE id = 1", "selective"),
        ("DELETE FROM orders WHERE id = $1 AND status = 'x'", "selective"),
        ("DELETE FROM orders WHERE (id = 1 AND status = 'x') AND note IS NULL", "selective"),
        ("DELETE FROM orders WHERE id = 1 OR status = 'x'", "unselective"),
        ("DELETE FROM orders WHERE id = 1 IS NOT NULL", "unselective"),
        ("DELETE FROM orders WHERE id = $1::int", "selective"),
        ("DELETE FROM orders WHERE id = $1::int[]", "unselective"),
        ("DELETE FROM orders WHERE orders.id = CAST('1' AS bigint)", "selective"),
        ("DELETE FROM orders WHERE id = ANY ($1)", "unselective"),
        ("DELETE FROM orders WHERE id IN ($1, $2)", "selective"),
        ("DELETE FROM orders WHERE id IN ($1, user_id)", "unselective"),
        ("DELETE FROM orders WHERE CURRENT OF c", "unselective"),
        ("DELETE FROM v_orders WHERE id = 1", "unselective"),
        ("DELETE FROM staging WHERE id = 1", "unselective"),
        ("DELETE FROM orders USING users WHERE orders.id = 1", "selective"),
        ("DELETE FROM orders USING users WHERE orders.id = users.id", "unselective"),
        ("UPDATE orders SET id = 1", "missing"),
        ("UPDATE two_keys SET v = '' WHERE b = 1", "unselective"),
        ("UPDATE two_keys SET v = '' WHERE b = 1 AND a = 2", "selective"),
    ],
)
def test_selectivity(analyst: CatalogAnalyst, text: str, where: str) -> None:
    (changed,) = [r for r in read(analyst, text).action.resources if "where" in r.facts and "through" not in r.facts]
    assert changed.facts["where"] == where
    assert changed.facts["selective"] == (where == "selective")


@pytest.mark.parametrize(
    ("text", "verb", "access"),
    [
        ("SELECT 1", "select", Access.READ),
        ("", "nothing", Access.NONE),
        (";;", "nothing", Access.NONE),
        ("SELECT 1; DROP TABLE users", "drop", Access.ADMIN),
        ("SELECT 1; DELETE FROM orders", "delete", Access.WRITE),
        ("BEGIN", "begin", Access.NONE),
        ("BEGIN READ WRITE", "begin", Access.WRITE),
        ("SET default_transaction_read_only = off", "set", Access.WRITE),
        ("COPY orders FROM '/etc/passwd'", "read", Access.ADMIN),
        ("COPY orders TO PROGRAM 'x'", "run", Access.ADMIN),
        ("DO 'x'", "do", Access.UNKNOWN),
        ("CALL p_close_month()", "call", Access.UNKNOWN),
        ("NOTIFY x", "notify", Access.WRITE),
        ("GRANT SELECT ON users TO other_app", "grant", Access.ADMIN),
        ("REVOKE SELECT ON users FROM other_app", "revoke", Access.ADMIN),
        ("VACUUM orders", "vacuum", Access.WRITE),
        ("REFRESH MATERIALIZED VIEW mv", "refresh", Access.WRITE),
        ("UPDATE pg_class SET relname = 'x'", "update", Access.ADMIN),
        ("SELECT nextval('seq1')", "call", Access.WRITE),
        ("SELECT * FROM nowhere", "select", Access.UNKNOWN),
        ("CREATE TABLE t (a int); INSERT INTO t VALUES (1); SELECT * FROM t", "create", Access.ADMIN),
    ],
)
def test_an_action_is_its_worst_effect(analyst: CatalogAnalyst, text: str, verb: str, access: Access) -> None:
    action = read(analyst, text).action
    assert (action.verb, action.access) == (verb, access)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("DROP TABLE users", "public.users"),
        ("DROP TABLE a.b, c.d", "a.b"),
        ("ALTER TABLE orders ADD COLUMN x int", "public.orders"),
        ("DROP FUNCTION purge_orders()", "public.purge_orders"),
        ("CREATE TABLE scratch.t (a int)", "scratch.t"),
        ("CREATE TABLE t (a int)", "public.t"),
        ("CREATE TEMP TABLE t (a int)", "pg_temp.t"),
        ("DROP ROLE other_app", "other_app"),
        ("ALTER TABLE users RENAME TO x", "public.users"),
    ],
)
def test_definitions_name_their_object(analyst: CatalogAnalyst, text: str, name: str) -> None:
    assert name in {r.name for r in read(analyst, text).action.resources}


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("EXECUTE p", [Executes("p")]),
        ("DEALLOCATE p", [Deallocates("p")]),
        ("DEALLOCATE ALL", [Deallocates(None)]),
        ("FETCH 1 FROM c", [Fetches("c")]),
        ("CLOSE c", [Closes("c")]),
        ("CLOSE ALL", [Closes(None)]),
        ("COMMIT", [EndsTransaction()]),
        ("ROLLBACK", [EndsTransaction()]),
        ("ROLLBACK TO a", [RollsBack()]),
        ("SET search_path = a, \"B c\", '$user'", [SetsPath(("a", "B c", "gw_app"))]),
        ("SET LOCAL search_path TO DEFAULT", [SetsPath(("gw_app", "public"))]),
        ("RESET search_path", [SetsPath(("gw_app", "public"))]),
        ("SELECT set_config('search_path', '', false)", [SetsPath(())]),
        ("CREATE TABLE t (a int)", [ChangesCatalog(adds=True)]),
        ("SELECT 1 INTO t", [ChangesCatalog(adds=True)]),
        ("DISCARD ALL", [DiscardsAll(), SetsPath(("gw_app", "public")), ChangesCatalog(adds=True, own=True)]),
        ("SELECT 1", []),
    ],
)
def test_effects_on_the_session(analyst: CatalogAnalyst, text: str, effects: list[object]) -> None:
    assert list(read(analyst, text).effects) == effects


def test_what_is_prepared_is_read_apart(analyst: CatalogAnalyst) -> None:
    (effect,) = read(analyst, "PREPARE p AS DELETE FROM orders").effects
    assert isinstance(effect, Prepares)
    assert effect.reading.action.verb == "delete"
    (effect,) = read(analyst, "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM orders").effects
    assert isinstance(effect, Declares)
    assert effect.holdable
    (effect,) = read(analyst, "DECLARE c CURSOR FOR SELECT id FROM orders").effects
    assert isinstance(effect, Declares)
    assert not effect.holdable


def test_what_runs_by_name_does_what_the_name_stands_for(analyst: CatalogAnalyst) -> None:
    harmless, harmful = read(analyst, "SELECT id FROM orders"), read(analyst, "DELETE FROM orders")
    run = read(analyst, "EXECUTE p")
    assert analyst.compose(run, {}, {}).action.access is Access.UNKNOWN
    assert analyst.compose(run, {"p": harmless}, {}).action.access is Access.READ
    assert analyst.compose(run, {"p": harmful}, {}).action.access is Access.WRITE
    assert analyst.compose(run, {}, {"p": harmless}).action.access is Access.UNKNOWN
    fetch = read(analyst, "FETCH p")
    assert analyst.compose(fetch, {}, {"p": harmless}).action.access is Access.READ
    assert analyst.compose(harmless, {"p": harmful}, {}) is harmless


def test_names_are_followed_within_one_text_and_through_each_other(analyst: CatalogAnalyst) -> None:
    text = read(analyst, "PREPARE p AS DELETE FROM orders; EXECUTE p")
    safe = read(analyst, "SELECT id FROM orders")
    assert analyst.compose(text, {"p": safe}, {}).action.access is Access.WRITE
    through = read(analyst, "EXECUTE q")
    assert analyst.compose(through, {"q": read(analyst, "EXECUTE p"), "p": safe}, {}).action.access is Access.READ
    assert analyst.compose(through, {"q": through}, {}).action.access is Access.UNKNOWN


def test_composition_is_remembered_by_what_it_is_made_of(analyst: CatalogAnalyst) -> None:
    run, one = read(analyst, "EXECUTE p"), read(analyst, "SELECT id FROM orders")
    other = read(analyst, "SELECT note FROM orders")
    first = analyst.compose(run, {"p": one}, {})
    assert analyst.compose(run, {"p": one}, {}) is first
    assert analyst.compose(run, {"p": other}, {}) is not first


def test_a_text_is_read_once(analyst: CatalogAnalyst) -> None:
    paths = frozenset({analyst.catalog.path})
    assert analyst.read(b"SELECT 42", paths) is analyst.read(b"SELECT 42", paths)
    assert analyst.read(b"SELECT 42", paths) is not analyst.read(b"SELECT 42", frozenset({("scratch",)}))


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("SELECT json_value(jsonb '{}', '$.a')", 170000),
        ("SELECT json_exists(jsonb '{}', '$.a')", 170000),
        ("SELECT json_scalar(1)", 170000),
        ("SELECT * FROM json_table(jsonb '[]', '$' COLUMNS (a int PATH '$')) t", 170000),
        ("SELECT json_object('a': 1)", 160000),
        ("SELECT json_array(1, 2)", 160000),
    ],
)
def test_new_syntax_is_a_call_of_any_function_to_an_old_server(analyst: CatalogAnalyst, text: str, since: int) -> None:
    for version in (130000, 150000, 160000, 170000, 180000):
        reader = CatalogAnalyst(replace(analyst.catalog, version=version))
        access = read(reader, text).action.access
        assert access is (Access.READ if version >= since else Access.UNKNOWN), version


def test_extract_is_read_as_the_function_that_the_server_makes_of_it(analyst: CatalogAnalyst) -> None:
    assert read(analyst, "SELECT extract(year FROM now())").action.access is Access.READ
    name = "date_part" if analyst.catalog.version < 140000 else "extract"
    functions = {**analyst.catalog.functions, name: ()}
    without = CatalogAnalyst(replace(analyst.catalog, functions=functions))
    assert read(without, "SELECT extract(year FROM now())").action.access is Access.UNKNOWN


def test_threads_that_read_at_once_read_the_same(analyst: CatalogAnalyst) -> None:
    paths = frozenset({analyst.catalog.path})
    texts = [b"SELECT * FROM v_chain", b"SELECT id FROM with_policy", b"INSERT INTO v_orders VALUES (1)"] * 5
    for _ in range(5):
        fresh = CatalogAnalyst(analyst.catalog)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda text, of=fresh: of.read(text, paths).action, texts))
        assert [a.digest() for a in found] == [analyst.read(t, paths).action.digest() for t in texts]


def test_what_is_remembered_is_bounded(analyst: CatalogAnalyst) -> None:
    small = CatalogAnalyst(analyst.catalog, cache_bytes=20_000)
    paths = frozenset({analyst.catalog.path})
    first = small.read(b"SELECT 0", paths)
    for n in range(1, 100):
        small.read(f"SELECT {n}".encode(), paths)
    assert small.read(b"SELECT 0", paths) is not first


def test_a_parameter_of_a_type_with_checks_runs_them(analyst: CatalogAnalyst) -> None:
    catalog = analyst.catalog
    paths = frozenset({catalog.path})
    tidy = catalog.types["scratch", "tidy"].oid
    assert analyst.read(b"SELECT $1", paths, (25, 0)).action.access is Access.READ
    assert analyst.read(b"SELECT $1", paths, (tidy,)).action.access is Access.UNKNOWN
    assert analyst.read(b"SELECT $1", paths, (999_999,)).action.access is Access.UNKNOWN


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        (b"SELEC 1", "42601"),
        (b"SELECT 1\0", "22021"),
        (b"SELECT '\xff'", "22021"),
        (b"SELECT 1" + b"+1" * 5000, "54001"),
    ],
)
def test_what_cannot_be_read_names_no_resource(analyst: CatalogAnalyst, text: bytes, sqlstate: str) -> None:
    reading = analyst.read(text, frozenset({analyst.catalog.path}))
    assert not reading.readable
    assert reading.sqlstate == sqlstate
    assert reading.action.resources == ()
    assert reading.action.access is Access.UNKNOWN


_WORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "(",
    ")",
    ",",
    ";",
    "1",
    "'x'",
    "$1",
    "*",
    ".",
    "orders",
    "users",
    "id",
    "AS",
    "WITH",
    "t",
    "UNION",
    "DELETE",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "=",
    "AND",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "EXISTS",
    "ARRAY",
    "[",
    "]",
    "::",
    "int",
    "OVER",
    "PREPARE",
    "EXECUTE",
    "DECLARE",
    "CURSOR",
    "FOR",
    "FETCH",
    "EXPLAIN",
    "COPY",
    "TO",
    "STDOUT",
    "CREATE",
    "TABLE",
    "VIEW",
    "DROP",
    "ALTER",
    "GRANT",
    "ON",
    "MERGE",
    "USING",
    "MATCHED",
    "RETURNING",
    "ROW",
    "xmlelement",
    "json_object",
    "NULL",
    "scratch.tidy",
]


@given(st.one_of(st.binary(max_size=120), st.text(string.printable, max_size=120).map(str.encode)))
def test_any_bytes_are_read_or_not_and_never_raise(analyst: CatalogAnalyst, text: bytes) -> None:
    reading = analyst.read(text, frozenset({analyst.catalog.path}))
    assert reading.readable == bool(reading.action.resources)


@given(st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join))
def test_any_words_are_read_or_not_and_never_raise(analyst: CatalogAnalyst, text: str) -> None:
    reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
    assert reading.readable == bool(reading.action.resources)
    analyst.compose(reading, {}, {})


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE orders ALTER amount TYPE text USING purge_orders()::text",
        "ALTER TABLE orders ADD total int DEFAULT purge_orders()",
        "ALTER TABLE orders ADD CHECK (purge_orders() > 0), ALTER note DROP DEFAULT",
    ],
)
def test_what_an_alteration_computes_it_runs(analyst: CatalogAnalyst, text: str) -> None:
    assert ("function", "public.purge_orders", "call") in told(analyst, text)
    assert read(analyst, text).action.access is Access.UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE orders ALTER amount TYPE bigint USING amount::bigint * 2",
        "ALTER TABLE orders ADD made timestamptz DEFAULT now(), ADD number serial, ADD CHECK (amount > 0)",
        "ALTER TABLE orders ALTER note SET DEFAULT 'x', DROP status",
    ],
)
def test_an_alteration_by_what_is_built_in_is_one_and_no_more(analyst: CatalogAnalyst, text: str) -> None:
    assert told(analyst, text) == {("relation", "public.orders", "alter")}
