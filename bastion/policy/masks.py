"""The masks of a policy: read from it, and asked what they do to one action."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bastion.masking.detectors import NAMES
from bastion.masking.patterns import check_pattern
from bastion.model.action import Action, Resource
from bastion.model.identity import Identity
from bastion.model.mask import ANY, BECAUSE, USES, Cover, CoverKind, Mask, Predicates, Use
from bastion.model.target import Target
from bastion.model.verdict import Deny
from bastion.policy.bearing import EVERYWHERE, Where, Whom, check_where
from bastion.policy.marks import Marked, Path, Place, Problem, dotted
from bastion.policy.schema import ApprovalModel, CoverModel, MaskModel, PlainCover
from bastion.policy.validation import shown, suggestion, validated

_COLUMN = re.compile(r"[^.\s]+\.[^.\s]+\.[^.\s]+")
_FUNCTION = re.compile(r"[^.\s]+\.[^.\s]+")
_DETECTOR_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
COLUMNS = "columns"
"""The kind of mask that names columns."""
DETECT = "detect"
"""The kind of mask that searches texts."""

_DEFINING = frozenset({"create", "alter"})
"""What is done to a function by whoever says what it does."""

_Wrong: TypeAlias = Callable[..., None]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """One mask, ready to be applied."""

    mask: Mask
    place: Place
    where: Where = EVERYWHERE
    spared: Whom | None = None
    """None where it spares nobody."""
    approval: ApprovalModel | None = None

    @property
    def name(self) -> str:
        """The mask's name."""
        return self.mask.name

    def bears(self, identity: Identity, target: Target) -> bool:
        """Tell whether the mask covers anything for this identity at this target."""
        return self.where.has(target) and (self.spared is None or bool(self.spared.misses(identity)))


@dataclass(frozen=True, slots=True)
class Masking:
    """What the masks make of one action."""

    masks: tuple[Mask, ...]
    """Those in whose reach it is."""
    holding: tuple[tuple[MaskRule, str], ...] = ()
    """Those that want people to look at it first, and why."""
    denied: Deny | None = None


UNMASKED = Masking(())
"""What an action comes to that no mask bears on."""


def masking(rules: Iterable[MaskRule], action: Action) -> Masking:
    """Return what `rules`, which bear on who asks and where, make of an action."""
    masks: list[Mask] = []
    holding: list[tuple[MaskRule, str]] = []
    for rule in rules:
        reached = rule.mask.searches
        held = ""
        for resource in action.resources:
            if resource.kind == "function" and resource.verb in _DEFINING and resource.name in rule.mask.trusts:
                return Masking((), denied=Deny(rule.name, f"{resource.name} is trusted as it is, by a mask"))
            for name, uses, why in _uses(resource, rule.mask):
                reached = True
                if uses & {Use.WRITTEN, Use.UNTRACED}:
                    return Masking((), denied=Deny(rule.name, _forbidden(name, uses, why)))
                if rule.mask.predicates is Predicates.DENY and uses & {Use.EQUALITY, Use.PREDICATE}:
                    return Masking((), denied=Deny(rule.name, _forbidden(name, uses, why)))
                if Use.PREDICATE in uses and rule.mask.predicates is not Predicates.ALLOW:
                    held = held or _forbidden(name, uses, why)
        if reached:
            masks.append(rule.mask)
        if held:
            holding.append((rule, held))
    return Masking(tuple(masks), tuple(holding))


def _uses(resource: Resource, mask: Mask) -> Iterable[tuple[str, set[Use], str]]:
    """Yield each thing in the mask's reach that a resource uses: its name, how, and why that is so in words."""
    found = resource.facts.get(USES)
    if not isinstance(found, Mapping) or not mask.columns:
        return
    because = resource.facts.get(BECAUSE)
    for field, uses in found.items():
        name = resource.name if resource.kind == "function" else field
        if resource.kind == "function":
            # Nobody knows what it shows; it may be anything that any mask covers.
            if not mask.doubts(name):
                continue
        elif field != ANY and not mask.names(name):
            continue
        why = because.get(field, "") if isinstance(because, Mapping) else ""
        yield name, {Use(use) for use in uses}, why


def _forbidden(name: str, uses: set[Use], why: str) -> str:
    name = "something that it may reach" if name == ANY else name
    if Use.WRITTEN in uses:
        told = f"{name} is masked, and would be written to where it is not"
    elif Use.UNTRACED in uses:
        told = f"{name} is masked, and it cannot be told where its values would go"
    else:
        told = f"{name} is masked, and the outcome would depend on it"
    return f"{told}: {why}" if why else told


def loaded_mask(
    document: Marked,
    path: Path,
    kinds: Mapping[str, frozenset[str]],
    targets: Mapping[str, Target],
    problems: list[Problem],
) -> MaskRule | None:
    """Return the mask at `path`, or None with what is wrong added to `problems`."""
    before = len(problems)
    model = validated(MaskModel, document, path, problems)
    if model is None:
        return None

    def wrong(key: str, expected: str, found: str, hint: str = "", *steps: str | int) -> None:
        at = (*path, key, *steps) if key else path
        problems.append(Problem(document.place(at), dotted(at), expected, found, hint))

    if not (model.columns or model.detect or model.patterns):
        wrong("", "columns, detect or patterns", "none of them")
    for index, column in enumerate(model.columns or ()):
        if not _COLUMN.fullmatch(column):
            wrong("columns", "schema.table.column", shown(column), "", index)
    for index, name in enumerate(model.trusts or ()):
        if not _FUNCTION.fullmatch(name):
            wrong("trusts", "schema.function", shown(name), "", index)
    for index, name in enumerate(model.detect or ()):
        if name not in NAMES:
            wrong("detect", "a detector", shown(name), suggestion(name, NAMES) or ", ".join(NAMES), index)
    for name, text in (model.patterns or {}).items():
        if not _DETECTOR_NAME.fullmatch(name) or name in NAMES:
            wrong("patterns", "a name of its own, in lower case", repr(name), "", name)
        try:
            check_pattern(text)
        except ValueError as error:
            wrong("patterns", "a regular expression that RE2 takes", str(error), "", name)
    for key in ("predicates", "trusts", "approval"):
        if getattr(model, key) is not None and not model.columns:
            wrong(key, "it only where columns are named", "no columns")
    predicates = Predicates(model.predicates or ("hold" if model.approval else "deny"))
    if predicates is Predicates.HOLD and model.approval is None:
        wrong("predicates", "'approval' beside it", "none", "say who approves")
    if predicates is not Predicates.HOLD and model.approval is not None:
        wrong("approval", "it only where predicates are held", predicates.value)
    here = check_where(model.where, targets, document, path, problems)
    _check_kinds(model, here, kinds, wrong)
    if len(problems) > before:
        return None
    mask = Mask(
        model.name,
        _cover(model.cover),
        model.columns or (),
        model.detect or (),
        tuple(sorted((model.patterns or {}).items())),
        predicates,
        model.trusts or (),
    )
    spared = Whom.of(model.unless) if model.unless else None
    return MaskRule(mask, document.place(path), Where.of(model.where), spared, model.approval)


def _check_kinds(model: MaskModel, here: list[Target], kinds: Mapping[str, frozenset[str]], wrong: _Wrong) -> None:
    """Check that the targets where the mask applies can honour it."""
    able = [t for t in here if COLUMNS in kinds.get(t.protocol, ())]
    if model.columns and here and (not able or (model.where is not None and len(able) < len(here))):
        lacking = next(t for t in here if t not in able)
        wrong("columns", "targets whose columns can be masked", f"{lacking.name}, which speaks {lacking.protocol}")
    for key in (DETECT, "patterns"):
        unable = [t for t in here if DETECT not in kinds.get(t.protocol, ())]
        if getattr(model, key) is not None and unable:
            found = f"{unable[0].name}, which speaks {unable[0].protocol}"
            wrong(key, "targets whose texts can be searched", found, "name those that can under `where`")


def _cover(model: CoverModel) -> Cover:
    if isinstance(model, PlainCover):
        return Cover(CoverKind(model.word))
    if model.partial is not None:
        return Cover(CoverKind.PARTIAL, keep=model.partial.keep)
    return Cover(CoverKind.FIXED, text=model.fixed or "")
