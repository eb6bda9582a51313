"""Makes the query that counts the rows which a plain UPDATE or DELETE selects. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import postgast
from google.protobuf.message import DecodeError, Message

_LONGEST: Final = 8 * 1024
"""Bytes of a text that is taken apart here, far below what any stack can take."""


@dataclass(frozen=True, slots=True)
class Count:
    """A query, and which of the statement's parameters it still has."""

    text: str
    parameters: frozenset[int]


def counting(text: str) -> Count | None:
    """Return the query that counts what `text` would change; None if that is not a plain UPDATE or DELETE.

    Plain means one statement on one relation: without WITH, without other relations, not at a cursor's place.
    """
    if len(text) > _LONGEST:
        return None
    try:
        parsed = postgast.parse(text)
    except (postgast.PgQueryError, DecodeError):
        return None
    if len(parsed.stmts) != 1:
        return None
    statement = parsed.stmts[0].stmt
    change: Any
    if statement.HasField("delete_stmt"):
        change = statement.delete_stmt
        others = change.using_clause
    elif statement.HasField("update_stmt"):
        change = statement.update_stmt
        others = change.from_clause
    else:
        return None
    condition = change.where_clause
    if others or change.HasField("with_clause") or condition.HasField("current_of_expr"):
        return None
    counted = postgast.parse("SELECT count(*)")
    select = counted.stmts[0].stmt.select_stmt
    select.from_clause.add().range_var.CopyFrom(change.relation)
    if change.HasField("where_clause"):
        select.where_clause.CopyFrom(condition)
    try:
        made = postgast.deparse(counted)
    except postgast.PgQueryError:
        return None
    return Count(made, frozenset(_parameters(select.where_clause)))


def _parameters(node: Message) -> Iterator[int]:
    pending: list[Any] = [node]
    while pending:
        found = pending.pop()
        if found.DESCRIPTOR.name == "ParamRef":
            yield found.number
        for field, value in found.ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending += value if field.is_repeated else [value]
