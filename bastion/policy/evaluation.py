"""What a policy says of an action. Order never matters: deny beats hold beats allow, and what nothing allows is denied.

Every resource of the action is judged. One that a rule denies denies the whole; one that a rule holds holds it; and
each has to be covered by a rule that allows or holds. What goes wrong in a rule never helps the one who asks: a
condition that cannot be evaluated matches in a rule that denies or holds, and does not in one that allows. What is not
understood (`Access.UNKNOWN`) is allowed only by a rule whose clause speaks of it, never by one that says anything goes.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from bastion.model.action import Access, Action, Resource
from bastion.model.identity import Identity
from bastion.model.mask import Mask
from bastion.model.target import Target
from bastion.model.verdict import Allow, Demand, Deny, Hold, Verdict
from bastion.policy.conditions import standing
from bastion.policy.document import Policy, Rule
from bastion.policy.masks import UNMASKED, MaskRule, masking

DEFAULT = "bastion:default"
"""The rule named by a denial that no rule of the policy decided."""
BROKEN = "bastion:error"
"""The rule named by a denial because the policy could not be evaluated."""

_Test: TypeAlias = Callable[[Action, Resource], bool]


class Judge:
    """Judges the actions of one identity at one target; the rules that cannot bear on them are left out at once."""

    def __init__(self, policy: Policy, identity: Identity, target: Target) -> None:
        self._known = standing(identity, target)
        # By name, so that also the rule that a verdict names does not depend on the order they are written in.
        rules = sorted((r for r in policy.rules if concerns(r, identity, target)), key=lambda r: r.name)
        self._denies = [(r, self._matching(r)) for r in rules if r.effect == "deny"]
        self._holds = [(r, self._matching(r)) for r in rules if r.effect == "hold"]
        self._allows = [(r, self._covering(r)) for r in rules if r.effect == "allow"]
        self._masks = [m for m in sorted(policy.masks, key=lambda m: m.name) if m.bears(identity, target)]
        self.uses_arguments = any(_uses_arguments(r) for r in rules)
        """Whether two executions of one form may get different verdicts."""

    def evaluate(self, action: Action) -> Verdict:
        """Return the verdict on an action. Never raises."""
        try:
            return self._verdict(action)
        except Exception:  # no failure of a check may ever mean yes
            return Deny(BROKEN, "the policy could not be evaluated")

    def _verdict(self, action: Action) -> Verdict:
        if not action.resources:
            return Deny(DEFAULT, "nothing is known of what it would do")
        holding: dict[str, Rule] = {}
        allowing: dict[str, None] = {}
        uncovered: Resource | None = None
        for resource in action.resources:
            for rule, matches in self._denies:
                if matches(action, resource):
                    return Deny(rule.name, rule.reason or f"the policy denies {described(resource)}")
            covered = False
            for rule, matches in self._holds:
                if matches(action, resource):
                    holding[rule.name] = rule
                    covered = covered or self.covers(rule, action, resource)
            for rule, covers in self._allows:
                if covers(action, resource):
                    allowing[rule.name] = None
                    covered = True
                    break
            if not covered and uncovered is None:
                uncovered = resource
        if uncovered is not None:
            return Deny(DEFAULT, f"no rule allows {described(uncovered)}{_doubt(uncovered)}")
        found = masking(self._masks, action) if self._masks else UNMASKED
        if found.denied is not None:
            return found.denied
        if holding or found.holding:
            return _hold([*((rule, rule.reason) for rule in holding.values()), *found.holding], found.masks)
        return Allow(tuple(allowing), found.masks)

    def matches(self, rule: Rule, action: Action, resource: Resource) -> bool:
        """Tell whether a rule speaks of any part of a resource; in doubt it does."""
        if rule.clause is not None and not rule.clause.matches(action, resource):
            return False
        return rule.when is None or self.condition(rule, action, resource) is not False

    def covers(self, rule: Rule, action: Action, resource: Resource) -> bool:
        """Tell whether a rule permits the whole of a resource; in doubt it does not."""
        if rule.clause is None:
            # A rule that holds may speak of what nobody understands: people look at it before it runs.
            if resource.access is Access.UNKNOWN and rule.effect == "allow":
                return False
        elif not rule.clause.covers(action, resource):
            return False
        return rule.when is None or self.condition(rule, action, resource) is True

    def condition(self, rule: Rule, action: Action, resource: Resource) -> bool | None:
        """Return what a rule's condition says, None where it cannot be evaluated; True for a rule without one."""
        return rule.when is None or rule.when.holds(self._known, action, resource)

    def _matching(self, rule: Rule) -> _Test:
        return rule.clause.matches if rule.clause is not None and rule.when is None else partial(self.matches, rule)

    def _covering(self, rule: Rule) -> _Test:
        return rule.clause.covers if rule.clause is not None and rule.when is None else partial(self.covers, rule)


def concerns(rule: Rule, identity: Identity, target: Target) -> bool:
    """Tell whether a rule can bear on anything that this identity does at this target."""
    return not misses(rule, identity, target)


def misses(rule: Rule, identity: Identity, target: Target) -> str:
    """Return which part of a rule keeps it from bearing on this identity at this target, or an empty string."""
    if rule.protocols is not None and target.protocol not in rule.protocols:
        return f"{rule.clause_name}: the target speaks {target.protocol}"
    if not rule.where.has(target):
        return "where: another target"
    missed = rule.who.misses(identity)
    return f"who: {missed}" if missed else ""


def reach(policy: Policy, identity: Identity, target: Target) -> frozenset[str]:
    """Return what rules could let this identity do something at this target: `allow`, `hold`, both or nothing."""
    rules = [r for r in policy.rules if concerns(r, identity, target)]
    if any(r.effect == "deny" and r.clause is None and r.when is None for r in rules):
        return frozenset()
    return frozenset(r.effect for r in rules if r.effect != "deny")


def described(resource: Resource) -> str:
    """Return one effect in words."""
    return f"{resource.verb} on {resource.kind} {resource.name}" if resource.name != resource.verb else resource.verb


def _doubt(resource: Resource) -> str:
    if resource.facts.get("missing"):
        return ", and the target seems to have nothing of that name"
    return ", and what it does is not known" if resource.access is Access.UNKNOWN else ""


def _uses_arguments(rule: Rule) -> bool:
    by_clause = rule.clause is not None and rule.clause.uses_arguments()
    return by_clause or (rule.when is not None and rule.when.uses_arguments)


def _hold(holding: Iterable[tuple[Rule | MaskRule, str]], masks: tuple[Mask, ...]) -> Hold:
    demands = []
    waits = []
    for rule, reason in sorted(holding, key=lambda held: held[0].name):
        approval = rule.approval
        if approval is None:
            raise AssertionError("what holds says who approves; loading checks it")
        waits.append(approval.expires)
        demands.append(Demand(rule.name, reason, frozenset(approval.by), approval.votes, approval.owner_may_approve))
    return Hold(tuple(demands), min(waits), masks)
