"""Conditions: only true is true, an error helps nobody, and what depends on arguments is known to."""

from typing import Any

import pytest

from bastion.model.action import Access, Action, Argument, Resource
from bastion.model.identity import Kind
from bastion.policy.conditions import Condition, Uncompilable, standing
from tests.kit import nouns

ALICE = nouns.identity("alice", "engineers", "oncall", kind=Kind.MACHINE, owner="bob", actor="agent")
TARGET = nouns.target(env="prod", team="payments")
UPDATE = Resource("relation", "public.users", "update", Access.WRITE, {"columns": ["email"], "where": "missing"})
ACTION = Action("postgres", "update", "update users set email = $1", (UPDATE,), facts={"formats": [0]})


def holds(text: str, *arguments: Argument, facts: dict[str, object] | None = None) -> bool | None:
    action = ACTION.called_with(arguments, facts)
    return Condition(text).holds(standing(ALICE, TARGET), action, UPDATE)


@pytest.mark.parametrize(
    "text",
    [
        "identity.issuer == 'https://login.example.com'",
        "identity.subject == 'alice' && identity.name == 'Alice'",
        "'oncall' in identity.groups && size(identity.groups) == 2",
        "identity.kind == 'machine' && identity.actor == 'agent' && identity.owner == 'bob'",
        "identity.proven == timestamp('2026-05-04T12:00:00Z')",
        "target.name == 'prod-db' && target.protocol == 'postgres' && target.labels.team == 'payments'",
        "action.verb == 'update' && action.access == 'write' && action.text.startsWith('update users')",
        "resource.kind == 'relation' && resource.name == 'public.users' && resource.verb == 'update'",
        "resource.access == 'write' && resource.facts.where == 'missing'",
        "resource.facts.columns.exists(c, c == 'email')",
        "action.facts.formats[0] == 0",
        "action.arguments[0] == 'a@example.com' && action.arguments[1] == null",
        "has(target.labels.env) && !has(target.labels.region)",
    ],
)
def test_everything_that_is_named_can_be_asked(text: str) -> None:
    assert holds(text, "a@example.com", None) is True


@pytest.mark.parametrize(
    "text",
    [
        "target.labels.nothing == 'x'",
        "resource.facts.nothing",
        "resource.facts.where",
        "1 / 0 == 1",
        "action.arguments[7] == 'x'",
        "timestamp('never') < timestamp('2026-01-01T00:00:00Z')",
        "[1, 2, 3].exists(n, resource.facts.nothing == n)",
        "action.text.matches('(')",
        "dyn('true')",
        "dyn(1)",
    ],
)
def test_an_error_is_neither_yes_nor_no(text: str) -> None:
    # The engine returns errors as values whose text would be taken for true.
    assert holds(text, "x") is None


def test_a_condition_that_would_never_end_is_stopped() -> None:
    numbers = "[" + ",".join("0123456789" * 3) + "]"
    assert holds(f"{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, {numbers}.all(d, true))))") is None


def test_a_pattern_that_others_choke_on_is_answered() -> None:
    assert Condition("'a'.matches('(a+)+$') && !'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab'.matches('^(a+)+$')").holds(
        standing(ALICE, TARGET), ACTION, UPDATE
    )


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("action.verb == 'update'", False),
        ("resource.facts.where == 'missing'", False),
        ("action.text.contains('arguments') || action.text.contains('facts')", True),
        ("['x'].exists(arguments, arguments == 'x')", False),
        ("action.arguments.size() > 0", True),
        ("has(action.facts.formats)", True),
        ("action . arguments [0] == 'x'", True),
        ("action // a comment\n.arguments[0] == 'x'", True),
        ("'x' in action.arguments", True),
        ("[{'arguments': 'y'}].exists(action, action.arguments == 'x')", False),
    ],
)
def test_what_depends_on_arguments_is_known_to(text: str, uses: bool) -> None:
    condition = Condition(text)
    assert condition.uses_arguments is uses
    if not uses:
        one, other = (
            condition.holds(standing(ALICE, TARGET), ACTION.called_with(a, {"formats": [len(a)]}), UPDATE)
            for a in (("x",), ("y", b"z"))
        )
        assert one == other


@pytest.mark.parametrize(
    "text", ["action['argu' + 'ments'][0] == 'x'", "action == action", "[action].exists(a, a.arguments[0] == 'x')"]
)
def test_there_is_no_other_way_to_the_arguments(text: str) -> None:
    with pytest.raises(Uncompilable, match="undeclared reference to 'action'"):
        Condition(text)


def test_who_asks_cannot_choose_the_outcome_by_the_format_of_an_argument() -> None:
    text = "action.arguments[0] == '10'"
    assert holds(text, "10") is True
    assert holds(text, "9") is False
    assert holds(text, b"\0\0\0\x0a") is None
    assert holds("action.verb == 'update'", b"\0\0\0\x0a") is True


@pytest.mark.parametrize(
    ("text", "found", "hint"),
    [
        ("", "", ""),
        ("identity.subject ==", "", ""),
        ("identity.subjct == 'a'", "undeclared reference to 'identity.subjct' (line 1, column 9 of it)", "subject"),
        ("true &&\n who == 'a'", "undeclared reference to 'who' (line 2, column 2 of it)", ""),
        ("identity.name", "one of type STRING", ""),
        ("action.verb == 1", "found no matching overload", ""),
        ("identity.groups == 'a'", "found no matching overload", ""),
        ("x" * 5000, "5000", ""),
    ],
)
def test_what_does_not_fit_is_told_when_it_is_loaded(text: str, found: str, hint: str) -> None:
    with pytest.raises(Uncompilable) as caught:
        Condition(text)
    assert found in caught.value.found
    assert hint in caught.value.hint


def test_standing_values_hold_no_more_than_they_say() -> None:
    known: Any = standing(ALICE, TARGET)
    assert all(name.startswith(("identity.", "target.")) for name in known)
    assert "credential" not in str(known)
