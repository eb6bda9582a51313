"""One session's verdicts: the policy that is in force, asked once for each form of action."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from bastion.gateway import records
from bastion.model.action import Access, Action
from bastion.model.session import Session
from bastion.model.verdict import Verdict
from bastion.policy.document import Policy
from bastion.policy.evaluation import Judge

_KEPT = 512
"""Verdicts remembered for one session."""
_LONG = 16 * 1024
"""Characters of a text above which its verdict is not worth the memory that the text takes."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and its entry as far as it does not depend on arguments."""

    form: Action
    """Kept so that its identity, by which the judgement is found again, cannot be given to another object."""
    verdict: Verdict
    syncs: bool
    """Whether its entry has to be on the disk before it may leave: it can change something."""
    record: bytes


class Judging:
    """Judges one session's actions under whatever policy is in force when they arrive."""

    def __init__(self, session: Session, policy: Callable[[], Policy]) -> None:
        self._session = session
        self._policy = policy
        self._bound: Policy | None = None
        self._judge: Judge
        self._kept: OrderedDict[int, Judgement] = OrderedDict()

    @property
    def policy_version(self) -> str:
        """The version of the policy that is in force."""
        return self._policy().version

    def judge(self, action: Action) -> Judgement:
        """Return the verdict on `action`: one object for all executions of a form, where arguments don't matter."""
        policy = self._policy()
        if policy is not self._bound:
            self._judge = Judge(policy, self._session.identity, self._session.target)
            self._kept.clear()
            self._bound = policy
        form = action.form or action
        kept = self._kept.get(id(form))
        if kept is not None:
            return kept
        verdict = self._judge.evaluate(action)
        judgement = Judgement(form, verdict, action.access > Access.READ, records.judged_form(action, verdict))
        if not self._judge.uses_arguments and len(form.text) <= _LONG:
            self._kept[id(form)] = judgement
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return judgement
