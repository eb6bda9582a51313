"""The policy: order never matters, nothing means allow by accident, and mistakes are told with their place."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.action import Access, Action, Resource
from bastion.model.identity import Kind
from bastion.model.verdict import Allow, Deny, Hold, Verdict
from bastion.policy.document import ClauseSpec, Policy, load
from bastion.policy.evaluation import Judge, reach
from bastion.policy.explanation import explain
from bastion.policy.marks import Problems
from bastion.protocols.contract import Clause
from tests.kit import nouns

TARGET = nouns.target()


class Words(Clause):
    """A clause for tests: verbs, by themselves."""

    verbs: list[str]

    def matches(self, action: Action, resource: Resource) -> bool:
        return resource.verb in self.verbs


class Fragile(Clause):
    """A clause that breaks."""

    def matches(self, action: Action, resource: Resource) -> bool:
        raise ZeroDivisionError


CLAUSES = {
    "words": ClauseSpec(Words, frozenset({"postgres"})),
    "fragile": ClauseSpec(Fragile, frozenset({"postgres"})),
    "elsewhere": ClauseSpec(Words, frozenset({"ssh"})),
}

RULES = """
version: 1
rules:
  - name: read
    effect: allow
    who: {groups: [engineers]}
    words: {verbs: [select]}
  - name: hold-writes
    effect: hold
    who: {groups: [engineers]}
    where: {labels: {env: prod}}
    words: {verbs: [insert, delete]}
    approval: {by: [dba], votes: 2, expires: 90s}
  - name: hold-deletes-longer
    effect: hold
    words: {verbs: [delete]}
    approval: {by: [security], expires: 1h}
  - name: no-drop
    effect: deny
    words: {verbs: [drop]}
    reason: Schema changes go through migrations.
"""


def policy(text: str, directory: Path, targets: Sequence[Any] = (TARGET,)) -> Policy:
    path = directory / "policy.yaml"
    path.write_text(text)
    return load(path, CLAUSES, {t.name: t for t in targets})


def asks(*verbs: str, access: Access = Access.READ) -> Action:
    return Action("postgres", verbs[0] if verbs else "", "text", tuple(Resource("thing", v, v, access) for v in verbs))


def verdict(text: str, directory: Path, action: Action, who: Any = None) -> Verdict:
    return Judge(policy(text, directory), who or nouns.identity(), TARGET).evaluate(action)


def test_what_a_rule_allows_is_allowed(tmp_path: Path) -> None:
    assert verdict(RULES, tmp_path, asks("select")) == Allow(("read",))


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        (asks("drop"), "no-drop"),
        (asks("select", "drop"), "no-drop"),
        (asks("delete", "drop"), "no-drop"),
        (asks("update"), "bastion:default"),
        (asks("select", "update"), "bastion:default"),
        (asks("delete", "update"), "bastion:default"),
        (asks(), "bastion:default"),
    ],
)
def test_what_is_denied(tmp_path: Path, action: Action, rule: str) -> None:
    denied = verdict(RULES, tmp_path, action)
    assert isinstance(denied, Deny)
    assert denied.rule == rule


def test_a_hold_collects_every_demand_and_the_shortest_wait(tmp_path: Path) -> None:
    held = verdict(RULES, tmp_path, asks("select", "delete"))
    assert isinstance(held, Hold)
    assert [(d.rule, d.votes, d.approvers) for d in held.demands] == [
        ("hold-deletes-longer", 1, {"security"}),
        ("hold-writes", 2, {"dba"}),
    ]
    assert held.expires == timedelta(seconds=90)


def test_somebody_else_is_denied(tmp_path: Path) -> None:
    denied = verdict(RULES, tmp_path, asks("select"), nouns.identity("eve", "others"))
    assert isinstance(denied, Deny)


def test_a_rule_that_breaks_denies(tmp_path: Path) -> None:
    text = RULES + "  - {name: broken, effect: deny, fragile: {}}\n"
    assert verdict(text, tmp_path, asks("select")) == Deny("bastion:error", "the policy could not be evaluated")


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("effect: allow, when: 'identity.nonsense == 1'", False),
        ("effect: allow, when: 'identity.nonsense'", False),
        ("effect: allow, when: '1 / 0 == 1'", False),
        ("effect: allow, when: identity.name", False),
        ("effect: allow, when: 'identity.name == \"Alice\"'", True),
        ('effect: allow, when: \'"engineers" in identity.groups && target.labels.env == "prod"\'', True),
    ],
)
def test_only_true_is_true(tmp_path: Path, rule: str, allowed: bool) -> None:
    text = "version: 1\nrules:\n  - {name: r, " + rule + "}\n"
    assert isinstance(verdict(text, tmp_path, asks("select")), Allow) == allowed


def test_a_condition_that_cannot_be_evaluated_still_denies(tmp_path: Path) -> None:
    text = RULES + "  - {name: odd, effect: deny, when: 'identity.nonsense == 1'}\n"
    denied = verdict(text, tmp_path, asks("select"))
    assert isinstance(denied, Deny)
    assert denied.rule == "odd"


def test_conditions_on_arguments_are_not_reused(tmp_path: Path) -> None:
    text = RULES + "  - {name: ten, effect: deny, when: 'action.arguments[0] == \"10\"'}\n"
    judge = Judge(policy(text, tmp_path), nouns.identity(), TARGET)
    assert judge.uses_arguments
    assert isinstance(judge.evaluate(asks("select").called_with(("10",))), Deny)
    assert isinstance(judge.evaluate(asks("select").called_with(("9",))), Allow)


EFFECTS = st.lists(
    st.tuples(st.sampled_from(["allow", "hold", "deny"]), st.sets(st.sampled_from("abc"), min_size=1)), max_size=5
)


def written(effects: Sequence[tuple[str, set[str]]], order: Sequence[int]) -> str:
    lines = ["version: 1", "rules:" if effects else "rules: []"]
    for n in order:
        effect, verbs = effects[n]
        approval = ", approval: {by: [dba]}" if effect == "hold" else ""
        lines.append(f"  - {{name: r{n}, effect: {effect}, words: {{verbs: [{', '.join(sorted(verbs))}]}}{approval}}}")
    return "\n".join(lines)


@given(EFFECTS, st.lists(st.sampled_from("abcd"), min_size=1, max_size=3), st.randoms())
def test_order_never_matters(tmp_path_factory: Any, effects: Any, verbs: list[str], random: Any) -> None:
    directory = tmp_path_factory.getbasetemp()
    order = list(range(len(effects)))
    one = verdict(written(effects, order), directory, asks(*verbs))
    random.shuffle(order)
    other = verdict(written(effects, order), directory, asks(*verbs))
    assert type(one) is type(other)


@given(EFFECTS, st.lists(st.sampled_from("abcd"), min_size=1, max_size=3))
def test_deny_beats_hold_beats_allow_beats_nothing(tmp_path_factory: Any, effects: Any, verbs: list[str]) -> None:
    found = verdict(written(effects, range(len(effects))), tmp_path_factory.getbasetemp(), asks(*verbs))
    by = {effect: set().union(*(v for e, v in effects if e == effect)) for effect in ("allow", "hold", "deny")}
    if by["deny"] & set(verbs) or not set(verbs) <= by["allow"] | by["hold"]:
        assert isinstance(found, Deny)
    elif by["hold"] & set(verbs):
        assert isinstance(found, Hold)
    else:
        assert isinstance(found, Allow)


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("  - {name: x, effekt: allow, words: {verbs: [a]}}", "4:15", "expected a known key, found 'effekt'"),
        ("  - {name: x, effect: allaw, words: {verbs: [a]}}", "4:15", "'allow', 'hold' or 'deny', found 'allaw'"),
        ("  - {name: x, effect: allow}", "4:5", "a clause that says what is meant"),
        ("  - {name: x, effect: allow, words: {verb: [a]}}", "4:38", "a known key, found 'verb'"),
        ("  - {name: x, effect: allow, words: {verbs: a}}", "4:38", "a list, found 'a'"),
        ("  - {name: x, effect: hold, words: {verbs: [a]}}", "4:5", "'approval' in a rule that holds"),
        ("  - {name: x, effect: deny, approval: {by: [a]}}", "4:29", "only in a rule that holds"),
        ("  - {name: x, effect: hold, anything: true, approval: {by: []}}", "4:56", "at least 1 item"),
        (
            "  - {name: x, effect: hold, anything: true, approval: {by: [a], votes: 0}}",
            "4:65",
            "greater than or equal to 1",
        ),
        ("  - {name: x, effect: hold, anything: true, approval: {by: [a], expires: soon}}", "4:65", "a duration"),
        (
            "  - {name: x, effect: allow, anything: true, where: {targets: [prod-bd]}}",
            "4:46",
            "a target that is configured",
        ),
        ("  - {name: x, effect: allow, anything: true, where: {labels: {env: pord}}}", "4:46", "one target that fits"),
        ("  - {name: x, effect: allow, elsewhere: {verbs: [a]}}", "4:30", "a target that speaks ssh"),
        ("  - {name: x, effect: allow, when: 'a ='}", "4:30", "a CEL expression"),
        ("  - {name: x, effect: allow, when: '1'}", "4:30", "true or false"),
        ("  - {name: x, effect: deny, name: y}", "4:29", "each key once"),
        ("  - {name: No Spaces, effect: deny}", "4:6", "string should match"),
        ("  - {name: x, effect: deny, who: {groups: [yes], kind: no}}", "4:50", "'human' or 'machine'"),
        ("  - {name: x, effect: deny, who: {groups: [1]}}", "4:44", "a string, found 1"),
        ("  - &a {name: x, effect: deny}\n  - *a", "5:5", "the alias"),
        ("  - !!python/object:os.system {name: x}", "4:5", "the tag"),
        ("  - {name: x, effect: deny}\n  - {name: x, effect: deny}", "5:5", "a name of its own"),
        ("  - [", "5:1", "YAML"),
        ("  - x", "4:5", "a rule, found 'x'"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, line: str, place: str, said: str) -> None:
    text = "version: 1\nauditors: {groups: [auditors]}\nrules:\n" + line + "\n"
    with pytest.raises(Problems) as caught:
        policy(text, tmp_path)
    told = str(caught.value)
    assert said in told
    assert f"policy.yaml:{place}:" in told


@pytest.mark.parametrize(
    "text", ["", "[]", "version: 2\nrules: []", "rules: []", "version: true\nrules: []", "version: 1"]
)
def test_what_is_no_policy(tmp_path: Path, text: str) -> None:
    with pytest.raises(Problems):
        policy(text, tmp_path)


def test_a_cut_file_is_never_a_weaker_policy(tmp_path: Path) -> None:
    whole = policy(RULES, tmp_path)
    for end in range(len(RULES)):
        try:
            part = policy(RULES[:end], tmp_path)
        except Problems:
            continue
        judged = Judge(part, nouns.identity(), TARGET).evaluate(asks("drop"))
        assert isinstance(judged, Deny)
        assert len(part.rules) <= len(whole.rules)


def test_a_directory_is_one_policy(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nrules:\n  - {name: a, effect: allow, anything: true}\n")
    (tmp_path / "b.yaml").write_text("version: 1\nrules:\n  - {name: b, effect: deny, words: {verbs: [drop]}}\n")
    loaded = load(tmp_path, CLAUSES, {TARGET.name: TARGET})
    assert [r.name for r in loaded.rules] == ["a", "b"]
    (tmp_path / "c.yaml").write_text("version: 1\nrules:\n  - {name: a, effect: deny}\n")
    with pytest.raises(Problems, match="of its own"):
        load(tmp_path, CLAUSES, {TARGET.name: TARGET})


def test_the_version_follows_the_content(tmp_path: Path) -> None:
    assert policy(RULES, tmp_path).version == policy(RULES + "\n# a comment\n", tmp_path).version
    assert policy(RULES, tmp_path).version != policy(RULES.replace("votes: 2", "votes: 3"), tmp_path).version


def test_who_may_reach_a_target(tmp_path: Path) -> None:
    loaded = policy(RULES, tmp_path)
    assert reach(loaded, nouns.identity(), TARGET) == {"allow", "hold"}
    assert reach(loaded, nouns.identity("eve", "others"), TARGET) == {"hold"}
    assert reach(loaded, nouns.identity(), replace(TARGET, protocol="ssh")) == frozenset()


def test_every_part_of_who_counts(tmp_path: Path) -> None:
    who = "{groups: [engineers], subjects: [alice], kind: machine, actor: [agent]}"
    text = f"version: 1\nrules:\n  - {{name: r, effect: allow, anything: true, who: {who}}}\n"
    loaded = policy(text, tmp_path)
    fits = nouns.identity("alice", "engineers", kind=Kind.MACHINE, actor="agent")
    assert isinstance(Judge(loaded, fits, TARGET).evaluate(asks("select")), Allow)
    for other in (
        replace(fits, groups=frozenset({"x"})),
        replace(fits, subject="bob"),
        replace(fits, kind=Kind.HUMAN),
        replace(fits, actor=""),
    ):
        assert isinstance(Judge(loaded, other, TARGET).evaluate(asks("select")), Deny)


def test_an_explanation_names_what_decided_and_why_the_rest_did_not(tmp_path: Path) -> None:
    told = explain(policy(RULES, tmp_path), nouns.identity(), TARGET, asks("select", "drop"))
    found = {r.name: (r.decided, r.why) for r in told.rules}
    assert found["no-drop"] == (True, "matches drop")
    assert found["read"] == (False, "matches select, but another rule decided")
    assert found["hold-writes"][0] is False
    assert all(r.place.startswith(str(tmp_path)) for r in told.rules)
    eve = explain(policy(RULES, tmp_path), nouns.identity("eve", "x"), TARGET, asks("select"))
    assert {r.name: r.why for r in eve.rules}["read"] == "who: other groups"


def test_adding_a_deny_never_allows(tmp_path: Path) -> None:
    for verbs in itertools.product(["select", "insert", "drop", "update"], repeat=2):
        before = verdict(RULES, tmp_path, asks(*verbs))
        after = verdict(RULES + "  - {name: z, effect: deny, words: {verbs: [insert]}}\n", tmp_path, asks(*verbs))
        assert isinstance(after, Deny) or type(after) is type(before)
