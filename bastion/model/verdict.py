"""What the policy says of an action, and what an interceptor hears of it.

A verdict has no default and no truth value: it is matched on its type, so that no failure can read as yes.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeAlias

from bastion.model.mask import Mask


class _Outcome:
    """What verdicts share: they refuse to be tested for truth."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError("a verdict has no truth value; match on its type")


@dataclass(frozen=True, slots=True)
class Allow(_Outcome):
    """The action may run; its result is covered by `masks`."""

    rules: tuple[str, ...]
    """The names of the rules that together allow it; never empty."""
    masks: tuple[Mask, ...] = ()

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("an Allow names the rules that allow it")


@dataclass(frozen=True, slots=True)
class Deny(_Outcome):
    """The action may not run, and why, in words for the person who asked."""

    rule: str
    """The rule that denies, or `bastion:…` where no rule of the policy did."""
    reason: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What one rule wants before it lets a held action run."""

    rule: str
    reason: str
    approvers: frozenset[str]
    """Groups whose members may approve."""
    votes: int
    owner_may_approve: bool = False
    """Whether the owner of the machine that asks may approve, by a fresh login."""


@dataclass(frozen=True, slots=True)
class Hold(_Outcome):
    """The action waits until every demand is met or `expires` has passed."""

    demands: tuple[Demand, ...]
    expires: timedelta
    masks: tuple[Mask, ...] = ()

    def __post_init__(self) -> None:
        if not self.demands:
            raise ValueError("a Hold names what it waits for")


Verdict: TypeAlias = Allow | Deny | Hold
Ruling: TypeAlias = Allow | Deny
"""What an interceptor hears. It never learns that people were asked."""
