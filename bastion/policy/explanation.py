"""Why the policy says what it says: which rule decided, and why each of the others did not."""

from dataclasses import dataclass

from bastion.model.action import Access, Action
from bastion.model.identity import Identity
from bastion.model.target import Target
from bastion.model.verdict import Allow, Deny, Hold, Verdict
from bastion.policy.document import Policy, Rule
from bastion.policy.evaluation import Judge, described, misses
from bastion.policy.masks import MaskRule, masking


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """What one rule, or one mask, had to do with the verdict."""

    name: str
    effect: str
    decided: bool
    why: str
    place: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and everything that led to it."""

    verdict: Verdict
    rules: tuple[RuleExplanation, ...]

    def as_record(self) -> dict[str, object]:
        """Return what the rules had to do with it, as JSON values."""
        return {
            "rules": [
                {"name": r.name, "effect": r.effect, "decided": r.decided, "why": r.why, "place": r.place}
                for r in self.rules
            ]
        }


def explain(policy: Policy, identity: Identity, target: Target, action: Action) -> Explanation:
    """Return the verdict on an action, with the part that every rule had in it."""
    judge = Judge(policy, identity, target)
    verdict = judge.evaluate(action)
    match verdict:
        case Allow(rules=names):
            deciding = set(names)
        case Deny(rule=name):
            deciding = {name}
        case Hold(demands=demands):
            deciding = {d.rule for d in demands}
    other = "but another rule decided" if deciding & {r.name for r in policy.rules} else "but not all that it does"
    rules = []
    for rule in policy.rules:
        decided = rule.name in deciding
        why = misses(rule, identity, target) or _part(rule, judge, action, "" if decided else f", {other}")
        rules.append(RuleExplanation(rule.name, rule.effect, decided, why, str(rule.place)))
    rules += [_masked(mask, verdict, identity, target, action) for mask in policy.masks]
    return Explanation(verdict, tuple(rules))


def _masked(mask: MaskRule, verdict: Verdict, identity: Identity, target: Target, action: Action) -> RuleExplanation:
    """Return what one mask has to do with the verdict."""

    def told(why: str, *, decided: bool = False) -> RuleExplanation:
        return RuleExplanation(mask.name, "mask", decided, why, str(mask.place))

    if not mask.where.has(target):
        return told("where: another target")
    if not mask.bears(identity, target):
        return told("unless: spares you")
    try:
        alone = masking([mask], action)
    except ValueError:  # the judge has denied for the same reason; here it is only told
        return told("could not be evaluated", decided=True)
    if alone.denied is not None:
        return told(alone.denied.reason, decided=isinstance(verdict, Deny) and verdict.rule == mask.name)
    if alone.holding:
        held = isinstance(verdict, Hold) and any(d.rule == mask.name for d in verdict.demands)
        return told("the outcome depends on a column that it covers", decided=held)
    if not alone.masks:
        return told("out of reach of its columns")
    in_force = not isinstance(verdict, Deny) and mask.mask in verdict.masks
    return told("covers what comes back" if in_force else "would cover what comes back", decided=in_force)


def _part(rule: Rule, judge: Judge, action: Action, rest: str) -> str:
    """Return what a rule that bears on identity and target says of the action's resources."""
    permits = rule.effect == "allow"
    try:
        fitting = [r for r in action.resources if (judge.covers if permits else judge.matches)(rule, action, r)]
        if not fitting:
            return _missed(rule, judge, action)
    except Exception:  # the judge has denied for the same reason; here it is only told
        return f"{rule.clause_name or 'when'}: could not be evaluated"
    told = ", ".join(dict.fromkeys(described(r) for r in fitting))
    return f"matches {told}{rest}"


def _missed(rule: Rule, judge: Judge, action: Action) -> str:
    """Return why a rule fits none of the resources: its clause, its condition, or what is not understood."""
    if rule.clause is not None:
        spoken = [r for r in action.resources if rule.clause.matches(action, r)]
        if not spoken:
            return f"{rule.clause_name}: matches nothing it does"
        if not any(rule.clause.covers(action, r) for r in spoken):
            return f"{rule.clause_name}: matches only a part of {described(spoken[0])}"
    outcomes = {judge.condition(rule, action, r) for r in action.resources}
    if True in outcomes and any(r.access is Access.UNKNOWN for r in action.resources):
        return "without a clause it allows nothing that is not understood"
    return "when: could not be evaluated" if None in outcomes else "when: does not hold"
