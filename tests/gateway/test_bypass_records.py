"""What is struck out of a record leaves a mark where it was."""

import orjson

from bastion.gateway import records
from bastion.model.action import Access, Action, Resource
from bastion.model.verdict import Deny

ACTION = Action(
    "postgres",
    "update",
    "UPDATE users SET password = $1 WHERE id = $2",
    (Resource("relation", "public.users", "update", Access.WRITE),),
    ("hunter2", "5"),
    secret=True,
    shown="UPDATE users SET password = $1 WHERE id = $2",
)


def test_each_argument_that_may_be_a_secret_is_marked() -> None:
    assert records.arguments(ACTION) == ["***", "***"]
    entry = orjson.loads(records.judged(records.judged_form(ACTION, Deny("rule", "why")), 1, ACTION))
    assert entry["arguments"] == ["***", "***"]
