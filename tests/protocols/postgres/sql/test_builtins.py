"""The list of harmless built-ins, against the catalogs that it came from."""

import re

import psycopg
import pytest

from bastion.model.action import Access
from bastion.protocols.postgres.sql import builtins
from tests.kit.postgres import Fleet, Server
from tests.kit.versions import MAJORS, installation_of
from tests.protocols.postgres.sql.derive_builtins import EXCLUDED, LIST, QUERY, VOLATILE, derived, harmless

NEVER = [
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "cursor_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "database_to_xmlschema",
    "cursor_to_xmlschema",
    "pg_read_file",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_ls_waldir",
    "pg_stat_file",
    "pg_current_logfile",
    "lo_import",
    "lo_export",
    "lo_get",
    "lo_put",
    "lo_open",
    "lo_close",
    "lo_creat",
    "lo_create",
    "lo_unlink",
    "lo_from_bytea",
    "loread",
    "lowrite",
    "set_config",
    "current_setting",
    "nextval",
    "setval",
    "pg_notify",
    "pg_advisory_lock",
    "pg_advisory_xact_lock",
    "pg_try_advisory_lock",
    "pg_advisory_unlock",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_switch_wal",
    "pg_promote",
    "pg_create_restore_point",
    "pg_create_physical_replication_slot",
    "pg_drop_replication_slot",
    "pg_logical_emit_message",
    "pg_replication_origin_create",
    "pg_stat_reset",
    "ts_stat",
    "ts_rewrite",
    "pg_input_is_valid",
    "domain_in",
    "array_in",
    "record_in",
    "txid_current",
    "pg_current_xact_id",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    "pg_stat_get_wal_receiver",
    "pg_show_all_settings",
    "pg_hba_file_rules",
    "pg_event_trigger_dropped_objects",
    "binary_upgrade_create_empty_extension",
    "setseed",
]


EXCEPTIONS = {
    13: {"timezone(25 1266)"},  # was marked volatile until 15, though all that it reads is the time
    14: {"timezone(25 1266)"},
}
"""Functions that are vouched for, though a version's own catalog alone would not have them so."""


@pytest.fixture(scope="module")
def all_versions(fleet: Fleet) -> list[Server]:
    """A server of each supported version, all at once."""
    return [fleet(installation_of(major)) for major in MAJORS]


def test_the_shipped_list_is_what_the_generator_derives(all_versions: list[Server]) -> None:
    assert derived([server.dsn() for server in all_versions]) == LIST.read_text().splitlines()


def test_the_list_holds_at_each_version(every_postgres: Server) -> None:
    """Neither does it lack what a version has and the rules vouch for, nor hold what they would not vouch for there."""
    major = every_postgres.major
    assert set(map(_function, derived([every_postgres.dsn()]))) <= set(map(_function, LIST.read_text().splitlines()))
    wrong = {
        f"{name}({args})"
        for oid, name, args, language, symbol, volatility, returns, takes in every_postgres.execute(QUERY)
        if builtins.vouches(oid, name, args, language, symbol) and not harmless(name, volatility, returns, takes)
    }
    assert wrong == EXCEPTIONS.get(major, set())


def _function(line: str) -> tuple[str, ...]:
    return tuple(line.split("\t")[:4])


@pytest.mark.parametrize("name", NEVER)
def test_what_is_never_vouched_for(name: str) -> None:
    assert name not in {entry[1] for entry in builtins.vouched()}


def test_every_rule_still_rules_something(all_versions: list[Server]) -> None:
    names: set[str] = set()
    for server in all_versions:
        names |= {row[0] for row in server.execute("SELECT proname FROM pg_proc WHERE oid < 16384")}
    for pattern, reason in (*EXCLUDED, *VOLATILE):
        assert reason
        assert any(re.fullmatch(pattern, name) for name in names) or pattern.startswith("pg_get_user_mapping"), pattern


def test_a_vouched_function_takes_no_transaction_id(every_postgres: Server) -> None:
    """Every function without arguments is called, in a transaction that must stay without an id."""
    query = """
        SELECT p.oid::int8, p.proname, p.proargtypes::text, l.lanname, p.prosrc, p.oid::regprocedure::text
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.pronargs = 0
    """
    with psycopg.connect(every_postgres.dsn(), autocommit=True) as connection:
        called = 0
        for *function, signature in connection.execute(query).fetchall():
            if not builtins.vouches(*function):
                continue
            with connection.transaction():
                try:
                    with connection.transaction():
                        connection.execute(f"SELECT pg_catalog.{signature}")
                    called += 1
                except psycopg.Error:
                    continue
        assert called > 40
        assert connection.execute("SELECT txid_current_if_assigned()").fetchone() == (None,)


def test_another_function_under_a_known_oid_is_not_vouched_for() -> None:
    (oid, name, args, language), symbols = next(i for i in builtins.vouched().items() if i[0][3] == "internal")
    symbol = min(symbols)
    assert builtins.vouches(oid, name, args, language, symbol)
    assert not builtins.vouches(oid, name, args, language, "something_else")
    assert not builtins.vouches(oid, name, args, "plpgsql", symbol)
    assert not builtins.vouches(oid, name + "x", args, language, symbol)
    assert not builtins.vouches(oid, name, args + " 25", language, symbol)
    assert not builtins.vouches(999_999, name, args, language, symbol)


@pytest.mark.parametrize(
    ("name", "columns", "access"),
    [
        ("pg_class", ["relname"], Access.READ),
        ("pg_authid", [], Access.ADMIN),
        ("pg_stats", ["most_common_vals"], Access.ADMIN),
        ("pg_stat_activity", ["pid"], Access.READ),
        ("pg_stat_activity", ["pid", "query"], Access.ADMIN),
        ("pg_settings", ["setting"], Access.READ),
        ("pg_new_in_19", [], Access.UNKNOWN),
    ],
)
def test_relations_of_the_catalog(name: str, columns: list[str], access: Access) -> None:
    assert builtins.relation_access("pg_catalog", name, columns, privileged=False) is access


def test_a_privileged_role_shows_more_settings_than_everybody_may_see() -> None:
    assert builtins.relation_access("pg_catalog", "pg_settings", ["setting"], privileged=True) is Access.ADMIN
    assert builtins.relation_access("pg_catalog", "pg_settings", ["name"], privileged=True) is Access.READ


def test_every_relation_of_the_catalog_is_judged(every_postgres: Server) -> None:
    rows = every_postgres.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')"
    )
    unjudged = {
        name for (name,) in rows if builtins.relation_access("pg_catalog", name, [], privileged=False) is Access.UNKNOWN
    }
    assert unjudged == set()
