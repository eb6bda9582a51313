"""The policy as people write it: the keys of a document and of a rule, and what each may hold."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bastion.policy.validation import shown

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


Word = Annotated[str, Field(min_length=1)]
Strings = Annotated[tuple[Word, ...], BeforeValidator(_several), Field(min_length=1)]
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

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("expected groups, subjects, kind or actor, found none of them")
        return self


class WhereModel(_Model):
    """Where a rule applies: targets that satisfy every member given."""

    targets: Strings | None = None
    """Targets by name."""
    labels: Annotated[dict[str, str], Field(min_length=1)] | None = None
    """Labels that the target has, with these values."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("expected targets or labels, found neither")
        return self


class ApprovalModel(_Model):
    """What a rule that holds waits for."""

    by: Strings
    """Groups whose members may approve. Machines, and agents that act for somebody, never may."""
    votes: int = Field(default=1, ge=1, le=16)
    """How many different people have to approve."""
    expires: Duration = timedelta(minutes=15)
    """How long a request waits, such as 15m."""
    owner_may_approve: bool = False
    """Whether the owner of a machine identity may approve what it asks, having logged in since: the issuer has to say
    in `auth_time` when that was."""


class RuleModel(_Model):
    """One rule. Beside these keys it may have one clause of a protocol, such as `sql`."""

    name: str = Field(pattern=_NAME)
    """Its name: what a denial names, and what the record keeps."""
    effect: Literal["allow", "hold", "deny"]
    """What it does where it matches: deny beats hold beats allow, and what nothing allows is denied."""
    who: WhoModel | None = None
    """Whom it speaks of; everybody if left out."""
    where: WhereModel | None = None
    """Where it applies; everywhere if left out."""
    anything: Literal[True] | None = None
    """Says, for a rule that allows or holds without a clause, that every action is meant. An effect that is not
    understood is still held at best: only a clause that speaks of it allows it."""
    when: str | None = None
    """A condition in CEL over `identity`, `target`, `action` and `resource`. One that cannot be evaluated never helps
    the one who asks; one over `action.arguments` cannot be where an argument is bound in a binary format."""
    approval: ApprovalModel | None = None
    """Who approves; for rules that hold, and only for them."""
    reason: str = Field(default="", max_length=500)
    """Why, in words for the person who is told."""


class PartialModel(_Model):
    """What `partial` leaves."""

    keep: int = Field(ge=1, le=64)
    """How many characters at the end stay, though never more than half of them. A mail address keeps its first letter
    and its top-level domain instead."""


class CoverModel(_Model):
    """A cover that takes a value of its own."""

    partial: PartialModel | None = None
    """As `partial`, with another number of characters than 4."""
    fixed: str | None = Field(default=None, max_length=200)
    """A text that stands in every value's place, where the column's type can hold it."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if not isinstance(self, PlainCover) and (self.partial is None) == (self.fixed is None):
            raise ValueError("expected partial or fixed, found neither or both")
        return self


class PlainCover(CoverModel):
    """A cover that is only a word."""

    word: Literal["full", "partial", "hash", "null"]


_COVERS = ("full", "partial", "hash", "null")


def _cover(value: Any) -> Any:
    if isinstance(value, str) and value in _COVERS:
        return PlainCover.model_construct(word=value)
    if not isinstance(value, dict):
        raise ValueError(f"expected {', '.join(_COVERS)}, or a mapping with partial or fixed, found {shown(value)}")
    return value


class MaskModel(_Model):
    """One mask: what is covered, how, and whom it spares."""

    name: str = Field(pattern=_NAME)
    """Its name: what the record and a denial name."""
    where: WhereModel | None = None
    """Where it applies; everywhere if left out."""
    unless: WhoModel | None = None
    """Whom it spares; nobody if left out."""
    columns: Strings | None = None
    """Columns as `schema.table.column`; `*` stands for any part of a name. One that a target does not have is an
    error, never silence."""
    detect: Strings | None = None
    """Named detectors, run over every text that comes back whose column is not covered anyway."""
    patterns: Annotated[dict[str, Word], Field(min_length=1)] | None = None
    """Detectors of your own: a name, and a regular expression in RE2's syntax."""
    cover: Annotated[CoverModel, BeforeValidator(_cover)]
    """`full`, `partial`, `hash` or `null`, or a mapping with `partial` or `fixed`: what stands in a value's place. A
    value that is computed from a column is covered whole."""
    predicates: Literal["allow", "hold", "deny"] | None = None
    """What becomes of a statement that depends on a column in another way than showing it: a comparison, an order, a
    group, a join. Comparing it with a value that the user gives is not held, but is denied by `deny`. Left out, it is
    `hold` where `approval` says who approves, and `deny` elsewhere."""
    approval: ApprovalModel | None = None
    """Who approves what `predicates` holds."""
    trusts: Strings | None = None
    """Functions, as `schema.name`, whose results show nothing of the columns. What any other function that is not
    built in returns is covered."""


class AuditorsModel(_Model):
    """Who may read every recording. Everybody may read their own."""

    groups: Strings
    """Groups whose members are auditors."""
