"""Tells whether the WHERE of a change picks rows by key: `missing`, `unselective` or `selective`.

Selective is only a top-level AND of conditions among which each column of one unique key of the changed relation is
compared by `=` with a constant or a parameter, or by IN with at most five of them. Everything cleverer is
unselective: `id = id`, `id = 1 IS NOT NULL`, `= ANY (array)`, OR, subqueries, another relation's column. So is a table
that others inherit from, whose keys do not bind their rows, and a parameter declared as a type that blurs a comparison:
as floating-point numbers, neighbouring keys are equal.
"""

from collections.abc import Iterable
from typing import Final

from bastion.protocols.postgres.sql.catalog import Catalog, Relation
from bastion.protocols.postgres.sql.parser import Node


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MISSING: Final = "missing"
UNSELECTIVE: Final = "unselective"
SELECTIVE: Final = "selective"

_MAX_VALUES: Final = 5
_BUILTIN_SCALARS: Final = _words(
    """
    int2 int4 int8 numeric text varchar bpchar uuid date timestamp timestamptz bool name oid bytea citext
    """
)


def is_exact(type_name: str) -> bool:
    """Tell whether comparing a key with a value of this type picks that key alone."""
    return type_name in _BUILTIN_SCALARS


def where(
    condition: Node | None,
    relations: Iterable[Relation],
    alias: str,
    catalog: Catalog,
    *,
    alone: bool,
    whole: bool,
    exact: bool,
) -> str:
    """Return how selective `condition` is for each of `relations`, the worst of them.

    `alone` tells that no other relation is in reach, so that an unqualified name is the changed relation's column;
    `whole`, that rows of inheriting tables are meant too; `exact`, that no parameter is declared as an inexact type.
    """
    if not condition:
        return MISSING
    pinned = frozenset(_pinned(condition, alias, alone, exact))
    keyed = [_binds(relation, pinned, catalog, whole) for relation in relations]
    return SELECTIVE if keyed and all(keyed) else UNSELECTIVE


def _binds(relation: Relation, pinned: frozenset[str], catalog: Catalog, whole: bool) -> bool:
    if whole and relation.kind == "r" and catalog.children.get(relation.oid):
        return False
    return any(key <= pinned for key in catalog.keys.get(relation.oid, ()))


def worse(new: object, known: object) -> bool:
    """Tell whether `new` leaves more rows open than `known` does; None is no answer at all."""
    order = (None, SELECTIVE, UNSELECTIVE, MISSING)
    return order.index(new) > order.index(known)


def _pinned(condition: Node, alias: str, alone: bool, exact: bool) -> Iterable[str]:
    """Yield each column that the condition binds to a few given values."""
    pending = [condition]
    while pending:
        node = pending.pop()
        ((kind, body),) = node.items()
        if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
            pending += body["args"]
        elif kind == "A_Expr" and _is_equality(body):
            left, right = body.get("lexpr", {}), body.get("rexpr", {})
            if body["kind"] == "AEXPR_IN":
                items = right.get("List", {}).get("items", [])
                if 0 < len(items) <= _MAX_VALUES and all(_is_given(item, exact) for item in items):
                    yield from _column(left, alias, alone)
            elif _is_given(right, exact):
                yield from _column(left, alias, alone)
            elif _is_given(left, exact):
                yield from _column(right, alias, alone)


def _is_equality(body: Node) -> bool:
    names = [item["String"].get("sval") for item in body["name"]]
    return body["kind"] in {"AEXPR_OP", "AEXPR_IN"} and names in (["="], ["pg_catalog", "="])


def _is_given(node: Node, exact: bool) -> bool:
    """Tell whether a node is a constant or a parameter, possibly cast to a plain type."""
    ((kind, body),) = node.items() if node else (("", {}),)
    if kind == "TypeCast":
        type_ = body["typeName"]
        name = type_.get("names", [{"String": {}}])[-1]["String"].get("sval")
        return "arrayBounds" not in type_ and is_exact(name) and _is_given(body["arg"], exact)
    return kind == "A_Const" or (kind == "ParamRef" and exact)


def _column(node: Node, alias: str, alone: bool) -> Iterable[str]:
    fields = node.get("ColumnRef", {}).get("fields", [])
    names = [field.get("String", {}).get("sval", "") for field in fields]
    if len(names) == 1 and alone:
        yield names[0]
    elif len(names) > 1 and names[-2] == alias:
        yield names[-1]
