"""The policy, loaded: rules with a name, an effect, who, where, what and when; checked whole.

A policy that does not load is never a weaker one: `load` returns a whole policy or raises `Problems`. A rule that
could never match is a mistake too, because its author believes that it does something.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import orjson

from bastion.model.target import Target
from bastion.policy.bearing import EVERYBODY, EVERYWHERE, Where, Whom, check_where
from bastion.policy.conditions import Condition, Uncompilable
from bastion.policy.marks import Marked, Path, Place, Problem, Problems, dotted, read
from bastion.policy.masks import MaskRule, loaded_mask
from bastion.policy.schema import ApprovalModel, AuditorsModel, RuleModel
from bastion.policy.validation import shown, suggestion, validated
from bastion.protocols.contract import Clause


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, ready to be evaluated."""

    name: str
    effect: str
    place: Place
    who: Whom = EVERYBODY
    where: Where = EVERYWHERE
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
    masks: tuple[MaskRule, ...] = ()


@dataclass(frozen=True, slots=True)
class ClauseSpec:
    """A clause that rules may have, and the protocols whose actions it speaks of."""

    model: type[Clause]
    protocols: frozenset[str]


def load(
    path: FilePath,
    clauses: Mapping[str, ClauseSpec],
    targets: Mapping[str, Target],
    content: Callable[[FilePath], bytes] = FilePath.read_bytes,
    kinds: Mapping[str, frozenset[str]] | None = None,
) -> Policy:
    """Return the policy of a file, or of all the `*.yaml` of a directory in the order of their names.

    `kinds` says which kinds of mask each protocol can honour; none can where it is not given. `content` reads a file,
    and may refuse to. Raises `Problems` with all that is wrong with it, and `OSError` when it cannot be read.
    """
    kinds = kinds or {}
    problems: list[Problem] = []
    documents: list[Marked] = []
    files = _files(path, problems) if path.is_dir() else [path]
    for file in files:
        try:
            documents.append(read(content(file), str(file)))
        except Problems as error:
            problems += error.found
    rules: list[Rule] = []
    masks: list[MaskRule] = []
    auditors: set[str] = set()
    for document in documents:
        _document(document, clauses, kinds, targets, rules, masks, auditors, problems)
    _check_names(rules, masks, problems)
    if problems:
        raise Problems(problems)
    text = _canonical(documents)
    version = hashlib.sha256(text.encode()).hexdigest()
    return Policy(tuple(rules), frozenset(auditors), version, text, tuple(masks))


def _files(directory: FilePath, problems: list[Problem]) -> list[FilePath]:
    """Return the files of a policy directory. What looks like a part of it and would be passed over is a mistake.

    Hidden files are left aside: editors keep their locks and copies there.
    """
    seen = sorted(p for p in directory.iterdir() if not p.name.startswith("."))
    for path in seen:
        if path.suffix != ".yaml" and (path.is_dir() or path.suffix.lower() in {".yml", ".yaml"}):
            found = "a directory" if path.is_dir() else f"{path.suffix!r}"
            problems.append(Problem(Place(str(path), 1, 1), "", "a policy file named *.yaml", found))
    files = [path for path in seen if path.suffix == ".yaml"]
    if not files:
        problems.append(Problem(Place(str(directory), 1, 1), "", "at least one *.yaml in this directory", "none"))
    return files


def _canonical(documents: list[Marked]) -> str:
    return orjson.dumps([d.value for d in documents], option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2).decode()


def _document(
    document: Marked,
    clauses: Mapping[str, ClauseSpec],
    kinds: Mapping[str, frozenset[str]],
    targets: Mapping[str, Target],
    rules: list[Rule],
    masks: list[MaskRule],
    auditors: set[str],
    problems: list[Problem],
) -> None:
    value = document.value
    known = ("version", "rules", "masks", "auditors")
    if not isinstance(value, dict):
        problems.append(Problem(document.place(()), "", "a mapping with version and rules", shown(value)))
        return
    problems.extend(
        Problem(
            document.place((key,)),
            dotted((key,)),
            "version, rules, masks or auditors",
            repr(key),
            suggestion(key, known),
        )
        for key in value
        if key not in known
    )
    listed_masks = value.get("masks", [])
    if not isinstance(listed_masks, list):
        problems.append(Problem(document.place(("masks",)), "masks", "a list of masks", shown(listed_masks)))
        listed_masks = []
    for index in range(len(listed_masks)):
        mask = loaded_mask(document, ("masks", index), kinds, targets, problems)
        if mask is not None:
            masks.append(mask)
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
        who=Whom.of(model.who),
        where=Where.of(model.where),
        clause_name=named[0] if named else "",
        clause=clause,
        protocols=clauses[named[0]].protocols if named else None,
        when=condition,
        approval=model.approval,
        reason=model.reason,
    )
    here = check_where(model.where, targets, document, path, problems)
    if here and rule.protocols is not None and all(t.protocol not in rule.protocols for t in here):
        speaks = ", ".join(sorted(rule.protocols))
        at = (*path, rule.clause_name)
        problems.append(Problem(document.place(at), dotted(at), f"a target that speaks {speaks}", "none"))
    return rule if len(problems) == before else None


def _replaced(value: Any, path: Path, part: Any) -> Any:
    """Return `value` with `part` at `path`, sharing everything else."""
    if not path:
        return part
    step = path[0]
    copied: Any = dict(value) if isinstance(value, dict) else list(value)
    copied[step] = _replaced(value[step], path[1:], part)
    return copied


def _condition(model: RuleModel, document: Marked, path: Path, problems: list[Problem]) -> Condition | None:
    if model.when is None:
        return None
    try:
        return Condition(model.when)
    except Uncompilable as error:
        at = (*path, "when")
        problems.append(Problem(document.place(at), dotted(at), error.expected, error.found, error.hint))
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
    if model.approval and model.approval.owner_may_approve and model.who and model.who.kind == "human":
        at = (*path, "approval", "owner_may_approve")
        problems.append(Problem(document.place(at), dotted(at), "it only where machines are meant", "'kind: human'"))
    if model.anything and clause is not None:
        at = (*path, "anything")
        problems.append(Problem(document.place(at), dotted(at), "either a clause or `anything`", "both"))


def _check_names(rules: list[Rule], masks: list[MaskRule], problems: list[Problem]) -> None:
    """Check that each name means one thing: a verdict names rules and masks alike."""
    seen: dict[str, Place] = {}
    everything: list[Rule | MaskRule] = [*rules, *masks]
    for named in everything:
        if named.name in seen:
            problems.append(Problem(named.place, named.name, "a name of its own", f"that of {seen[named.name]}"))
        seen.setdefault(named.name, named.place)
