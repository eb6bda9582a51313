"""Masks: how they are declared, whom they spare, and what each use of a masked column leads to."""

from pathlib import Path
from typing import Any

import pytest

from bastion.model.action import Access, Action, Resource
from bastion.model.identity import Identity, Kind
from bastion.model.mask import ANY, BECAUSE, USES, Cover, CoverKind, Predicates
from bastion.model.verdict import Allow, Deny, Hold, Verdict
from bastion.policy.document import ClauseSpec, Policy, load
from bastion.policy.evaluation import Judge
from bastion.policy.explanation import explain
from bastion.policy.marks import Problems
from bastion.policy.masks import masking
from tests.kit import nouns
from tests.policy.test_policy import Words

TARGET = nouns.target()
KINDS = {"postgres": frozenset({"columns", "detect"}), "plain": frozenset[str]()}
RULES = """version: 1
rules:
  - {name: read, effect: allow, words: {verbs: [select]}}
  - {name: writes, effect: hold, words: {verbs: [update]}, approval: {by: [dba], expires: 5m}}
masks:
"""
PII = "  - {name: pii, columns: [public.users.email, 'crm.*.mail*'], cover: partial, unless: {groups: [readers]}}\n"
HELD = "  - {name: pii, columns: [public.users.email], cover: full, approval: {by: [officers], votes: 2}}\n"


def policy(masks: str, directory: Path, *targets: Any) -> Policy:
    path = directory / "policy.yaml"
    path.write_text(RULES + masks)
    clauses = {"words": ClauseSpec(Words, frozenset({"postgres"}))}
    return load(path, clauses, {t.name: t for t in targets or (TARGET,)}, kinds=KINDS)


def uses(column: str, *how: str, verb: str = "select") -> Action:
    relation = column.rpartition(".")[0]
    return action("relation", relation, column, *how, verb=verb)


def action(kind: str, name: str, field: str, *how: str, verb: str = "select") -> Action:
    facts = {USES: {field: list(how)}, BECAUSE: {field: "it is sorted by"}}
    return Action("postgres", verb, "text", (Resource(kind, name, verb, Access.READ, facts),))


def verdict(masks: str, directory: Path, action: Action, who: Identity | None = None) -> Verdict:
    return Judge(policy(masks, directory), who or nouns.identity(), TARGET).evaluate(action)


def names(found: Verdict) -> list[str]:
    assert isinstance(found, Allow | Hold)
    return [mask.name for mask in found.masks]


def test_a_mask_is_carried_by_the_verdict_that_it_bears_on(tmp_path: Path) -> None:
    found = verdict(PII, tmp_path, uses("public.users.email", "output"))
    assert isinstance(found, Allow)
    (mask,) = found.masks
    assert (mask.name, mask.cover, mask.columns) == (
        "pii",
        Cover(CoverKind.PARTIAL),
        ("public.users.email", "crm.*.mail*"),
    )
    assert mask.predicates is Predicates.DENY


def test_a_column_that_is_not_used_is_in_reach_all_the_same(tmp_path: Path) -> None:
    assert names(verdict(PII, tmp_path, uses("public.users.email"))) == ["pii"]


def test_other_columns_are_out_of_reach(tmp_path: Path) -> None:
    for name in ("public.users.name", "public.users.emails", "xpublic.users.email", "crm.people.email"):
        assert names(verdict(PII, tmp_path, uses(name, "output"))) == []


def test_a_star_stands_for_any_part_of_a_name(tmp_path: Path) -> None:
    for name in ("crm.people.mail", "crm.other.mail_2", "crm.a.b.mail"):
        assert names(verdict(PII, tmp_path, uses(name, "output"))) == ["pii"]


@pytest.mark.parametrize("unless", ["{groups: [readers]}", "{subjects: [ann]}", "{kind: machine}", "{actor: [bot]}"])
def test_whom_a_mask_spares(tmp_path: Path, unless: str) -> None:
    masks = f"  - {{name: pii, columns: [public.users.email], cover: full, unless: {unless}}}\n"
    asked = uses("public.users.email", "output", "predicate", "untraced")
    spared = {
        "{groups: [readers]}": nouns.identity("eve", "readers"),
        "{subjects: [ann]}": nouns.identity("ann"),
        "{kind: machine}": nouns.identity("job", kind=Kind.MACHINE),
        "{actor: [bot]}": nouns.identity("eve", actor="bot"),
    }[unless]
    assert verdict(masks, tmp_path, asked, spared) == Allow(("read",))
    assert isinstance(verdict(masks, tmp_path, asked, nouns.identity("eve", "engineers")), Deny)


def test_who_is_spared_fits_every_member(tmp_path: Path) -> None:
    masks = (
        "  - {name: pii, columns: [public.users.email], cover: full, unless: {groups: [readers], subjects: [ann]}}\n"
    )
    for who in (nouns.identity("eve", "readers"), nouns.identity("ann", "engineers")):
        assert names(verdict(masks, tmp_path, uses("public.users.email", "output"), who)) == ["pii"]


@pytest.mark.parametrize("use", ["written", "untraced"])
@pytest.mark.parametrize("extra", ["", ", predicates: allow"])
def test_what_cannot_be_covered_is_denied_with_the_column_and_why(tmp_path: Path, use: str, extra: str) -> None:
    masks = f"  - {{name: pii, columns: [public.users.email], cover: full{extra}}}\n"
    denied = verdict(masks, tmp_path, uses("public.users.email", "output", use))
    assert isinstance(denied, Deny)
    assert denied.rule == "pii"
    assert "public.users.email is masked" in denied.reason
    assert "sorted by" in denied.reason


@pytest.mark.parametrize(
    ("predicates", "use", "outcome"),
    [
        ("allow", "equality", Allow),
        ("allow", "predicate", Allow),
        ("deny", "equality", Deny),
        ("deny", "predicate", Deny),
    ],
)
def test_predicates(tmp_path: Path, predicates: str, use: str, outcome: type) -> None:
    masks = f"  - {{name: pii, columns: [public.users.email], cover: full, predicates: {predicates}}}\n"
    assert type(verdict(masks, tmp_path, uses("public.users.email", use))) is outcome


def test_a_predicate_is_held_by_those_whom_the_mask_names(tmp_path: Path) -> None:
    held = verdict(HELD, tmp_path, uses("public.users.email", "output", "predicate"))
    assert isinstance(held, Hold)
    (demand,) = held.demands
    assert (demand.rule, demand.approvers, demand.votes) == ("pii", {"officers"}, 2)
    assert [m.name for m in held.masks] == ["pii"]
    assert names(verdict(HELD, tmp_path, uses("public.users.email", "equality"))) == ["pii"]


def test_a_mask_and_a_rule_that_hold_are_both_waited_for(tmp_path: Path) -> None:
    held = verdict(HELD, tmp_path, uses("public.users.email", "predicate", verb="update"))
    assert isinstance(held, Hold)
    assert [d.rule for d in held.demands] == ["pii", "writes"]
    assert held.expires.total_seconds() == 300


def test_without_approvers_nothing_can_be_held(tmp_path: Path) -> None:
    assert isinstance(verdict(PII, tmp_path, uses("public.users.email", "predicate")), Deny)


def test_a_mask_gives_nothing_that_no_rule_allows(tmp_path: Path) -> None:
    denied = verdict(HELD, tmp_path, uses("public.users.email", "predicate", verb="drop"))
    assert isinstance(denied, Deny)
    assert denied.rule == "bastion:default"


def test_a_function_that_nobody_vouches_for_may_show_anything(tmp_path: Path) -> None:
    call = action("function", "public.mail_of", "result", "output")
    assert names(verdict(PII, tmp_path, call)) == ["pii"]
    trusting = PII.replace("cover:", "trusts: [public.mail_of], cover:")
    assert names(verdict(trusting, tmp_path, call)) == []


@pytest.mark.parametrize("verb", ["create", "alter"])
def test_a_function_that_is_trusted_is_not_to_be_another(tmp_path: Path, verb: str) -> None:
    rules = policy(PII.replace("cover:", "trusts: [public.mail_of], cover:"), tmp_path).masks
    denied = masking(rules, Action("postgres", verb, "text", (_function("public.mail_of", verb),))).denied
    assert denied is not None
    assert denied.rule == "pii"
    assert masking(rules, Action("postgres", verb, "text", (_function("public.other", verb),))).denied is None


def _function(name: str, verb: str) -> Resource:
    return Resource("function", name, verb, Access.ADMIN)


def test_what_is_told_through_the_session_is_in_reach_of_every_mask(tmp_path: Path) -> None:
    assert names(verdict(PII, tmp_path, action("channel", "news", ANY))) == ["pii"]


def test_a_use_that_is_not_known_denies(tmp_path: Path) -> None:
    assert isinstance(verdict(PII, tmp_path, uses("public.users.email", "novel")), Deny)


def test_detectors_search_whatever_comes_back(tmp_path: Path) -> None:
    masks = "  - {name: looks-like-it, detect: [email, us_ssn], patterns: {badge: 'B-[0-9]{6}'}, cover: full}\n"
    plain = Action("postgres", "select", "text", (Resource("thing", "x", "select", Access.READ),))
    found = verdict(masks, tmp_path, plain)
    assert isinstance(found, Allow)
    (mask,) = found.masks
    assert (mask.detectors, mask.patterns) == (("email", "us_ssn"), (("badge", "B-[0-9]{6}"),))


def test_covers(tmp_path: Path) -> None:
    written = {
        "full": Cover(CoverKind.FULL),
        "hash": Cover(CoverKind.HASH),
        "null": Cover(CoverKind.NULL),
        "{partial: {keep: 2}}": Cover(CoverKind.PARTIAL, keep=2),
        "{fixed: gone}": Cover(CoverKind.FIXED, text="gone"),
    }
    for text, cover in written.items():
        (rule,) = policy(f"  - {{name: m, columns: [a.b.c], cover: {text}}}\n", tmp_path).masks
        assert rule.mask.cover == cover


@pytest.mark.parametrize(
    ("mask", "path", "expected"),
    [
        ("{name: m, cover: full}", "masks.0", "columns, detect or patterns"),
        ("{name: m, columns: [a.b.c]}", "masks.0.cover", "'cover' to be given"),
        ("{name: m, columns: [users.email], cover: full}", "masks.0.columns.0", "schema.table.column"),
        ("{name: m, columns: [a.b.c.d], cover: full}", "masks.0.columns.0", "schema.table.column"),
        ("{name: m, columns: [], cover: full}", "masks.0.columns", ""),
        ("{name: m, detect: [mail], cover: full}", "masks.0.detect.0", "a detector"),
        ("{name: m, patterns: {x: '('}, cover: full}", "masks.0.patterns.x", "a regular expression that RE2 takes"),
        ("{name: m, patterns: {x: 'a*'}, cover: full}", "masks.0.patterns.x", "a regular expression that RE2 takes"),
        ("{name: m, patterns: {email: 'a'}, cover: full}", "masks.0.patterns.email", "a name of its own"),
        ("{name: m, detect: [email], cover: full, predicates: deny}", "masks.0.predicates", "columns are named"),
        ("{name: m, columns: [a.b.c], cover: full, predicates: hold}", "masks.0.predicates", "'approval' beside it"),
        ("{name: m, columns: [a.b.c], cover: full, trusts: [f]}", "masks.0.trusts.0", "schema.function"),
        (
            "{name: m, columns: [a.b.c], cover: full, predicates: deny, approval: {by: [x]}}",
            "masks.0.approval",
            "predicates are held",
        ),
        ("{name: m, columns: [a.b.c], cover: shredded}", "masks.0.cover", ""),
        ("{name: m, columns: [a.b.c], cover: {}}", "masks.0.cover", "partial or fixed"),
        ("{name: m, columns: [a.b.c], cover: full, where: {targets: [other]}}", "masks.0.where.targets", "configured"),
        ("{name: m, columns: [a.b.c], cover: full, unless: {}}", "masks.0.unless", "groups, subjects, kind or actor"),
        ("{name: read, columns: [a.b.c], cover: full}", "read", "a name of its own"),
        ("{name: m, columns: [a.b.c], cover: full, unles: {groups: [x]}}", "masks.0.unles", "a known key"),
    ],
)
def test_mistakes(tmp_path: Path, mask: str, path: str, expected: str) -> None:
    with pytest.raises(Problems) as caught:
        policy(f"  - {mask}\n", tmp_path)
    assert path in [p.path for p in caught.value.found]
    assert expected in " ".join(p.expected for p in caught.value.found)
    assert all(p.place.line == 6 for p in caught.value.found)


def test_a_blank_cover_or_restriction_is_a_mistake(tmp_path: Path) -> None:
    for blank in ("cover:", "unless:", "where:", "columns:", "cover: ~"):
        whole = "cover: full" if "cover" not in blank else ""
        lines = [f"    {line}" for line in (blank, whole) if line]
        with pytest.raises(Problems, match="a value, found nothing"):
            policy("\n".join(["  - name: m", "    detect: [email]", *lines, ""]), tmp_path)


def test_a_target_that_cannot_honour_a_mask_is_a_mistake(tmp_path: Path) -> None:
    plain = nouns.target("web")
    object.__setattr__(plain, "protocol", "plain")
    for mask in (
        "{name: m, columns: [a.b.c], cover: full, where: {targets: [web]}}",
        "{name: m, detect: [email], cover: full}",
        "{name: m, patterns: {x: y}, cover: full, where: {targets: [web, prod-db]}}",
    ):
        with pytest.raises(Problems, match="web, which speaks plain"):
            policy(f"  - {mask}\n", tmp_path, TARGET, plain)
    assert len(policy("  - {name: m, columns: [a.b.c], cover: full}\n", tmp_path, TARGET, plain).masks) == 1


def test_masks_are_part_of_the_policys_version(tmp_path: Path) -> None:
    assert policy(PII, tmp_path).version != policy(HELD, tmp_path).version


@pytest.mark.parametrize(
    ("masks", "who", "asked", "decided", "why"),
    [
        (PII, "alice", ("output",), True, "covers what comes back"),
        (PII, "alice", ("predicate",), False, "would depend on it"),
        (HELD, "alice", ("predicate",), True, "the outcome depends"),
        (PII, "reader", ("output",), False, "spares you"),
        (PII.replace("public.users.email", "a.b.c"), "alice", ("output",), False, "out of reach"),
        (PII, "alice", ("novel",), True, "could not be evaluated"),
    ],
)
def test_a_mask_is_explained(
    tmp_path: Path, masks: str, who: str, asked: tuple[str, ...], decided: bool, why: str
) -> None:
    identity = nouns.identity(who, "readers" if who == "reader" else "engineers")
    explained = explain(policy(masks, tmp_path), identity, TARGET, uses("public.users.email", *asked))
    (told,) = [rule for rule in explained.rules if rule.effect == "mask"]
    assert why in told.why
    assert told.decided is (decided or (isinstance(explained.verdict, Deny) and explained.verdict.rule == "pii"))
