"""The queries that ask for a catalog, the same for PostgreSQL 13 to 18, and the catalog that their rows describe.

Whoever runs them does so under a search path on which nobody else's object can stand in for one of theirs, and which
makes every definition in the answers spell its names out.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, LiteralString, TypeAlias

from bastion.protocols.postgres.sql import builtins
from bastion.protocols.postgres.sql.catalog import (
    FIRST_NORMAL_OID,
    Cast,
    Catalog,
    Function,
    Operator,
    Reference,
    Relation,
    Trigger,
    Type,
)
from bastion.protocols.postgres.sql.reading import SearchPath

Rows: TypeAlias = Mapping[str, Sequence[Sequence[Any]]]
"""The rows of each query, by its name in `QUERIES`."""

SESSION: Final = """
SELECT current_user::text, current_database()::text, current_setting('server_version_num')::int,
       r.rolsuper OR pg_catalog.pg_has_role(r.oid, 'pg_read_all_settings', 'USAGE'),
       current_setting('search_path')
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""

QUERIES: Final[Mapping[str, LiteralString]] = {
    "schemas": "SELECT nspname FROM pg_catalog.pg_namespace",
    "relations": """
        SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.reltype::int8, c.relrowsecurity,
               coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}'),
               coalesce((SELECT array_agg(a.atttypid::int8 ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}'),
               coalesce((SELECT array_agg(a.attnum::int4 ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}'),
               (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S', 'c') AND n.nspname <> 'pg_toast'
    """,
    "functions": """
        SELECT p.oid::int8, n.nspname, p.proname, p.proargtypes::text, p.pronargdefaults, p.provariadic <> 0,
               p.prokind::text, p.provolatile::text, p.prosecdef, l.lanname, p.prorettype::int8,
               CASE WHEN l.lanname IN ('internal', 'c') THEN p.prosrc ELSE '' END,
               CASE WHEN l.lanname = 'c' THEN coalesce(p.probin, '') ELSE '' END
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    """,
    "operators": """
        SELECT n.nspname, o.oprname, o.oprleft::int8, o.oprright::int8, o.oprcode::oid::int8
        FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
    """,
    "casts": """
        SELECT castsource::int8, casttarget::int8, castfunc::int8, castcontext::text
        FROM pg_catalog.pg_cast WHERE castfunc <> 0
    """,
    "types": """
        SELECT t.oid::int8, n.nspname, t.typname, t.typtype::text, t.typbasetype::int8,
               CASE WHEN t.typcategory = 'A' THEN t.typelem::int8 ELSE 0 END, t.typrelid::int8, t.typcategory::text,
               t.typispreferred, coalesce(r.rngsubtype::int8, 0),
               NOT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
                           WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, r.rngcanonical)
                           AND l.lanname NOT IN ('internal', 'c'))
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
    """,
    "checks": """
        SELECT contypid::int8, pg_catalog.pg_get_expr(conbin, 0) FROM pg_catalog.pg_constraint
        WHERE contype = 'c' AND contypid >= 16384
        UNION ALL
        SELECT oid::int8, pg_catalog.pg_get_expr(typdefaultbin, 0) FROM pg_catalog.pg_type
        WHERE typdefaultbin IS NOT NULL AND oid >= 16384
    """,
    "keys": """
        SELECT i.indrelid::int8,
               (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
        FROM pg_catalog.pg_index i
        WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND i.indrelid >= 16384
    """,
    "views": """
        SELECT c.oid::int8, pg_catalog.pg_get_viewdef(c.oid)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    """,
    "rules": """
        SELECT ev_class::int8, ev_type::text, pg_catalog.pg_get_ruledef(oid) FROM pg_catalog.pg_rewrite
        WHERE rulename <> '_RETURN' AND ev_enabled <> 'D' AND oid >= 16384
    """,
    "triggers": """
        SELECT tgrelid::int8, tgname, tgfoid::int8, tgtype::int4,
               CASE WHEN tgqual IS NOT NULL THEN pg_catalog.pg_get_triggerdef(oid) ELSE '' END
        FROM pg_catalog.pg_trigger
        WHERE NOT tgisinternal AND tgenabled <> 'D'
    """,
    "references": """
        SELECT c.confrelid::int8, c.conrelid::int8, c.confdeltype::text, c.confupdtype::text,
               (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey))
        FROM pg_catalog.pg_constraint c
        WHERE c.contype = 'f' AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
    """,
    "policies": """
        SELECT polrelid::int8, pg_catalog.pg_get_expr(polqual, polrelid), pg_catalog.pg_get_expr(polwithcheck, polrelid)
        FROM pg_catalog.pg_policy
    """,
    "defaults": """
        SELECT adrelid::int8, pg_catalog.pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef
    """,
    "virtual": """
        SELECT d.adrelid::int8, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
        FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE a.attgenerated = 'v'
    """,
    "constraints": """
        SELECT conrelid::int8, pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint
        WHERE contype = 'c' AND conrelid <> 0
    """,
    "indexes": """
        SELECT indrelid::int8, pg_catalog.pg_get_expr(indexprs, indrelid), pg_catalog.pg_get_expr(indpred, indrelid)
        FROM pg_catalog.pg_index WHERE indrelid >= 16384 AND (indexprs IS NOT NULL OR indpred IS NOT NULL)
    """,
    "partitioning": """
        SELECT partrelid::int8, pg_catalog.pg_get_expr(partexprs, partrelid) FROM pg_catalog.pg_partitioned_table
    """,
    "children": "SELECT inhparent::int8, inhrelid::int8 FROM pg_catalog.pg_inherits",
}
"""Every query of the catalog, by the name under which `build` takes its rows."""

SETTINGS: Final = """
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
       pg_catalog.set_config('client_min_messages', 'error', true),
       pg_catalog.set_config('lock_timeout', '5s', true),
       pg_catalog.set_config('statement_timeout', '30s', true),
       pg_catalog.set_config('quote_all_identifiers', 'off', true),
       pg_catalog.set_config('jit', 'off', true)
"""
"""Makes what follows independent of a client's settings. Were `pg_temp` not at the end, it would come first."""
_SIGHT: Final = """
    SELECT n.nspname::text, current_setting('transaction_isolation'), CASE WHEN n.oid IS NOT NULL THEN (
        SELECT string_agg(made.line, ' ' ORDER BY made.line) FROM (
            SELECT concat_ws('.', 'c', c.oid, c.xmin, c.ctid) FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 'a', c.oid, a.attnum, a.xmin, a.ctid)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 't', t.oid, t.xmin, t.ctid) FROM pg_catalog.pg_type t WHERE t.typnamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 'p', p.oid, p.xmin, p.ctid) FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 'r', r.oid, r.xmin, r.ctid)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid WHERE c.relnamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 'g', g.oid, g.xmin, g.ctid)
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid WHERE c.relnamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 'd', d.oid, d.xmin, d.ctid)
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_constraint d ON d.contypid = t.oid WHERE t.typnamespace = n.oid
            UNION ALL
            SELECT concat_ws('.', 'o', o.oid, o.xmin, o.ctid) FROM pg_catalog.pg_operator o WHERE o.oprnamespace = n.oid
        ) AS made(line)
    ) END
    FROM (SELECT pg_my_temp_schema()) AS mine(oid) LEFT JOIN pg_catalog.pg_namespace n ON n.oid = mine.oid
"""


def _as_json(name: str, query: str) -> str:
    """Return a query whose every row is `name` and one of `query`'s as JSON, which no setting makes look different."""
    return f"SELECT '{name}', row_to_json(q) FROM ({query}) AS q"  # noqa: S608 -- the texts above, and nobody's names


SIGHT: Final = _as_json("sight", _SIGHT)
"""Asks what temporary objects a session has, and how it would see others."""
SEEN: Final = " UNION ALL ".join(
    [SIGHT, *(_as_json(name, query) for name, query in {"session": SESSION, **QUERIES}.items())]
)
"""Asks for everything at once, and so as of one moment, whatever the transaction."""

_TRIGGER_EVENTS: Final = {1 << 2: "insert", 1 << 3: "delete", 1 << 4: "update", 1 << 5: "truncate"}
"""As `TRIGGER_TYPE_*` of PostgreSQL's `catalog/pg_trigger.h`."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a session sees of its own temporary schema, and through what."""

    schema: str
    """Empty if the session has none, and so has never made a temporary object."""
    isolation: str
    contents: str
    """Stands for all that is in the schema: equal as long as nothing of it has changed."""

    @property
    def is_current(self) -> bool:
        """Whether queries see what others have committed meanwhile, as the looking up of names always does."""
        return self.isolation in {"read committed", "read uncommitted"}


def sight(rows: Rows) -> Sight:
    """Return what the row of `SIGHT` says."""
    schema, isolation, contents = rows["sight"][0]
    return Sight(schema or "", isolation, contents or "")


def decoded(answers: Iterable[tuple[bytes, bytes]]) -> Rows:
    """Return the rows of `SEEN` or `SIGHT`, which came as names and JSON. Raises `ValueError`."""
    texts: dict[str, list[bytes]] = {name: [] for name in ("sight", "session", *QUERIES)}
    for name, text in answers:
        texts[name.decode()].append(text)
    decode = json.JSONDecoder(object_pairs_hook=_values).decode
    return {name: decode(f"[{b','.join(found).decode()}]") for name, found in texts.items()}


def _values(pairs: list[tuple[str, Any]]) -> list[Any]:
    """Return the values of a row; several of its columns may have the same name."""
    return [value for _, value in pairs]


def seen(rows: Rows, path: SearchPath) -> Catalog:
    """Return the catalog that the rows of `SEEN` describe; `path` is the one that a new session has."""
    return replace(build(rows, sight(rows).schema), path=path)


def build(rows: Rows, own: str = "") -> Catalog:
    """Return the catalog that the rows of `SESSION` (under `session`) and of `QUERIES` describe.

    `own` is the temporary schema of the session that it is for. Nobody can name what is in those of others.
    """
    role, database, version, privileged, path = rows["session"][0]
    relations = [_relation(*row) for row in rows["relations"]]
    functions = [_function(*row) for row in rows["functions"]]
    vouched = {f.oid for f in functions if f.vouched}
    checks = _grouped(rows["checks"])
    types = [_type(checks, row) for row in rows["types"]]
    written = ("defaults", "constraints", "indexes", "policies", "partitioning")
    writes = _grouped(pair for name in written for pair in _spread(rows[name]))
    return Catalog(
        role=role,
        database=database,
        version=version,
        privileged=bool(privileged),
        path=path_of(path, role),
        schemas=frozenset(row[0] for row in rows["schemas"]),
        relations={(r.schema, r.name): r for r in relations if r.schema != "pg_temp" and r.kind != "c"},
        relations_by_oid={r.oid: r for r in relations},
        temporary=_named(r for row, r in zip(rows["relations"], relations, strict=True) if own and row[1] == own),
        functions=_by(functions, lambda f: f.name),
        functions_by_oid={f.oid: f for f in functions},
        operators=_by((Operator(*row) for row in rows["operators"]), lambda o: o.name),
        casts=tuple(Cast(*row) for row in rows["casts"] if row[2] not in vouched),
        types={(t.schema, t.name): t for t in types},
        types_by_oid={t.oid: t for t in types},
        temporary_types=_named(t for t in types if own and t.schema == own),
        temporary_schema=own,
        keys=_grouped((row[0], frozenset(row[1])) for row in rows["keys"] if row[1]),
        views={row[0]: row[1] for row in rows["views"]},
        rules=_grouped((row[0], (row[1], row[2])) for row in rows["rules"]),
        triggers=_grouped((row[0], _trigger(*row[1:])) for row in rows["triggers"]),
        references=_grouped((r[0], Reference(r[1], r[2], r[3], frozenset(r[4] or ()))) for r in rows["references"]),
        read_expressions=_grouped([*_spread(rows["policies"]), *rows["virtual"]]),
        write_expressions=writes,
        children=_grouped(rows["children"]),
        parents=_grouped((child, parent) for parent, child in rows["children"]),
    )


def path_of(setting: str, role: str) -> tuple[str, ...]:
    """Return the search path that the setting spells, `"$user"` replaced by `role`; empty if it cannot be read."""
    path: list[str] = []
    rest = setting.strip()
    while rest:
        if rest.startswith('"'):
            end = rest.find('"', 1)
            while end != -1 and rest[end : end + 2] == '""':
                end = rest.find('"', end + 2)
            if end == -1:
                return ()
            name, rest = rest[1:end].replace('""', '"'), rest[end + 1 :].lstrip()
        else:
            word, comma, tail = rest.partition(",")
            name, rest = word.strip().lower(), comma + tail
        if name:
            path.append(role if name == "$user" else name)
        if rest and not rest.startswith(","):
            return ()
        rest = rest[1:].lstrip()
    return tuple(path)


def _relation(
    oid: int, schema: str, name: str, kind: str, row_type: int, secured: bool, columns: list[str], types: list[int],
    numbers: list[int], generated: list[str] | None,
) -> Relation:  # fmt: skip
    system = oid < FIRST_NORMAL_OID and schema in {"pg_catalog", "information_schema"}
    place = "pg_temp" if schema.startswith("pg_temp_") else schema
    typed = dict(zip(columns, types, strict=True))
    numbered = dict(zip(columns, numbers, strict=True))
    return Relation(oid, place, name, kind, typed, row_type, secured, system, numbered, frozenset(generated or ()))


def _function(
    oid: int, schema: str, name: str, args: str, defaults: int, variadic: bool, kind: str, volatility: str,
    definer: bool, language: str, returns: int, symbol: str, library: str,
) -> Function:  # fmt: skip
    builtin = schema == "pg_catalog" and oid < FIRST_NORMAL_OID
    vouched = builtin and not definer and builtins.vouches(oid, name, args, language, symbol if not library else "")
    vouched = vouched or (not definer and builtins.vouches_library(volatility, library, symbol))
    types = tuple(map(int, args.split()))
    return Function(
        oid, schema, name, types, defaults, variadic, kind, volatility, definer, language, returns, vouched, builtin
    )


def _type(checks: Mapping[int, tuple[str, ...]], row: Sequence[Any]) -> Type:
    fields: list[Any] = [*row, checks.get(row[0], ())]
    return Type(*fields)


def _trigger(name: str, function: int, kind: int, definition: str) -> Trigger:
    events = frozenset(event for bit, event in _TRIGGER_EVENTS.items() if kind & bit)
    return Trigger(name, function, events, definition)


def _spread(rows: Iterable[Sequence[Any]]) -> list[tuple[Any, Any]]:
    """Return one pair for each value of a row behind its first."""
    return [(row[0], value) for row in rows for value in row[1:]]


def _grouped(rows: Iterable[Sequence[Any]]) -> dict[Any, tuple[Any, ...]]:
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        if row[1] is not None:
            groups.setdefault(row[0], []).append(row[1])
    return {key: tuple(values) for key, values in groups.items()}


def _named(items: Iterable[Any]) -> dict[str, Any]:
    return {item.name: item for item in items}


def _by(items: Iterable[Any], key: Any) -> dict[str, tuple[Any, ...]]:
    return _grouped((key(item), item) for item in items if key(item) is not None)
