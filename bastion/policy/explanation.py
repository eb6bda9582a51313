"""Why the policy says what it says: which rule decided, and why each of the others did not."""

from dataclasses import dataclass

from bastion.model.action import Action
from bastion.model.identity import Identity
from bastion.model.target import Target
from bastion.model.verdict import Allow, Deny, Hold, Verdict
from bastion.policy.document import Policy, Rule
from bastion.policy.evaluation import Judge, described, misses


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """What one rule had to do with the verdict."""

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
    rules = tuple(_explained(r, judge, identity, target, action, r.name in deciding) for r in policy.rules)
    return Explanation(verdict, rules)


def _explained(
    rule: Rule, judge: Judge, identity: Identity, target: Target, action: Action, decided: bool
) -> RuleExplanation:
    why = misses(rule, identity, target) or _part(rule, judge, action, decided)
    return RuleExplanation(rule.name, rule.effect, decided, why, str(rule.place))


def _part(rule: Rule, judge: Judge, action: Action, decided: bool) -> str:
    test = judge.covers if rule.effect == "allow" else judge.matches
    fitting = [r for r in action.resources if test(rule, action, r)]
    if not fitting:
        said = "nothing it does" if rule.when is None else "nothing it does, or its condition does not hold"
        return f"{rule.clause_name or 'when'}: matches {said}"
    told = ", ".join(dict.fromkeys(described(r) for r in fitting))
    if decided:
        return f"matches {told}"
    return f"matches {told}, but another rule decided"
