"""The policy as it is written: rules with a name, an effect, who, where, what and when; checked whole at load.

A policy that does not load is never a weaker one: `load` returns a whole policy or raises `Problems`. A rule that
could never match is a mistake too, because its author believes that it does something.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bastion.model.identity import Kind
from bastion.model.target import Target
from bastion.policy.conditions import Condition
from bastion.policy.marks import Marked, Path, Place, Problem, Problems, dotted, read
from bastion.policy.validation import shown, suggestion, validated
from bastion.protocols.contract import Clause

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST_WAIT = timedelta(days=7)
_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _duration(value: Any) -> Any:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a duration such as 90s, 15m, 2h or 1d, found {shown(value)}")
    length = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if length > _LONGEST_WAIT:
        raise ValueError(f"expected at most 7d, found {value!r}")
    return length


Strings = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class WhoModel(_Model):
    """Whom a rule speaks of: an identity that satisfies every member given."""

    groups: Strings | None = None
    """Groups, of which the identity is in at least one."""
    subjects: Strings | None = None
    """Subjects, as the issuer names them."""
    kind: Literal["human", "machine"] | None = None
    """Whether a person or a machine is meant."""
    actor: Strings | None = None
    """Agents that act for the subject, as the token names them."""


class WhereModel(_Model):
    """Where a rule applies: targets that satisfy every member given."""

    targets: Strings | None = None
    """Targets by name."""
    labels: dict[str, str] | None = None
    """Labels that the target has, with these values."""


class ApprovalModel(_Model):
    """What a rule that holds waits for."""

    by: Strings
    """Groups whose members may approve."""
    votes: int = Field(default=1, ge=1, le=16)
    """How many different people have to approve."""
    expires: Duration = timedelta(minutes=15)
    """How long a request waits, such as 15m."""
    owner_may_approve: bool = False
    """Whether the owner of a machine identity may approve what it asks."""


class RuleModel(_Model):
    """One rule. Beside these keys it may have one clause of a protocol, such as `sql`."""

    name: str = Field(pattern=_NAME)
    """Its name: what a denial names, and what the record keeps."""
    effect: Literal["allow", "hold", "deny"]
    """What it does where it matches: deny beats hold beats allow, and what nothing allows is denied."""
    who: WhoModel = WhoModel()
    """Whom it speaks of; everybody if left out."""
    where: WhereModel = WhereModel()
    """Where it applies; everywhere if left out."""
    anything: Literal[True] | None = None
    """Says, for a rule that allows or holds without a clause, that every action is meant."""
    when: str | None = None
    """A condition in CEL over `identity`, `target`, `action` and `resource`."""
    approval: ApprovalModel | None = None
    """Who approves; for rules that hold, and only for them."""
    reason: str = Field(default="", max_length=500)
    """Why, in words for the person who is told."""


class AuditorsModel(_Model):
    """Who may read every recording. Everybody may read their own."""

    groups: Strings
    """Groups whose members are auditors."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be evaluated."""

    name: str
    effect: str
    place: Place
    groups: frozenset[str] | None = None
    subjects: frozenset[str] | None = None
    kind: Kind | None = None
    actors: frozenset[str] | None = None
    targets: frozenset[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    clause_name: str = ""
    clause: Clause | None = None
    protocols: frozenset[str] | None = None
    """The protocols that its clause speaks of; None for all."""
    when: Condition | None = None
    approval: ApprovalModel | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy."""

    rules: tuple[Rule, ...]
    auditors: frozenset[str]
    version: str
    """SHA-256, in hex, of `text`."""
    text: str
    """The policy in a canonical form: what the store keeps under the version."""


@dataclass(frozen=True, slots=True)
class ClauseSpec:
    """A clause that rules may have, and the protocols whose actions it speaks of."""

    model: type[Clause]
    protocols: frozenset[str]


def load(path: FilePath, clauses: Mapping[str, ClauseSpec], targets: Mapping[str, Target]) -> Policy:
    """Return the policy of a file, or of all the `*.yaml` of a directory in the order of their names.

    Raises `Problems` with everything that is wrong with it, and `OSError` when it cannot be read.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    problems: list[Problem] = []
    documents: list[Marked] = []
    if not files:
        problems.append(Problem(Place(str(path), 1, 1), "", "at least one *.yaml in this directory", "none"))
    for file in files:
        try:
            documents.append(read(file.read_bytes(), str(file)))
        except Problems as error:
            problems += error.found
    rules: list[Rule] = []
    auditors: set[str] = set()
    for document in documents:
        _document(document, clauses, targets, rules, auditors, problems)
    _check_names(rules, problems)
    if problems:
        raise Problems(problems)
    text = _canonical(documents)
    return Policy(tuple(rules), frozenset(auditors), hashlib.sha256(text.encode()).hexdigest(), text)


def _canonical(documents: list[Marked]) -> str:
    return orjson.dumps([d.value for d in documents], option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode()


def _document(
    document: Marked,
    clauses: Mapping[str, ClauseSpec],
    targets: Mapping[str, Target],
    rules: list[Rule],
    auditors: set[str],
    problems: list[Problem],
) -> None:
    value = document.value
    known = ("version", "rules", "auditors")
    if not isinstance(value, dict):
        problems.append(Problem(document.place(()), "", "a mapping with version and rules", shown(value)))
        return
    problems.extend(
        Problem(document.place((key,)), key, "version, rules or auditors", repr(key), suggestion(key, known))
        for key in value
        if key not in known
    )
    if value.get("version") != 1 or isinstance(value.get("version"), bool):
        problems.append(Problem(document.place(("version",)), "version", "1", shown(value.get("version"))))
    if "auditors" in value and (model := validated(AuditorsModel, document, ("auditors",), problems)) is not None:
        auditors.update(model.groups)
    listed = value.get("rules")
    if not isinstance(listed, list):
        problems.append(Problem(document.place(("rules",)), "rules", "a list of rules", shown(listed)))
        return
    for index in range(len(listed)):
        rule = _rule(document, ("rules", index), clauses, targets, problems)
        if rule is not None:
            rules.append(rule)


def _rule(
    document: Marked,
    path: Path,
    clauses: Mapping[str, ClauseSpec],
    targets: Mapping[str, Target],
    problems: list[Problem],
) -> Rule | None:
    before = len(problems)
    raw = document.value[path[0]][path[1]]
    place = document.place(path)
    if not isinstance(raw, dict):
        problems.append(Problem(place, dotted(path), "a rule", shown(raw)))
        return None
    known = {*RuleModel.model_fields, *clauses}
    for key in raw:
        if key not in known:
            at = (*path, key)
            problems.append(
                Problem(document.place(at), dotted(at), "a known key", repr(key), suggestion(key, sorted(known)))
            )
    plain = {key: value for key, value in raw.items() if key in RuleModel.model_fields}
    shadow = Marked(_replaced(document.value, path, plain), document.places)
    model = validated(RuleModel, shadow, path, problems)
    named = [key for key in raw if key in clauses]
    if len(named) > 1:
        at = (*path, named[1])
        problems.append(Problem(document.place(at), dotted(at), "one clause a rule", f"{named[1]!r} as well"))
    clause = validated(clauses[named[0]].model, document, (*path, named[0]), problems) if named else None
    if model is None or len(problems) > before:
        return None
    condition = _condition(model, document, path, problems)
    _check_shape(model, clause, document, path, problems)
    rule = Rule(
        name=model.name,
        effect=model.effect,
        place=place,
        groups=_set(model.who.groups),
        subjects=_set(model.who.subjects),
        kind=Kind(model.who.kind) if model.who.kind else None,
        actors=_set(model.who.actor),
        targets=_set(model.where.targets),
        labels=dict(model.where.labels or {}),
        clause_name=named[0] if named else "",
        clause=clause,
        protocols=clauses[named[0]].protocols if named else None,
        when=condition,
        approval=model.approval,
        reason=model.reason,
    )
    _check_reach(rule, targets, document, path, problems)
    return rule if len(problems) == before else None


def _replaced(value: Any, path: Path, part: Any) -> Any:
    """Return `value` with `part` at `path`, sharing everything else."""
    if not path:
        return part
    step = path[0]
    copied: Any = dict(value) if isinstance(value, dict) else list(value)
    copied[step] = _replaced(value[step], path[1:], part)
    return copied


def _set(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _condition(model: RuleModel, document: Marked, path: Path, problems: list[Problem]) -> Condition | None:
    if model.when is None:
        return None
    try:
        return Condition(model.when)
    except ValueError as error:
        expected, _, found = str(error).partition(", found ")
        at = (*path, "when")
        problems.append(Problem(document.place(at), dotted(at), expected.removeprefix("expected "), found))
        return None


def _check_shape(
    model: RuleModel, clause: Clause | None, document: Marked, path: Path, problems: list[Problem]
) -> None:
    """Check what the parts of a rule demand of one another."""
    if model.effect == "hold" and model.approval is None:
        problems.append(
            Problem(document.place(path), dotted(path), "'approval' in a rule that holds", "none", "say who approves")
        )
    if model.effect != "hold" and model.approval is not None:
        at = (*path, "approval")
        problems.append(Problem(document.place(at), dotted(at), "'approval' only in a rule that holds", model.effect))
    bare = clause is None and model.when is None
    if model.effect != "deny" and bare and model.anything is None:
        problems.append(
            Problem(
                document.place(path),
                dotted(path),
                "a clause that says what is meant",
                "none",
                "write `anything: true` if every action is meant",
            )
        )
    if model.anything and clause is not None:
        at = (*path, "anything")
        problems.append(Problem(document.place(at), dotted(at), "either a clause or `anything`", "both"))


def _check_reach(
    rule: Rule, targets: Mapping[str, Target], document: Marked, path: Path, problems: list[Problem]
) -> None:
    """Check that a rule can match somewhere."""
    at = (*path, "where")
    for name in sorted(rule.targets or ()):
        if name not in targets:
            problems.append(
                Problem(
                    document.place(at),
                    dotted((*at, "targets")),
                    "a target that is configured",
                    repr(name),
                    suggestion(name, targets),
                )
            )
            return
    here = [t for t in targets.values() if at_target(rule, t)]
    if targets and not here:
        problems.append(Problem(document.place(at), dotted(at), "at least one target that fits", "none"))
    elif rule.protocols is not None and here and all(t.protocol not in rule.protocols for t in here):
        place = document.place((*path, rule.clause_name))
        speaks = ", ".join(sorted(rule.protocols))
        problems.append(Problem(place, dotted((*path, rule.clause_name)), f"a target that speaks {speaks}", "none"))


def at_target(rule: Rule, target: Target) -> bool:
    """Tell whether the rule's `where` fits a target."""
    if rule.targets is not None and target.name not in rule.targets:
        return False
    return all(target.labels.get(key) == value for key, value in rule.labels.items())


def _check_names(rules: list[Rule], problems: list[Problem]) -> None:
    seen: dict[str, Place] = {}
    for rule in rules:
        if rule.name in seen:
            problems.append(
                Problem(rule.place, rule.name, "a name of its own", f"that of the rule at {seen[rule.name]}")
            )
        seen.setdefault(rule.name, rule.place)
