"""What a function or a cast could tell of the values that it is given, by what the catalog knows of it."""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from bastion.protocols.postgres.sql.catalog import FIRST_NORMAL_OID, Catalog
from bastion.protocols.postgres.sql.lineage import functions
from bastion.protocols.postgres.sql.lineage.values import Value
from bastion.protocols.postgres.sql.names import Names
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.trees import constant, qualified

_COMPILED: Final = frozenset({"c", "internal"})
"""Languages whose functions are compiled code, which only a superuser can bring in."""
_DOCUMENTS: Final = frozenset({114, 3802})
"""The OIDs of json and jsonb."""
_UTF8: Final = re.compile(r"utf-?8", re.IGNORECASE)
_SAFE_FORMAT: Final = re.compile(r"(?:[^%]|%%|%(?:[0-9]{1,3}\$)?-?[0-9]{0,4}[sL])*")
"""A format that no value makes fail: one that is an identifier must not be null, one that is a width must be small."""
_REPEATING: Final = frozenset({"repeat", "lpad", "rpad"})
_SMALL: Final = 10_000
"""How long something may be made without anybody telling from it whether there was something to make it of."""
_LISTS: Final = frozenset({"json_array_length", "jsonb_array_length"})
_BUILDING: Final = frozenset({"json_build_object", "jsonb_build_object"})
_COLLECTING: Final = frozenset({"json_object_agg", "jsonb_object_agg"})
_WIDE: Final = frozenset({"text", "varchar", "json", "jsonb", "bytea"})


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


def is_own(names: Names, operator: list[Node], expected: Collection[str]) -> bool:
    """Tell whether an operator does what PostgreSQL's own of this name does, which is one of these.

    Somebody can give the name to another of PostgreSQL's functions. What functions of somebody's do, nobody knows
    anyway.
    """
    schema, name = qualified(operator)
    others = (found for found in names.operators(schema, name) if found.schema != "pg_catalog")
    return name in expected and all(found.function >= FIRST_NORMAL_OID for found in others)


def told(name: str, body: Node, arguments: list[Value]) -> Iterator[Value]:
    """Yield the arguments of which the rows or the failure of a transparent function may tell.

    What is computed can be made to be a null, a list or a sign of another encoding just where a guess is right.
    """
    given: list[Any] = body.get("args", [])
    for place in functions.CHOOSING.get(name, ()):
        yield from arguments[place : place + 1]
    whole = (
        (name == "convert_to" and not _is(given[1:2], _UTF8))
        or (name in _REPEATING and not _is_small(given[1:2]))
        or (name == "length" and len(arguments) > 1)  # of bytes that have to be valid in an encoding
    )
    if whole:
        yield from arguments
    parts: list[Value] = []
    if name in functions.MAKING_ROWS or name in _LISTS:
        parts = arguments
    elif name in _BUILDING:
        parts = arguments if body.get("func_variadic") else arguments[::2]
    elif name in _COLLECTING:
        parts = arguments[:1]
    elif name == "format" and not _is(given[:1], _SAFE_FORMAT):
        parts = arguments[1:]
    yield from (value for value in parts if not value.bare)


def fits(kind: str, body: Node) -> bool:
    """Tell whether an expression that holds values can hold any, so that nothing is told by its failure."""
    if kind == "XmlSerialize":
        return body.get("xmloption") == "XMLOPTION_CONTENT" and _is_wide(body["typeName"])
    output = body.get("output") or body.get("constructor", {}).get("output") or {}
    return not body.get("unique") and ("typeName" not in output or _is_wide(output["typeName"]))


def _is_wide(type_name: Node) -> bool:
    """Tell whether a type takes a text of any length."""
    schema, name = qualified(type_name["names"])
    return schema in {"", "pg_catalog"} and name in _WIDE and not type_name.keys() & {"typmods", "arrayBounds"}


def _is(given: list[Any], pattern: "re.Pattern[str]") -> bool:
    text = constant(given[0]) if given else None
    return text is not None and pattern.fullmatch(text) is not None


def _is_small(given: list[Any]) -> bool:
    literal = given[0].get("A_Const", {}) if given else {}
    return "ival" in literal and literal["ival"].get("ival", 0) <= _SMALL
