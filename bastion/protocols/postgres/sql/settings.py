"""Which settings a session may change or show, and which would let text mean something else than was read."""

from typing import Final

from bastion.model.action import Access


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HARMLESS: Final = _words(
    """
    application_name timezone datestyle intervalstyle extra_float_digits bytea_output statement_timeout
    lock_timeout idle_in_transaction_session_timeout idle_session_timeout transaction_timeout
    client_min_messages synchronize_seqscans row_security geqo jit enable_seqscan enable_indexscan
    enable_bitmapscan enable_hashjoin enable_mergejoin enable_nestloop enable_sort enable_hashagg
    enable_material enable_memoize enable_indexonlyscan work_mem max_parallel_workers_per_gather
    random_page_cost seq_page_cost effective_cache_size default_statistics_target from_collapse_limit
    join_collapse_limit plan_cache_mode lc_monetary lc_numeric lc_time xmlbinary xmloption transaction_isolation
    default_transaction_isolation transaction_deferrable default_transaction_deferrable tcp_keepalives_idle
    tcp_keepalives_interval tcp_keepalives_count tcp_user_timeout client_connection_check_interval
    check_function_bodies constraint_exclusion restrict_nonsystem_relation_kind quote_all_identifiers
    """
)
"""Settings that change how results look, how a plan is made, or how long one waits."""

READS_TEXT: Final = _words(
    """
    standard_conforming_strings client_encoding names backslash_quote escape_string_warning
    transform_null_equals role session_authorization session_replication_role array_nulls
    default_text_search_config local_preload_libraries session_preload_libraries dynamic_library_path
    default_tablespace temp_tablespaces allow_system_table_mods createrole_self_grant zero_damaged_pages
    ignore_system_indexes
    """
)
"""Settings that change how text is read, whose rights apply, or what code is loaded."""

_PINNED: Final[dict[str, frozenset[str]]] = {
    "standard_conforming_strings": frozenset({"on", "true", "yes", "1"}),
    "client_encoding": frozenset({"utf8", "utf-8", "unicode"}),
    "names": frozenset({"utf8", "utf-8", "unicode"}),
    "backslash_quote": frozenset({"safe_encoding"}),
    "escape_string_warning": frozenset({"on", "off", "true", "false"}),
    "transform_null_equals": frozenset({"off", "false", "no", "0"}),
    "session_replication_role": frozenset({"origin"}),
    "default_tablespace": frozenset({""}),
}
"""Values of such settings that are what the reading assumes anyway."""

_ACCESS_MODES: Final = frozenset({"transaction_read_only", "default_transaction_read_only"})
_ON: Final = frozenset({"on", "true", "yes", "1"})

_SHOWN_TO_ALL: Final = (
    HARMLESS
    | {"search_path", "server_version", "server_version_num", "server_encoding", "client_encoding", "is_superuser"}
    | {"standard_conforming_strings", "integer_datetimes", "max_identifier_length", "block_size", "in_hot_standby"}
    | {"transaction_read_only", "default_transaction_read_only", "session_authorization", "role", "lc_collate"}
    | {"lc_ctype", "max_connections", "max_index_keys", "ssl", "data_checksums", "wal_level", "autovacuum"}
    | {"track_activities", "vacuum_defer_cleanup_age", "time zone", "transaction isolation level"}
    | {"default_table_access_method", "default_tablespace", "password_encryption", "cluster_name", "server_version"}
)
"""Settings without secrets, whoever looks."""


def set_access(name: str, value: str | None) -> Access:
    """Return what setting `name` to `value` is; None stands for the default."""
    name = name.lower()
    if name in _ACCESS_MODES:
        return Access.READ if value is None or value.lower() in _ON else Access.WRITE
    if name in HARMLESS:
        return Access.READ
    if name in _PINNED and (value is None or value.lower() in _PINNED[name]):
        return Access.READ
    return Access.UNKNOWN if name in READS_TEXT else Access.ADMIN


def is_harmless(name: str) -> bool:
    """Tell whether a setting may be set to anything."""
    return name.lower() in HARMLESS


def shown_access(name: str, *, privileged: bool) -> Access:
    """Return what showing a setting is; a privileged role sees commands and connection strings among them."""
    if not privileged or name.lower() in _SHOWN_TO_ALL:
        return Access.READ
    return Access.ADMIN
