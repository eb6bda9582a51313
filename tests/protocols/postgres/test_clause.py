"""What an `sql:` clause speaks of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bastion.model.action import Access, Action, Resource
from bastion.protocols.postgres.clause import SqlClause

ACTION = Action("postgres", "select", "", ())
USERS = Resource("relation", "public.users", "select", Access.READ, {"columns": ["id", "email"]})
DELETE = Resource(
    "relation", "public.users", "delete", Access.WRITE, {"columns": [], "where": "missing", "selective": False}
)
MAIL = Resource("function", "public.mail_of", "call", Access.UNKNOWN, {})
BEGIN = Resource("transaction", "", "begin", Access.NONE, {})
SHOW = Resource("setting", "TimeZone", "set", Access.READ, {})


def clause(**members: object) -> SqlClause:
    return SqlClause.model_validate(members)


@pytest.mark.parametrize(
    ("members", "spoken_of"),
    [
        ({"access": "read"}, [USERS, BEGIN, SHOW]),
        ({"access": "write"}, [USERS, DELETE, BEGIN, SHOW]),
        ({"access": "admin"}, [USERS, DELETE, BEGIN, SHOW]),
        ({"verbs": ["delete"]}, [DELETE]),
        ({"verbs": "call"}, [MAIL]),
        ({"relations": ["public.users"]}, [USERS, DELETE]),
        ({"relations": ["*.user*"]}, [USERS, DELETE]),
        ({"relations": ["public.user"]}, []),
        ({"relations": ["public.users"], "access": "read"}, [USERS]),
        ({"columns": ["public.users.email"]}, [USERS]),
        ({"columns": ["public.*.ssn"]}, []),
        ({"functions": ["public.mail_*"]}, [MAIL]),
        ({"functions": ["public.mail_of"], "access": "read"}, [MAIL]),
        ({"functions": ["public.mail_of"], "relations": ["public.users"]}, [USERS, DELETE, MAIL]),
        ({"where": ["missing", "unselective"]}, [DELETE]),
        ({"where": "selective"}, []),
        ({"verbs": ["delete"], "where": "missing", "access": "read"}, []),
        ({"settings": ["timezone"]}, [SHOW]),
    ],
)
def test_speaks_of(members: dict[str, object], spoken_of: list[Resource]) -> None:
    rule = clause(**members)
    assert [r for r in (USERS, DELETE, MAIL, BEGIN, SHOW) if rule.matches(ACTION, r)] == spoken_of


def test_a_column_is_enough_to_deny_and_not_to_allow() -> None:
    rule = clause(columns=["public.users.email"])
    assert rule.matches(ACTION, USERS)
    assert not rule.covers(ACTION, USERS)
    assert clause(columns=["public.users.email", "public.users.id"]).covers(ACTION, USERS)
    assert clause(columns=["public.users.*"]).covers(ACTION, USERS)


def test_what_is_not_understood_is_more_than_any_access() -> None:
    unknown = Resource("construct", "NewStmt", "unknown", Access.UNKNOWN, {})
    for access in ("read", "write", "admin"):
        assert not clause(access=access).matches(ACTION, unknown)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"verbs": []},
        {"verbs": ["DELETE"]},
        {"relations": ["users"]},
        {"relations": ["a.b.c"]},
        {"columns": ["users.email"]},
        {"functions": ["now"]},
        {"access": "all"},
        {"access": "Read"},
        {"where": ["none"]},
        {"verbs": [1]},
        {"relation": ["public.users"]},
    ],
)
def test_nonsense_is_an_error_at_load(members: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        clause(**members)


@given(st.from_regex(r"[a-z*.]{1,8}\.[a-z*]{1,8}", fullmatch=True), st.text("abc.", max_size=12))
def test_a_pattern_stands_for_itself_with_anything_for_a_star(pattern: str, name: str) -> None:
    if pattern.count(".") != 1:
        return
    rule = clause(relations=[pattern])
    matched = rule.matches(ACTION, Resource("relation", name, "select", Access.READ, {}))
    assert matched == _matches(pattern, name)


def _matches(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return _matches(pattern[1:], name) or (bool(name) and _matches(pattern, name[1:]))
    return bool(name) and pattern[0] == name[0] and _matches(pattern[1:], name[1:])
