"""What every PostgreSQL brings along, and which of it is harmless.

Functions are vouched for by OID and signature, from a list that was derived from real catalogs (`builtins.txt`; its
generator and its rules are in the tests). Operators, casts and aggregates are as harmless as the functions behind
them. Relations are vouched for by name, since the OIDs of system views differ between clusters: what the lists below
don't name is not vouched for.
"""

from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Final

from bastion.model.action import Access


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@cache
def vouched() -> dict[tuple[int, str, str, str], frozenset[str]]:
    """Return the C symbols of each vouched function, by its OID, name, argument types and language."""
    text = (files("bastion.protocols.postgres.sql") / "builtins.txt").read_text()
    found: dict[tuple[int, str, str, str], frozenset[str]] = {}
    for line in text.splitlines():
        oid, name, args, language, symbols = [*line.split("\t"), "", ""][:5]
        found[int(oid), name, args.replace(",", " "), language] = frozenset(s or name for s in symbols.split("|"))
    return found


def vouches(oid: int, name: str, args: str, language: str, symbol: str) -> bool:
    """Tell whether the function that a catalog shows under `oid` is the harmless built-in of that OID."""
    symbols = vouched().get((oid, name, args, language))
    return symbols is not None and (language == "sql" or symbol in symbols)


_LIBRARIES: Final[dict[str, frozenset[str]]] = {
    "pg_trgm": frozenset(),
    "hstore": frozenset({"hstore_populate_record"}),
    "citext": frozenset(),
    "unaccent": frozenset(),
    "fuzzystrmatch": frozenset(),
    "_int": frozenset(),
    "ltree": frozenset(),
    "cube": frozenset(),
    "seg": frozenset(),
    "isn": frozenset(),
    "vector": frozenset(),
}
"""Libraries of well-known extensions that compute and do nothing else, with the symbols of each to which that does not
apply. Their operators have the names of built-in ones: without these, `a % b` would be doubtful beside pg_trgm."""


_CITEXT_CASTS: Final = frozenset({"rtrim1", "booltext", "network_show"})
"""What citext's casts call, functions of the server itself under names of the extension's."""


def vouches_library(volatility: str, library: str, symbol: str) -> bool:
    """Tell whether a function of compiled code, as only superusers bring in, is a harmless one of an extension."""
    if (library, symbol) == ("$libdir/pgcrypto", "pg_random_uuid"):
        return True
    if not library:
        return volatility == "i" and symbol in _CITEXT_CASTS
    excepted = _LIBRARIES.get(library.removeprefix("$libdir/")) if library.startswith("$libdir/") else None
    return excepted is not None and volatility in {"i", "s"} and symbol not in excepted


CHANGING: Final[dict[str, Access]] = {"nextval": Access.WRITE, "setval": Access.WRITE}
"""Built-in functions that are not harmless, but whose effect is known exactly."""

_HARMLESS: Final = _words(
    """
    pg_aggregate pg_am pg_amop pg_amproc pg_attrdef pg_attribute pg_auth_members pg_available_extension_versions
    pg_available_extensions pg_cast pg_class pg_collation pg_constraint pg_conversion pg_cursors pg_database
    pg_db_role_setting pg_default_acl pg_depend pg_description pg_enum pg_event_trigger pg_extension
    pg_foreign_data_wrapper pg_foreign_server pg_foreign_table pg_group pg_index pg_indexes pg_inherits
    pg_init_privs pg_language pg_largeobject_metadata pg_locks pg_matviews pg_namespace pg_opclass pg_operator
    pg_opfamily pg_parameter_acl pg_partitioned_table pg_policies pg_policy pg_prepared_statements
    pg_prepared_xacts pg_proc pg_publication pg_publication_namespace pg_publication_rel pg_publication_tables
    pg_range pg_replication_origin pg_replication_slots pg_rewrite pg_roles pg_rules pg_seclabel pg_seclabels
    pg_sequence pg_sequences pg_settings pg_shdepend pg_shdescription pg_shseclabel pg_stat_activity
    pg_stat_all_indexes pg_stat_all_tables pg_stat_archiver pg_stat_bgwriter pg_stat_checkpointer
    pg_stat_database pg_stat_database_conflicts pg_stat_gssapi pg_stat_io pg_stat_progress_analyze
    pg_stat_progress_basebackup pg_stat_progress_cluster pg_stat_progress_copy pg_stat_progress_create_index
    pg_stat_progress_vacuum pg_stat_recovery_prefetch pg_stat_replication pg_stat_replication_slots pg_stat_slru
    pg_stat_ssl pg_stat_subscription pg_stat_subscription_stats pg_stat_sys_indexes pg_stat_sys_tables
    pg_stat_user_functions pg_stat_user_indexes pg_stat_user_tables pg_stat_wal pg_stat_xact_all_tables
    pg_stat_xact_sys_tables pg_stat_xact_user_functions pg_stat_xact_user_tables pg_statio_all_indexes
    pg_statio_all_sequences pg_statio_all_tables pg_statio_sys_indexes pg_statio_sys_sequences
    pg_statio_sys_tables pg_statio_user_indexes pg_statio_user_sequences pg_statio_user_tables pg_statistic_ext
    pg_subscription pg_subscription_rel pg_tables pg_tablespace pg_timezone_abbrevs pg_timezone_names
    pg_transform pg_trigger pg_ts_config pg_ts_config_map pg_ts_dict pg_ts_parser pg_ts_template pg_type pg_user
    pg_views pg_wait_events
    """
)

_CLOSED: Final = _words(
    """
    pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_statistic pg_statistic_ext_data pg_stats
    pg_stats_ext pg_stats_ext_exprs pg_largeobject pg_hba_file_rules pg_ident_file_mappings pg_file_settings
    pg_config pg_stat_wal_receiver pg_backend_memory_contexts pg_shmem_allocations pg_shmem_allocations_numa
    pg_aios pg_replication_origin_status
    """
)
"""Password hashes, connection strings, values of columns, configuration, memory."""

_CLOSED_COLUMNS: Final[dict[str, frozenset[str]]] = {
    "pg_stat_activity": frozenset({"query"}),
    "pg_subscription": frozenset({"subconninfo"}),
}

SETTING_VALUES: Final = frozenset({"setting", "boot_val", "reset_val", "sourcefile"})
"""Columns of pg_settings that show a privileged role more than everybody's settings: connection strings, commands."""

_CLOSED_SCHEMA_VIEWS: Final = frozenset({"user_mapping_options", "_pg_user_mappings"})


def relation_access(schema: str, name: str, columns: Collection[str], *, privileged: bool) -> Access:
    """Return what reading `columns` of a relation of `pg_catalog` or `information_schema` is."""
    if schema == "information_schema":
        return Access.ADMIN if name in _CLOSED_SCHEMA_VIEWS else Access.READ
    if name in _CLOSED:
        return Access.ADMIN
    if name not in _HARMLESS:
        return Access.UNKNOWN
    closed = _CLOSED_COLUMNS.get(name, frozenset())
    if name == "pg_settings" and privileged:
        closed = SETTING_VALUES
    return Access.READ if closed.isdisjoint(columns) else Access.ADMIN
