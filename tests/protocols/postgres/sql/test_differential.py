"""The server is the judge: what we call a read assigns no transaction id and changes nothing.

Ours may give up on a statement; it may not be wrong about one.
"""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastion.model.action import Access
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from tests.protocols.postgres.sql.conftest import RAN
from tests.protocols.postgres.sql.test_corpus import MORE

_FUNCTIONS = [
    "evil",
    "purge_orders",
    "evil_imm",
    "abs",
    "initcap",
    "lower",
    "upper",
    "length",
    "count",
    "sum",
    "max",
    "min",
    "now",
    "random",
    "coalesce",
    "nullif",
    "greatest",
    "nextval",
    "setval",
    "currval",
    "lastval",
    "set_config",
    "current_setting",
    "pg_notify",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "txid_current",
    "pg_current_xact_id",
    "txid_current_if_assigned",
    "pg_current_snapshot",
    "lo_creat",
    "lo_create",
    "lo_unlink",
    "lo_get",
    "query_to_xml",
    "table_to_xml",
    "ts_stat",
    "generate_series",
    "unnest",
    "array_agg",
    "string_agg",
    "row_to_json",
    "to_jsonb",
    "jsonb_agg",
    "json_populate_record",
    "jsonb_build_object",
    "format",
    "concat",
    "quote_literal",
    "md5",
    "sha256",
    "pg_typeof",
    "pg_relation_size",
    "pg_get_viewdef",
    "pg_get_functiondef",
    "obj_description",
    "to_regclass",
    "has_table_privilege",
    "scratch.total",
    "scratch.spy",
    "public.touch",
    "touch",
    "mail_of",
    "run_sql",
    "open_cur",
    "pg_export_snapshot",
    "pg_sequence_last_value",
    "pg_input_is_valid",
    "text",
    "varchar",
    "int4",
    "scratch.tidy",
    "scratch.box2",
    "public.pair",
    "level",
]
_TYPES = [
    "int",
    "text",
    "numeric",
    "bool",
    "regclass",
    "regproc",
    "oid",
    "scratch.tidy",
    "scratch.box2",
    "public.pair",
    "public.level",
    "text[]",
    "json",
    "jsonb",
    "xml",
    "date",
    "interval",
    "users",
    "orders",
    "public.guarded",
    "scratch.tidy[]",
    "name",
    "char",
]
_OPERATORS = [
    "+",
    "-",
    "*",
    "/",
    "||",
    "=",
    "<>",
    "<",
    ">",
    "<=",
    ">=",
    "~",
    "!~",
    "~~",
    "LIKE",
    "AND",
    "OR",
    "IS|NOT|DISTINCT|FROM",
    "->",
    "->>",
    "@>",
    "&&",
    "#",
    "OPERATOR(scratch.+)",
]
_COLUMNS = [
    "id",
    "user_id",
    "amount",
    "status",
    "note",
    "o",
    "o.id",
    "o.touch",
    "o.*",
    "u.name",
    "u.email",
    "u",
    "name",
    "(o).touch",
    "(u).email",
    "ctid",
    "l",
]
_LITERALS = [
    "1",
    "0",
    "NULL",
    "true",
    "'x'",
    "'1'",
    "'{}'",
    "'{1,2}'",
    "'(1)'",
    "'(x,1)'",
    "'orders'",
    "'seq1'",
    "'DELETE|FROM|orders'",
    "'low'",
    "-1",
    "1.5",
]
_TABLES = [
    "orders|o",
    "users|u",
    "orders|o,users|u",
    "v_contacts|u",
    "v_orders|o",
    "scratch.v_report|o",
    "scratch.v_dept|u",
    "v_chain|o",
    "levels|o",
    "with_policy|o",
    "mv|o",
    "parted|o",
    "pg_class|o",
    "pg_stat_activity|u",
    "information_schema.tables|u",
    "seq1|o",
    "two_keys|o",
    "staging|o",
    "generate_series(1,3)|o(id)",
    "ROWS|FROM(evil(),now())|o",
    "orders|o|TABLESAMPLE|system(50)",
    "(VALUES(1,2))|o(id,user_id)",
    "orders|o|JOIN|users|u|ON|o.user_id=u.id",
    "orders|o|NATURAL|JOIN|users|u",
    "unnest(ARRAY[1])|o(id)",
]


def _spaced(words: list[str]) -> st.SearchStrategy[str]:
    return st.sampled_from([word.replace("|", " ") for word in words])


def _expressions() -> st.SearchStrategy[str]:
    leaves = st.one_of(_spaced(_COLUMNS), _spaced(_LITERALS), st.sampled_from(["current_user", "current_date"]))

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        calls = st.builds(
            lambda name, args: f"{name}({', '.join(args)})", st.sampled_from(_FUNCTIONS), st.lists(inner, max_size=3)
        )
        return st.one_of(
            calls,
            st.builds("({} {} {})".format, inner, _spaced(_OPERATORS), inner),
            st.builds("({})::{}".format, inner, st.sampled_from(_TYPES)),
            st.builds("CASE WHEN {} IS NULL THEN {} ELSE {} END".format, inner, inner, inner),
            st.builds("CASE {} WHEN {} THEN 1 END".format, inner, inner),
            st.builds("{} IN ({}, {})".format, inner, inner, inner),
            st.builds("{} BETWEEN {} AND {}".format, inner, inner, inner),
            st.builds("(SELECT {} FROM orders x)".format, inner),
            st.builds("EXISTS (SELECT {} FROM {})".format, inner, _spaced(_TABLES)),
            st.builds("ARRAY[{}]".format, inner),
            st.builds("ROW({}, {})".format, inner, inner),
            st.builds("sum({}) OVER (ORDER BY {})".format, inner, inner),
            st.builds("xmlforest({} AS a)".format, inner),
        )

    return st.recursive(leaves, grown, max_leaves=5)


def _statements() -> st.SearchStrategy[str]:
    some, table = _expressions(), _spaced(_TABLES)
    selects = st.one_of(
        st.builds("SELECT {} FROM {}".format, some, table),
        st.builds("SELECT {} FROM {} WHERE {}".format, some, table, some),
        st.builds("SELECT {} FROM {} GROUP BY {} ORDER BY 1".format, some, table, some),
        st.builds("SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}".format, some, some, table, some),
        st.builds("SELECT * FROM {} LIMIT {}".format, table, some),
        st.builds("SELECT id FROM {} FOR UPDATE".format, table),
        st.builds("VALUES ({}), ({})".format, some, some),
        st.builds("TABLE {}".format, st.sampled_from(["orders", "v_orders", "scratch.v_report"])),
        st.builds("WITH t AS (DELETE FROM orders WHERE {} RETURNING {}) SELECT * FROM t".format, some, some),
        st.builds("WITH t AS (SELECT {} AS a FROM {}) SELECT t.a, {} FROM t, orders o".format, some, table, some),
        st.builds("SELECT {} FROM {} UNION SELECT {}".format, some, table, some),
        st.builds("SELECT {} INTO made FROM {}".format, some, table),
    )
    return st.one_of(
        selects,
        st.builds("EXPLAIN {}".format, selects),
        st.builds("EXPLAIN (ANALYZE {}) {}".format, st.sampled_from(["", "false", "'off'", "1"]), selects),
        st.builds("EXPLAIN DELETE FROM orders WHERE {}".format, some),
        st.builds("COPY ({}) TO STDOUT".format, selects),
        st.builds("INSERT INTO staging VALUES (1, {})".format, some),
        st.builds("UPDATE orders SET note = {} WHERE {}".format, some, some),
        st.builds("SHOW {}".format, st.sampled_from(["all", "search_path", "work_mem"])),
        st.builds("SET {} = {}".format, st.sampled_from(["work_mem", "TimeZone", "role"]), _spaced(_LITERALS)),
        st.builds("DECLARE c CURSOR FOR {}; FETCH ALL FROM c".format, selects),
        st.builds("LOCK TABLE orders IN {} MODE".format, st.sampled_from(["ACCESS SHARE", "ROW SHARE", "EXCLUSIVE"])),
    )


_SOURCES = (
    "orders o CROSS JOIN users u",
    "users u JOIN orders o ON o.user_id = u.id",
    "users u JOIN LATERAL (SELECT * FROM orders WHERE user_id = u.id) o ON true",
    "(SELECT *, purge_orders() FROM orders) o, users u",
    "(WITH o AS (SELECT * FROM orders) TABLE o) o NATURAL JOIN users u",
    "orders o TABLESAMPLE system (100), users u",
    "orders o, users u, scratch.v_report r",
    "orders o, v_contacts c JOIN users u USING (id, name)",
    "ROWS FROM (generate_series(1, 2), evil()) AS f(a, b), orders o, users u",
    "orders o, users u, pg_class k",
    "orders o, users u, levels l JOIN levels m USING (l)",
    "orders o, users u, with_policy",
)


def _typed() -> dict[str, st.SearchStrategy[str]]:
    """Return expressions by type, over `o` and `u`, that the server mostly accepts."""
    number, text, truth = (st.deferred(lambda name=name: made[name]) for name in ("number", "text", "truth"))
    made = {
        "number": st.one_of(
            st.sampled_from(["1", "o.id", "o.user_id", "u.id", "NULL::int", "length(u.name)", "o.touch", "(o).touch"]),
            st.sampled_from(["evil()", "purge_orders()", "public.touch(o)", "nextval('seq1')::int", "random()::int"]),
            st.sampled_from(
                ["pg_backend_pid()", "txid_current()::text::int", "lo_creat(-1)::int", "'(1)'::text::point[0]"]
            ),
            st.builds("({} {} {})".format, number, st.sampled_from(["+", "*", "OPERATOR(scratch.+)"]), number),
            st.builds("{}({})".format, st.sampled_from(["abs", "evil_imm", "sign", "-"]), number),
            st.builds("scratch.plus({}, {})".format, number, number),
            st.builds("CASE WHEN {} THEN {} ELSE {} END".format, truth, number, number),
            st.builds("coalesce({}, {})".format, number, number),
            st.builds("length({})".format, text),
            st.builds(
                "(SELECT {}(x.id) FROM orders x WHERE {})".format, st.sampled_from(["max", "scratch.total"]), truth
            ),
            st.builds("(ARRAY[{}, {}])[1]".format, number, number),
        ),
        "text": st.one_of(
            st.sampled_from(
                ["'x'", "o.note", "u.email", "u::text", "o.status", "current_user::text", "'a'::scratch.tidy"]
            ),
            st.sampled_from(["current_setting('role')", "set_config('work_mem', '4MB', true)", "u.name", "abs('x')"]),
            st.builds(
                "{}({})".format, st.sampled_from(["upper", "scratch.upper", "reverse", "md5", "scratch.tidy"]), text
            ),
            st.builds("({} || {})".format, text, text),
            st.builds("({})::text".format, number),
            st.builds("(ROW({})::scratch.box2)::text".format, number),
            st.builds("scratch.conv({})".format, number),
            st.builds("mail_of({})".format, number),
            st.builds("format('%s', {})".format, number),
            st.builds("xmlforest({} AS a)::text".format, number),
        ),
        "truth": st.one_of(
            st.sampled_from(["true", "o.id = 1", "pg_try_advisory_xact_lock(1)", "EXISTS (DELETE FROM orders)"]),
            st.builds("{} = {}".format, number, number),
            st.builds("{} IN ({}, {})".format, number, number, number),
            st.builds("{} LIKE {}".format, text, text),
            st.builds("scratch.chk({})".format, text),
            st.builds("scratch.spy({})".format, text),
            st.builds("({} AND NOT {})".format, truth, truth),
            st.builds("EXISTS (SELECT 1 FROM orders y WHERE y.id = {})".format, number),
            st.builds("'low'::level = {}::text::level".format, st.just("'low'")),
        ),
    }
    return made


def _sound_statements() -> st.SearchStrategy[str]:
    made = _typed()
    number, text, truth = made["number"], made["text"], made["truth"]
    source = st.sampled_from(_SOURCES)
    selects = st.one_of(
        st.builds("SELECT {}, {} FROM {} WHERE {}".format, number, text, source, truth),
        st.builds("SELECT DISTINCT {} FROM {} WHERE {} ORDER BY 1".format, number, source, truth),
        st.builds("SELECT count(*) FILTER (WHERE {}), max({}) FROM {}".format, truth, number, source),
        st.builds("SELECT sum({}) OVER (PARTITION BY {} ORDER BY {}) FROM {}".format, number, text, number, source),
        st.builds("SELECT {} FROM {} GROUP BY 1 HAVING count(*) > 0".format, number, source),
        st.builds("SELECT o.id FROM {} LIMIT (SELECT {} FROM orders o, users u LIMIT 1)".format, source, number),
        st.builds("WITH c AS (SELECT {} AS n FROM {}) SELECT n FROM c UNION SELECT 1".format, number, source),
    )
    return st.one_of(
        selects,
        st.builds("EXPLAIN {}".format, selects),
        st.builds("COPY ({}) TO STDOUT".format, selects),
        st.builds("DECLARE c CURSOR FOR {}; FETCH ALL FROM c".format, selects),
        st.builds("PREPARE p_ AS {}; EXECUTE p_; DEALLOCATE p_".format, selects),
    )


@pytest.fixture
def judge(dsn: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Runs statements as the role whose statements are read, and never keeps what they did."""
    with psycopg.connect(dsn, autocommit=True, options="-c statement_timeout=60 -c lock_timeout=200") as connection:
        yield connection


def _heard(judge: psycopg.Connection[tuple[object, ...]], notices: list[str]) -> Callable[[], None]:
    """Collect what the server remarks from here on; the answer ends that."""

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        notices.append(notice.message_primary or "")

    judge.add_notice_handler(hear)
    return lambda: judge.remove_notice_handler(hear)


def _is_read(analyst: CatalogAnalyst, text: str) -> bool:
    path = frozenset({analyst.catalog.path})
    reading = analyst.compose(analyst.read(text.encode(), path), {}, {})
    return reading.readable and reading.action.access <= Access.READ


def _changed(judge: psycopg.Connection[tuple[object, ...]], text: str) -> bool:
    """Tell whether a function of somebody's ran, the server gives a transaction id, or rows are gone."""
    notices: list[str] = []
    stop = _heard(judge, notices)
    judge.execute("BEGIN")
    try:
        judge.execute(text) if not text.startswith("COPY") else _copied(judge, text)
        row = judge.execute(
            "SELECT pg_catalog.txid_current_if_assigned(), (SELECT count(*) FROM public.orders)"
        ).fetchone()
        return row != (None, 20) or RAN in notices
    except psycopg.Error:
        return RAN in notices  # also a statement that fails may have run something on its way
    finally:
        stop()
        judge.execute("ROLLBACK")


def _copied(judge: psycopg.Connection[tuple[object, ...]], text: str) -> None:
    with judge.cursor() as cursor, cursor.copy(text) as copy:
        for _ in copy:
            pass


@pytest.mark.slow
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=st.one_of(_statements(), _sound_statements(), _sound_statements()))
def test_what_is_called_a_read_changes_nothing(
    analyst: CatalogAnalyst, judge: psycopg.Connection[tuple[object, ...]], text: str
) -> None:
    if _is_read(analyst, text):
        assert not _changed(judge, text), text


def test_the_judge_tells_a_change(judge: psycopg.Connection[tuple[object, ...]]) -> None:
    assert _changed(judge, "SELECT purge_orders()")
    assert not _changed(judge, "SELECT count(*) FROM orders")


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c["sql"][0][:60]) for c in MORE["harmless"] if c["policy"] == "read"]
)
def test_harmless_statements_change_nothing_on_the_server(
    case: dict[str, list[str]], judge: psycopg.Connection[tuple[object, ...]]
) -> None:
    for text in case["sql"]:
        if not text.startswith(("BEGIN", "START", "COMMIT", "SAVEPOINT", "ROLLBACK", "RELEASE", "DISCARD")):
            assert not _changed(judge, text)
