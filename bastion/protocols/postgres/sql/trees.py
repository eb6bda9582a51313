"""Small questions about pieces of the parser's tree."""

from collections.abc import Iterable, Sequence
from typing import Any

from bastion.protocols.postgres.sql.parser import Node

SETTING_NAME = [{"String": {"sval": "name"}}]
"""The fields of a reference to the column of pg_settings that names a setting."""


def push(stack: list[tuple[str, Any]], node: Any) -> None:
    """Put a node, or each node of a list, on the stack of what is yet to be walked."""
    if not node:
        return
    if isinstance(node, list):
        for item in node:
            if item:
                stack.extend(item.items())
    else:
        stack.extend(node.items())


def strings(items: Iterable[Node]) -> list[str]:
    """Return the text of each String node."""
    return [item["String"].get("sval", "") for item in items]


def qualified(items: Sequence[Node]) -> tuple[str, str]:
    """Return schema and name of a possibly qualified name; the schema is empty if there is none."""
    parts = strings(items)
    return (parts[-2] if len(parts) > 1 else "", parts[-1])


def computed(body: Any) -> list[Node]:
    """Return the expressions by which a definition has columns filled, converted or checked."""
    found: list[Node] = []
    pending = [body]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        elif isinstance(item, dict):
            found += [item[key] for key in ("raw_default", "raw_expr") if key in item]
            pending += [value for key, value in item.items() if key not in ("raw_default", "raw_expr")]
    return found


def constant(node: Node) -> str | None:
    """Return the string that a plain literal is, or None. A cast could make another string of it."""
    literal = node.get("A_Const")
    return literal["sval"].get("sval", "") if literal is not None and "sval" in literal else None


def figured(node: Node) -> str:
    """Return the name that a column of a select list gets where none is given; `*` for a star."""
    ((kind, body),) = node.items()
    match kind:
        case "ColumnRef":
            last = body["fields"][-1]
            return "*" if "A_Star" in last else str(last["String"].get("sval", ""))
        case "FuncCall":
            return qualified(body["funcname"])[1]
        case "TypeCast":
            inner = figured(body["arg"])
            return inner if inner != "?column?" else qualified(body["typeName"].get("names", [{"String": {}}]))[1]
        case "A_Indirection":
            named = [step["String"]["sval"] for step in body["indirection"] if "String" in step]
            return named[-1] if named else figured(body["arg"])
        case "CollateClause":
            return figured(body["arg"])
    return "?column?"


def setting_row(body: Node) -> str:
    """Return the name of the setting where a query is about that one row of pg_settings alone, as pg_dump's is."""
    tables = body.get("fromClause", [])
    test = body.get("whereClause", {}).get("A_Expr", {})
    if len(tables) != 1 or tables[0].get("RangeVar", {}).get("relname") != "pg_settings" or not test:
        return ""
    column = test.get("lexpr", {}).get("ColumnRef", {}).get("fields", [])
    if test["kind"] != "AEXPR_OP" or qualified(test["name"]) != ("", "=") or column != SETTING_NAME:
        return ""
    return constant(test["rexpr"]) or ""


def is_plain_combination(body: Node) -> bool:
    """Tell whether a set operation has nothing of its own that its arms would not see."""
    own = {"withClause", "sortClause", "limitOffset", "limitCount", "lockingClause"}
    return body.get("op", "SETOP_NONE") != "SETOP_NONE" and own.isdisjoint(body)
