"""One snapshot of a database's catalog, as far as the meaning of SQL text depends on it. Immutable and pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bastion.protocols.postgres.sql.reading import SearchPath

FIRST_NORMAL_OID: Final = 16384
"""From here on, objects were made by somebody; below, by the making of the cluster."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view, sequence or anything else that can stand in FROM."""

    oid: int
    schema: str
    """`pg_temp` for the temporary schema of whatever session."""
    name: str
    kind: str
    """As `pg_class.relkind`."""
    columns: Mapping[str, int]
    """Type OIDs by column name, in order."""
    row_type: int = 0
    row_security: bool = False
    system: bool = False
    """Whether it belongs to `pg_catalog` or `information_schema` since the cluster was made."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    """Column numbers, as `pg_attribute.attnum`, by column name."""
    generated: frozenset[str] = frozenset()
    """Columns that are computed from others."""

    @property
    def full_name(self) -> str:
        """Schema and name."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function, procedure, aggregate or window function."""

    oid: int
    schema: str
    name: str
    args: tuple[int, ...]
    defaults: int
    variadic: bool
    kind: str
    """As `pg_proc.prokind`."""
    volatility: str
    """As `pg_proc.provolatile`."""
    definer: bool
    language: str
    returns: int
    vouched: bool
    """Whether it is a built-in one that is known to be harmless."""
    builtin: bool

    @property
    def full_name(self) -> str:
        """Schema and name."""
        return f"{self.schema}.{self.name}"

    def takes(self, count: int) -> bool:
        """Tell whether it can be called with `count` arguments."""
        most = len(self.args)
        least = most - self.defaults - (1 if self.variadic else 0)
        return least <= count and (count <= most or self.variadic)


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator, and the function that carries it out."""

    schema: str
    name: str
    left: int
    right: int
    function: int


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast that calls a function."""

    source: int
    target: int
    function: int
    context: str
    """As `pg_cast.castcontext`: implicit, assignment or explicit."""


@dataclass(frozen=True, slots=True)
class Type:
    """A data type."""

    oid: int
    schema: str
    name: str
    kind: str
    """As `pg_type.typtype`."""
    base: int
    element: int
    relation: int
    category: str
    preferred: bool
    subtype: int
    trusted: bool
    """Whether its input and output functions are compiled code, which only a superuser can bring in."""
    checks: tuple[str, ...] = ()

    @property
    def builtin(self) -> bool:
        """Whether it came with the cluster."""
        return self.oid < FIRST_NORMAL_OID


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger that a write may fire."""

    name: str
    function: int
    events: frozenset[str]
    """Of `insert`, `update`, `delete`, `truncate`."""
    definition: str
    """Its text, where it has a condition."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that carries a change of the referenced table on to the referencing one."""

    relation: int
    """The referencing one."""
    deletes: str
    """As `pg_constraint.confdeltype`."""
    updates: str
    key: frozenset[str] = frozenset()
    """The referenced columns."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that is looked up while a text is read."""

    role: str
    database: str
    version: int
    """As `server_version_num`."""
    privileged: bool
    """Whether the role is a superuser or may read all settings."""
    path: SearchPath
    """The search path that a new session has, `"$user"` replaced."""
    schemas: frozenset[str]
    relations: Mapping[tuple[str, str], Relation]
    relations_by_oid: Mapping[int, Relation]
    temporary: Mapping[str, Relation]
    """The temporary relations of the session that the catalog was read for, by name."""
    functions: Mapping[str, tuple[Function, ...]]
    functions_by_oid: Mapping[int, Function]
    operators: Mapping[str, tuple[Operator, ...]]
    casts: tuple[Cast, ...]
    """Those whose function is not vouched for."""
    types: Mapping[tuple[str, str], Type]
    types_by_oid: Mapping[int, Type]
    temporary_types: Mapping[str, Type]
    """The types in its temporary schema, by name."""
    keys: Mapping[int, tuple[frozenset[str], ...]]
    """The columns of each unique key, by relation."""
    views: Mapping[int, str]
    rules: Mapping[int, tuple[tuple[str, str], ...]]
    """Event (as `pg_rewrite.ev_type`) and definition of each rule but a view's own, by relation."""
    triggers: Mapping[int, tuple[Trigger, ...]]
    references: Mapping[int, tuple[Reference, ...]]
    """By referenced relation."""
    read_expressions: Mapping[int, tuple[str, ...]]
    """What a read evaluates without saying so: row security."""
    write_expressions: Mapping[int, tuple[str, ...]]
    """What a write evaluates without saying so: defaults, generated columns, checks, indexes."""
    children: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Partitions and inheriting tables, by parent."""
    parents: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """The same the other way round."""
    temporary_schema: str = ""
    """That schema's own name; empty if the session has made nothing temporary, or the catalog is for any session."""

    def effective(self, path: SearchPath) -> SearchPath:
        """Return where unqualified names other than temporary ones are looked for, in order."""
        return path if "pg_catalog" in path else ("pg_catalog", *path)
