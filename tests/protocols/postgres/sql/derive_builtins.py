"""Derives the list of harmless built-in functions from the catalogs of real servers, one of each supported version.

    python -m tests.protocols.postgres.sql.derive_builtins

starts them all and writes bastion/protocols/postgres/sql/builtins.txt anew. Read the difference line by line before
you keep it: the rules below go by volatility and name, and a new function may be the first that slips through them.

A function is vouched for when it is immutable or stable, or is on the short list of volatile ones below, and no rule
below excludes it. A function that any version knows is judged; one that none knows is not on the list, and is
therefore not vouched for.

One line a function: OID, name, argument types (OIDs, comma separated), language, and its C symbol where that is not
the name; several symbols (it was renamed between versions) are separated by `|`. OIDs are used again between
versions for functions of other names, so that only all of these together are one function. A server whose function
differs in any of them, because somebody replaced it, does not have the function vouched for. Bodies of functions in
SQL are not compared: they are rewritten between versions, and only a superuser can replace them.
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg

import bastion.protocols.postgres.sql
from tests.kit.postgres import running
from tests.kit.versions import MAJORS, installation_of

LIST = Path(bastion.protocols.postgres.sql.__file__).with_name("builtins.txt")

EXCLUDED: tuple[tuple[str, str], ...] = (
    (r"(query|table|schema|database|cursor)_to_xml.*", "runs query text, or reads tables that are named by text"),
    (r"ts_stat|ts_rewrite", "runs query text (one form of ts_rewrite; the other is not worth a distinction)"),
    (r"pg_input_is_valid|pg_input_error_info", "calls the input function of a type that is named by text"),
    (r"txid_current|pg_current_xact_id", "assigns a transaction id"),
    (r"set_config|current_setting", "sets or shows a setting that is named by an expression; judged by its argument"),
    (r"pg_show_all_(file_)?settings|pg_hba_file_rules|pg_ident_file_mappings|pg_config", "shows configuration"),
    (
        r"pg_stat_get_(activity|backend_activity|wal_senders|wal_receiver|subscription|backend_client_.*)",
        "shows statements, addresses or connection strings of others",
    ),
    (r"pg_stat_get_backend_(subxact|idset)", "shows others' sessions"),
    (r"pg_get_replication_slots|pg_show_replication_origin_status|pg_replication_.*|pg_logical_.*", "replication"),
    (r"pg_(read|ls|stat|file)_(file|dir|binary_file|.*dir|write|sync|rename|unlink).*|pg_current_logfile", "files"),
    (r"lo_.*|lo(read|write)|be_lo_.*", "large objects hold values"),
    (
        r"pg_event_trigger_.*|binary_upgrade_.*|pg_nextoid|pg_.*_advisory_.*",
        "changes state or needs a context of its own",
    ),
    (r"pg_get_(shmem|dsm|backend_memory|aios|multixact|wal_).*|pg_control_.*|pg_buffercache.*", "the server's insides"),
    (
        r"pg_(sleep|notify|cancel|terminate|reload|rotate|switch|promote|create|drop|backup|start|stop|log|wal|import)_.*",
        "acts on the server",
    ),
    (r"pg_get_user_mapping.*|pg_user_mapping.*", "passwords"),
    (r"pg_(clear|restore|set)_.*", "changes state"),
)
"""Patterns of names that are never vouched for, whatever their volatility, each with its reason."""

VOLATILE: tuple[tuple[str, str], ...] = (
    (r"random|random_normal|gen_random_uuid|uuidv[47]|clock_timestamp|timeofday", "draws or reads, changes nothing"),
    (r"currval|lastval|pg_sequence_last_value|pg_get_sequence_data", "reads a sequence"),
    (r"pg_(relation|table|indexes|total_relation|database|tablespace)_size", "reads a size"),
    (r"pg_is_in_recovery|pg_is_wal_replay_paused|pg_current_wal_(lsn|insert_lsn|flush_lsn)", "reads a state"),
    (r"pg_last_(wal_receive_lsn|wal_replay_lsn|xact_replay_timestamp)", "reads a state"),
    (r"pg_notification_queue_usage|pg_lock_status|pg_blocking_pids|pg_safe_snapshot_blocking_pids", "reads a state"),
    (
        r"pg_stat_get_.*|pg_export_snapshot|pg_get_publication_tables|pg_prepared_xact|pg_collation_actual_version",
        "reads a state",
    ),
    (r"pg_advisory_unlock_all", "gives up the session's own locks: what pools of connections do between uses"),
    (r"pg_partition_(tree|ancestors)|pg_get_wait_events|array_(sample|shuffle)", "reads"),
    (r"pg_get_function_.*|pg_timezone_names|pg_column_(size|compression|toast_chunk_id)", "reads"),
)
"""Patterns of names of volatile functions that change nothing, each with its reason."""

UNCALLABLE = {
    "internal": "cannot be called from SQL, or not harmlessly",
    "cstring": "input functions of domains, arrays and rows run checks of a type that is named by its OID",
    "trigger": "is no ordinary function",
    "event_trigger": "is no ordinary function",
    "language_handler": "is no ordinary function",
    "fdw_handler": "is no ordinary function",
    "index_am_handler": "is no ordinary function",
    "table_am_handler": "is no ordinary function",
    "tsm_handler": "is no ordinary function",
    "any (returned)": "is an input function",
}
"""Types that a vouched function neither takes nor, but for cstring, returns."""

QUERY = """
SELECT p.oid::int8, p.proname, p.proargtypes::text, l.lanname, p.prosrc, p.provolatile, p.prorettype::regtype::text,
       ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes::oid[]) t)
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname = 'pg_catalog' AND p.oid < 10000 AND p.prokind <> 'p'
"""
"""OIDs from 10000 are given out when a cluster is made and differ between clusters."""


def _full(patterns: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern, _ in patterns))


def harmless(name: str, volatility: str, returns: str, takes: list[str]) -> bool:
    """Tell whether the rules above vouch for a function."""
    if _full(EXCLUDED).fullmatch(name):
        return False
    if returns != "cstring" and (returns in UNCALLABLE or returns == '"any"'):
        return False
    if any(t in UNCALLABLE for t in takes):
        return False
    return volatility in {"i", "s"} or bool(_full(VOLATILE).fullmatch(name))


def derived(conninfos: Sequence[str]) -> list[str]:
    """Return the lines of the list."""
    found: dict[tuple[int, str, str, str], list[str]] = {}
    for conninfo in conninfos:
        with psycopg.connect(conninfo) as connection:
            for oid, name, args, language, source, volatility, returns, takes in connection.execute(QUERY).fetchall():
                if language not in {"internal", "sql"} or not harmless(name, volatility, returns, takes):
                    continue
                symbol = "" if language == "sql" or source == name else source
                symbols = found.setdefault((oid, name, args.replace(" ", ","), language), [])
                if symbol not in symbols:
                    symbols.append(symbol)
    return ["\t".join((str(k[0]), k[1], k[2], k[3], "|".join(v))).rstrip("\t") for k, v in sorted(found.items())]


def write() -> None:
    """Write the list anew, from a server of each version."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running(installation_of(major))) for major in MAJORS]
        lines = derived([server.dsn() for server in servers])
    LIST.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    write()
