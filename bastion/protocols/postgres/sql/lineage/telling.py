"""What a function or a cast could tell of the values that it is given, by what the catalog knows of it."""

from typing import Any, Final

from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.lineage.values import Value
from bastion.protocols.postgres.sql.parser import Node

_COMPILED: Final = frozenset({"c", "internal"})
"""Languages whose functions are compiled code, which only a superuser can bring in."""
_DOCUMENTS: Final = frozenset({114, 3802})
"""The OIDs of json and jsonb."""


def may_read(catalog: Catalog, function: str) -> bool:
    """Tell whether a function could return what it has read.

    Compiled code does not that is immutable, or that nobody can tell what to read.
    """
    parts = function.split(".")
    names = (".".join(parts[at:]) for at in range(1, len(parts)))
    found = [f for name in names for f in catalog.functions.get(name, ()) if f.full_name == function]
    return not all(f.language in _COMPILED and (f.volatility == "i" or not f.args) for f in found) or not found


def is_document(catalog: Catalog, value: Value) -> bool:
    """Tell whether a value surely is JSON already: that of a column which holds nothing else."""
    found: set[int] = set()
    for place, column in value.origins:
        schema, _, name = place.partition(".")
        relation = catalog.relations.get((schema, name))
        found.add(relation.columns.get(column, 0) if relation is not None else 0)
    return value.bare and bool(found) and found <= _DOCUMENTS


def by_number(body: Node) -> bool:
    """Tell whether all arguments of a call but the first are whole numbers as they stand there."""
    rest: list[Any] = body["args"][1:]
    return bool(rest) and all("ival" in argument.get("A_Const", {}) for argument in rest)
