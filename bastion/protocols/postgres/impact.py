"""What a held change would touch: the planner's estimate, and the count of rows that its WHERE selects.

Everything runs in a read-only transaction with a statement timeout, on a connection of the gateway's own, with the
arguments exactly as the client bound them. Asked only of a plain UPDATE or DELETE that was understood in full: what
could run something that nobody vouched for is not even planned.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
import psycopg
from psycopg import generators, pq

from bastion.model.action import Access, Action
from bastion.protocols.postgres.counting import counting

_LIMITS: Final = "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = '3s'; SET LOCAL lock_timeout = '1s'"
_VERBS: Final = frozenset({"update", "delete"})
_TEXT: Final = 25
"""The OID of type text: what a parameter that is not used is taken for."""
_CHANGED: Final = frozenset({"Outer", "Member"})
"""What EXPLAIN calls the rows that a change is about; until 13 there was one "Member" for each table of a tree."""


async def preview(connection: psycopg.AsyncConnection[Any], action: Action) -> Mapping[str, object]:
    """Return what `action` would touch, or under `unavailable` why that cannot be said. JSON values, no cells."""
    if action.secret:
        return {"unavailable": "the statement carries a secret"}
    if action.access is not Access.WRITE or action.verb not in _VERBS:
        return {"unavailable": "only an UPDATE or DELETE that was understood in full is estimated"}
    if _is_ambiguous(action):
        return {"unavailable": "under the session's search paths, a name in it can mean several relations"}
    found: dict[str, object] = {}
    try:
        await connection.execute(_LIMITS)
        everything = frozenset(range(1, len(action.arguments) + 1))
        plan = await _cell(connection, "EXPLAIN (FORMAT JSON) " + action.text, action, everything)
        found["estimated_rows"] = _estimated(orjson.loads(plan))
        count = counting(action.text)
        if count is not None:
            found["counted_rows"] = int(await _cell(connection, count.text, action, count.parameters))
    except psycopg.Error as error:
        # The message could quote a value; the code cannot.
        found["unavailable"] = f"the target answered with SQLSTATE {error.sqlstate or 'XX000'}"
    return found


def _is_ambiguous(action: Action) -> bool:
    """Tell whether two changed relations have one name in different schemas: this connection might count the other."""
    changed = {r.name for r in action.resources if r.kind == "relation" and r.access is Access.WRITE}
    return len({name.partition(".")[2] for name in changed}) < len(changed)


async def _cell(connection: psycopg.AsyncConnection[Any], text: str, action: Action, used: frozenset[int]) -> bytes:
    """Return the first cell of what `text` yields with the action's arguments as they were bound."""
    count = len(action.arguments)
    types = _numbers(action.facts.get("types"), count)
    formats = _numbers(action.facts.get("formats"), count)
    if action.facts.get("formats") == [1]:  # one format in a Bind message holds for all
        formats = [1] * count
    values: list[bytes | None] = []
    for at, argument in enumerate(action.arguments):
        if at + 1 in used:
            values.append(argument.encode() if isinstance(argument, str) else argument)
        else:
            values.append(None)
            types[at] = types[at] or _TEXT
    connection.pgconn.send_query_params(text.encode(), values, types, formats)
    (result,) = await connection.wait(generators.execute(connection.pgconn))
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise psycopg.errors.error_from_result(result)
    return b"\n".join(result.get_value(row, 0) or b"" for row in range(result.ntuples))


def _numbers(told: object, count: int) -> list[int]:
    """Return a number for each argument, 0 where none was told."""
    numbers = [n for n in told if isinstance(n, int)] if isinstance(told, list) else []
    return (numbers + [0] * count)[:count]


def _estimated(plan: Any) -> int:
    """Return how many rows the planner expects a change to touch: what the node below ModifyTable yields."""
    node = plan[0]["Plan"]
    below = node.get("Plans", [])
    if node.get("Node Type") == "ModifyTable" and below:
        return sum(int(child.get("Plan Rows", 0)) for child in below if child.get("Parent Relationship") in _CHANGED)
    return int(node.get("Plan Rows", 0))
