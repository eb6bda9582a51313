"""The policy: order never matters, nothing means allow by accident, and mistakes are told with their place."""

import time
import timeit
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


class Arguing(Words):
    """A clause whose answer depends on arguments."""

    def uses_arguments(self) -> bool:
        return True


CLAUSES = {
    "arguing": ClauseSpec(Arguing, frozenset({"postgres"})),
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
    ("condition", "outcomes"),
    [
        ("resource.verb == 'select'", (Allow, Hold, Deny)),
        ("resource.verb == 'insert'", (Deny, Allow, Allow)),
        ("target.labels.nothing == 'x'", (Deny, Hold, Deny)),
        ("1 / 0 == 1", (Deny, Hold, Deny)),
        ("dyn('true')", (Deny, Hold, Deny)),
        ("dyn(1)", (Deny, Hold, Deny)),
        ("resource.facts.nothing", (Deny, Hold, Deny)),
    ],
)
@pytest.mark.parametrize("clause", ["", ", words: {verbs: [select]}"])
def test_a_condition_that_cannot_be_evaluated_never_helps_the_one_who_asks(
    tmp_path: Path, condition: str, outcomes: tuple[type, type, type], clause: str
) -> None:
    head = "version: 1\nrules:\n"
    rest = "  - {name: read, effect: allow, words: {verbs: [select]}}\n"
    rule = f'  - {{name: r, when: "{condition}"{clause}, effect: '
    texts = (
        head + rule + "allow}\n",
        head + rest + rule + "hold, approval: {by: [dba]}}\n",
        head + rest + rule + "deny}\n",
    )
    found = [verdict(text, tmp_path, asks("select")) for text in texts]
    assert tuple(map(type, found)) == outcomes
    if outcomes[2] is Deny:
        assert found[2] == Deny("r", "the policy denies select")


def test_a_hold_whose_condition_cannot_be_evaluated_holds_but_does_not_permit(tmp_path: Path) -> None:
    rule = "{name: r, effect: hold, words: {verbs: [select]}, when: '1 / 0 == 1', approval: {by: [dba]}}"
    denied = verdict(f"version: 1\nrules:\n  - {rule}\n", tmp_path, asks("select"))
    assert denied == Deny("bastion:default", "no rule allows select")


def test_what_looks_at_arguments_is_known_so_that_its_verdict_is_not_reused(tmp_path: Path) -> None:
    ten = "  - {name: ten, effect: deny, when: 'size(action.arguments) > 0 && action.arguments[0] == \"10\"'}\n"
    judge = Judge(policy(RULES + ten, tmp_path), nouns.identity(), TARGET)
    assert judge.uses_arguments
    assert isinstance(judge.evaluate(asks("select").called_with(("10",))), Deny)
    assert isinstance(judge.evaluate(asks("select").called_with(("9",))), Allow)
    # The same value in a binary format has other bytes; it may be the one that is meant.
    assert isinstance(judge.evaluate(asks("select").called_with((b"\0\0\0\x0a",))), Deny)
    assert not Judge(policy(RULES, tmp_path), nouns.identity(), TARGET).uses_arguments
    by_clause = RULES + "  - {name: arguing, effect: deny, who: {groups: [x]}, arguing: {verbs: [drop]}}\n"
    loaded = policy(by_clause, tmp_path)
    assert Judge(loaded, nouns.identity("bob", "x"), TARGET).uses_arguments
    assert not Judge(loaded, nouns.identity(), TARGET).uses_arguments


def test_an_explanation_of_a_hold_names_every_rule_that_holds(tmp_path: Path) -> None:
    told = explain(policy(RULES, tmp_path), nouns.identity(), TARGET, asks("delete"))
    assert isinstance(told.verdict, Hold)
    assert [r.name for r in told.rules if r.decided] == ["hold-writes", "hold-deletes-longer"]
    allowed = explain(policy(RULES, tmp_path), nouns.identity(), TARGET, asks("select"))
    rows: Any = allowed.as_record()["rules"]
    assert [row["name"] for row in rows if row["decided"]] == ["read"]
    assert set(rows[0]) == {"name", "effect", "decided", "why", "place"}


def test_what_bears_on_nothing_here_says_which_part_keeps_it_away(tmp_path: Path) -> None:
    whys = {
        "who: {groups: [x]}": "who: other groups",
        "who: {subjects: bob}": "who: another subject",
        "who: {kind: machine}": "who: not a machine",
        "who: {actor: agent}": "who: another actor",
        "where: {targets: [other]}": "where: another target",
        "elsewhere: {verbs: [a]}": "elsewhere: the target speaks postgres",
    }
    rules = "".join(f"  - {{name: r{n}, effect: deny, {part}}}\n" for n, part in enumerate(whys))
    other = replace(TARGET, name="other", protocol="ssh")
    loaded = policy("version: 1\nrules:\n" + rules, tmp_path, [TARGET, other])
    told = explain(loaded, nouns.identity(), TARGET, asks("select"))
    assert [r.why for r in told.rules] == list(whys.values())


EFFECTS = st.lists(
    st.tuples(st.sampled_from(["allow", "hold", "deny"]), st.sets(st.sampled_from("abc"), min_size=1)), max_size=5
)


def written(effects: Sequence[tuple[str, set[str]]], order: Sequence[int]) -> str:
    lines = ["version: 1", "rules:" if effects else "rules: []"]
    for n in order:
        effect, verbs = effects[n]
        approval = ", approval: {by: [dba]}" if effect == "hold" else ""
        lines.append(f"  - {{name: r{n}, effect: {effect}, words: {{verbs: [{', '.join(sorted(verbs))}]}}{approval}}}")
    return "\n".join(lines) + "\n"


@given(EFFECTS, st.lists(st.sampled_from("abcd"), min_size=1, max_size=3), st.randoms())
def test_order_never_matters(tmp_path_factory: Any, effects: Any, verbs: list[str], random: Any) -> None:
    directory = tmp_path_factory.getbasetemp()
    order = list(range(len(effects)))
    one = verdict(written(effects, order), directory, asks(*verbs))
    random.shuffle(order)
    assert one == verdict(written(effects, order), directory, asks(*verbs))


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
            "4:64",
            "a target that is configured",
        ),
        ("  - {name: x, effect: allow, anything: true, where: {labels: {env: pord}}}", "4:46", "one target that fits"),
        ("  - {name: x, effect: allow, elsewhere: {verbs: [a]}}", "4:30", "a target that speaks ssh"),
        ("  - {name: x, effect: allow, when: 'a ='}", "4:30", "a condition in CEL"),
        ("  - {name: x, effect: allow, when: '1'}", "4:30", "true or false, found one of type INT"),
        ("  - {name: x, effect: allow, when: 'target.nmae == \"a\"'}", "4:30", "undeclared reference to 'target.nmae'"),
        ("  - {name: x, effect: deny, who: {}}", "4:29", "groups, subjects, kind or actor, found none"),
        ("  - {name: x, effect: deny, where: {}}", "4:29", "targets or labels, found neither"),
        ("  - {name: x, effect: deny, where: {labels: {}}}", "4:37", "at least 1 item"),
        ("  - {name: x, effect: deny, who: {groups: ['']}}", "4:44", "at least 1 character"),
        ("  - name: x\n    effect: deny\n    who:\n      groups:", "7:7", "a value, found nothing"),
        ("  - name: x\n    effect: deny\n    when: ~", "6:5", "a value, found nothing"),
        ("  - {name: x, effect: deny, where: {targets: [prod-db, null]}}", "4:56", "a value, found nothing"),
        ("  - {name: x, effect: allow, words: {verbs: [a]}, elsewhere: {verbs: [a]}}", "4:51", "one clause a rule"),
        ("  - {name: x, effect: allow, anything: true, words: {verbs: [a]}}", "4:30", "either a clause or `anything`"),
        ("  - {name: x, effect: allow, anything: false}", "4:30", "true, found false"),
        ("  - {name: x, effect: hold, anything: true}", "4:5", "'approval' in a rule that holds"),
        (
            "  - {name: x, effect: hold, anything: true, who: {kind: human},\n"
            "     approval: {by: a, owner_may_approve: true}}",
            "5:24",
            "only where machines are meant",
        ),
        ("  - {name: x, effect: hold, anything: true, approval: {by: [a], expires: 8d}}", "4:65", "at most 7d"),
        ("  - {name: x, effect: hold, anything: true, approval: {by: [a], expires: 90}}", "4:65", "a duration"),
        ("  - {name: x, effect: deny, who: [a]}", "4:29", "a mapping, found a list"),
        ("  - {name: x, effect: deny, who: {groups: {a: b}}}", "4:35", "a list, found a mapping"),
        (f"  - {{name: x, effect: deny, when: {'a' * 5000}}}", "4:29", "at most 4096 characters"),
        ("  - {name: x, effect: deny, name: y}", "4:29", "each key once"),
        ("  - {name: No Spaces, effect: deny}", "4:6", "string should match"),
        ("  - {name: x, effect: deny, who: {groups: [yes], kind: no}}", "4:50", "'human' or 'machine'"),
        ("  - {name: x, effect: deny, who: {groups: [1]}}", "4:44", "a string, found 1"),
        ("  - &a {name: x, effect: deny}\n  - *a", "5:5", "an alias"),
        ("  - !!python/object:os.system {name: x}", "4:5", "a tag"),
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


BLOCKS = """
version: 1
rules:
  - name: everything
    effect: allow
    anything: true
  - name: no-drop
    effect: deny
    who:
      groups:
        - engineers
        - interns
    words:
      verbs:
        - drop
        - truncate
    when: identity.name != 'Root'
    reason: Not by hand.
"""


@pytest.mark.parametrize("text", [RULES, BLOCKS])
def test_a_file_cut_within_a_line_never_loads(tmp_path: Path, text: str) -> None:
    for end in range(len(text) - 1):
        if not text[:end].endswith("\n"):
            with pytest.raises(Problems):
                policy(text[:end], tmp_path)


@pytest.mark.parametrize("text", [RULES, BLOCKS])
def test_a_file_cut_between_lines_holds_only_rules_of_the_whole_one(tmp_path: Path, text: str) -> None:
    # What is missing at the end of a file cannot be seen in it; but no rule changes into one that was never written,
    # save that its own last lines may be missing.
    names = {rule.name for rule in policy(text, tmp_path).rules}
    for end in (i + 1 for i, char in enumerate(text) if char == "\n"):
        try:
            part = policy(text[:end], tmp_path)
        except Problems:
            continue
        assert {rule.name for rule in part.rules} <= names


def test_a_blank_restriction_is_not_everybody(tmp_path: Path) -> None:
    for blank in ("who:", "who:\n      groups:", "where:", "where:\n      labels:", "when:"):
        with pytest.raises(Problems, match="a value, found nothing"):
            policy(
                f"version: 1\nrules:\n  - name: r\n    effect: allow\n    words: {{verbs: [a]}}\n    {blank}\n",
                tmp_path,
            )


def test_a_mask_that_no_target_can_honour_is_refused(tmp_path: Path) -> None:
    text = RULES + "masks:\n  - {name: pii, columns: [public.users.email], cover: full}\n"
    with pytest.raises(Problems) as caught:
        policy(text, tmp_path)
    (found,) = caught.value.found
    assert (found.path, found.expected) == ("masks.0.columns", "targets whose columns can be masked")
    assert found.place.line == text[: text.index("- {name: pii")].count("\n") + 1


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = """version: 1
ruels: []
rules:
  - {name: a, effect: allow, anything: true, where: {targets: [nowhere, prod-bd]}}
  - {name: b, effekt: deny}
  - {name: c, effect: hold, anything: true, approval: {by: [], votes: 0}}
"""
    with pytest.raises(Problems) as caught:
        policy(text, tmp_path)
    assert [(p.place.line, p.path, p.hint) for p in caught.value.found] == [
        (2, "ruels", "did you mean 'rules'?"),
        (4, "rules.0.where.targets", ""),
        (4, "rules.0.where.targets", "did you mean 'prod-db'?"),
        (5, "rules.1.effekt", "did you mean 'effect'?"),
        (5, "rules.1.effect", ""),
        (6, "rules.2.approval.by", ""),
        (6, "rules.2.approval.votes", ""),
    ]


def test_a_file_that_a_directory_would_pass_over_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nrules: []\n")
    (tmp_path / ".#a.yaml").write_text("{")
    (tmp_path / "README").write_text("about these rules")
    assert load(tmp_path, CLAUSES, {TARGET.name: TARGET}).rules == ()
    (tmp_path / "b.yml").write_text("version: 1\nrules: []\n")
    (tmp_path / "c.d").mkdir()
    with pytest.raises(Problems) as caught:
        load(tmp_path, CLAUSES, {TARGET.name: TARGET})
    assert [(Path(p.place.file).name, p.expected) for p in caught.value.found] == [
        ("b.yml", "a policy file named *.yaml"),
        ("c.d", "a policy file named *.yaml"),
    ]


def test_an_empty_directory_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="at least one"):
        load(tmp_path, CLAUSES, {TARGET.name: TARGET})


def test_what_is_not_understood_is_allowed_only_by_a_clause_that_speaks_of_it(tmp_path: Path) -> None:
    unknown = asks("call", access=Access.UNKNOWN)
    rule = "version: 1\nrules:\n  - {name: r, effect: "
    for said in ("allow, anything: true}", "allow, when: 'true'}"):
        assert verdict(rule + said + "\n", tmp_path, unknown) == Deny(
            "bastion:default", "no rule allows call, and what it does is not known"
        )
        assert isinstance(verdict(rule + said + "\n", tmp_path, asks("call")), Allow)
    held = verdict(rule + "hold, anything: true, approval: {by: dba}}\n", tmp_path, unknown)
    assert isinstance(held, Hold)
    assert verdict(rule + "allow, words: {verbs: [call]}}\n", tmp_path, unknown) == Allow(("r",))


class Parts(Clause):
    """A clause that tells a part from the whole: the columns of a resource."""

    columns: list[str]

    def matches(self, action: Action, resource: Resource) -> bool:
        return any(c in self.columns for c in resource.facts["columns"])  # type: ignore[attr-defined]

    def covers(self, action: Action, resource: Resource) -> bool:
        return all(c in self.columns for c in resource.facts["columns"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("effect", "expected"), [("allow", Deny), ("hold", Deny), ("deny", Deny)], ids=["allow", "hold", "deny"]
)
def test_a_part_is_enough_to_deny_and_never_to_permit(tmp_path: Path, effect: str, expected: type) -> None:
    approval = ", approval: {by: [dba]}" if effect == "hold" else ""
    (tmp_path / "p.yaml").write_text(
        f"version: 1\nrules:\n  - {{name: r, effect: {effect}, parts: {{columns: [a]}}{approval}}}\n"
    )
    clauses = {"parts": ClauseSpec(Parts, frozenset({"postgres"}))}
    loaded = load(tmp_path / "p.yaml", clauses, {TARGET.name: TARGET})
    resource = Resource("relation", "t", "select", Access.READ, {"columns": ["a", "b"]})
    judged = Judge(loaded, nouns.identity(), TARGET).evaluate(Action("postgres", "select", "text", (resource,)))
    assert isinstance(judged, expected)
    told = explain(loaded, nouns.identity(), TARGET, Action("postgres", "select", "text", (resource,)))
    if effect == "allow":
        assert told.rules[0].why == "parts: matches only a part of select on relation t"


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
    assert found["hold-writes"] == (False, "words: matches nothing it does")
    assert all(r.place.startswith(str(tmp_path)) for r in told.rules)
    eve = explain(policy(RULES, tmp_path), nouns.identity("eve", "x"), TARGET, asks("select"))
    assert {r.name: r.why for r in eve.rules}["read"] == "who: other groups"


def test_an_explanation_without_a_deciding_rule_says_what_is_not_covered(tmp_path: Path) -> None:
    told = explain(policy(RULES, tmp_path), nouns.identity(), TARGET, asks("select", "update"))
    assert told.verdict == Deny("bastion:default", "no rule allows update")
    assert {r.name: (r.decided, r.why) for r in told.rules}["read"] == (
        False,
        "matches select, but not all that it does",
    )


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("{name: r, effect: deny, fragile: {}}", "fragile: could not be evaluated"),
        ("{name: r, effect: allow, when: 'target.labels.env == \"test\"'}", "when: does not hold"),
        ("{name: r, effect: allow, when: 'target.labels.nothing == \"test\"'}", "when: could not be evaluated"),
        ("{name: r, effect: allow, anything: true}", "without a clause it allows nothing that is not understood"),
    ],
)
def test_an_explanation_tells_what_a_rule_failed_on(tmp_path: Path, rule: str, why: str) -> None:
    loaded = policy(f"version: 1\nrules:\n  - {rule}\n", tmp_path)
    told = explain(loaded, nouns.identity(), TARGET, asks("select", access=Access.UNKNOWN))
    assert isinstance(told.verdict, Deny)
    assert told.rules[0].why == why


def test_nobody_reaches_a_target_where_all_is_denied(tmp_path: Path) -> None:
    loaded = policy(RULES + "  - {name: closed, effect: deny, who: {kind: machine}}\n", tmp_path)
    assert reach(loaded, nouns.identity(kind=Kind.MACHINE), TARGET) == frozenset()
    assert reach(loaded, nouns.identity(), TARGET) == {"allow", "hold"}


@given(EFFECTS, st.sets(st.sampled_from("abcd"), min_size=1), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3))
def test_adding_a_deny_never_turns_a_denial_around(
    tmp_path_factory: Any, effects: Any, denied: set[str], verbs: list[str]
) -> None:
    directory = tmp_path_factory.getbasetemp()
    more = [*effects, ("deny", denied)]
    before = verdict(written(effects, range(len(effects))), directory, asks(*verbs))
    after = verdict(written(more, range(len(more))), directory, asks(*verbs))
    assert isinstance(after, Deny) or after == before
    if denied & set(verbs):
        assert isinstance(after, Deny)


@given(st.binary(max_size=200))
def test_no_bytes_are_a_policy_by_accident(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(Problems):
        load(path, CLAUSES, {TARGET.name: TARGET})


def test_a_large_policy_loads_soon_and_is_judged_fast(tmp_path: Path) -> None:
    rules = "".join(
        f"  - {{name: r{n}, effect: {effect}, who: {{groups: [engineers]}}, words: {{verbs: [v{n}]}}{approval}}}\n"
        for n in range(500)
        for effect, approval in [[("allow", ""), ("hold", ", approval: {by: [dba]}"), ("deny", "")][n % 3]]
    )
    before = time.process_time()
    loaded = policy("version: 1\nrules:\n" + rules, tmp_path)
    # Measured 0.2 s; the bound only tells a square from a line, whatever else the machine does.
    assert time.process_time() - before < 5
    assert len(loaded.rules) == 500
    few = replace(loaded, rules=loaded.rules[:20])
    judge, action = Judge(few, nouns.identity(), TARGET), asks("v18")
    assert isinstance(judge.evaluate(action), Allow)
    # Measured 3.5 microseconds for twenty rules where ten are allowed; the best of many runs is what the code takes.
    best = min(timeit.repeat(lambda: judge.evaluate(action), number=200, repeat=50)) / 200
    assert best < 50e-6
