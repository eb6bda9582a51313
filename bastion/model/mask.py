"""What is covered in what comes back, and how; and the ways in which a statement can use what is to be covered."""

import enum
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

USES: Final = "uses"
"""The fact of a resource under which its classifier says how each watched field is used, by the name masks know it by.

One field can go by several names, as that of a part and that of the whole. For a function that nobody vouches for it
says, under any one key, how its result is used."""

BECAUSE: Final = "because"
"""The fact beside it that says in words, by the same keys, why a use is more than showing the field."""
ANY: Final = "*"
"""Stands among the uses for whatever is watched, where what comes back could be any of it."""


class CoverKind(enum.Enum):
    """What stands in the place of a covered value."""

    FULL = "full"
    """A constant, valid for the type."""
    PARTIAL = "partial"
    """The last characters, or a mail address's first letter and top-level domain; the rest is struck out."""
    HASH = "hash"
    """A keyed digest, the same for the same value within one session."""
    NULL = "null"
    FIXED = "fixed"
    """A text of the policy's."""


@dataclass(frozen=True, slots=True)
class Cover:
    """How a value is covered."""

    kind: CoverKind
    keep: int = 4
    """Characters at the end that `partial` leaves."""
    text: str = ""
    """What `fixed` puts in the value's place."""


class Predicates(enum.Enum):
    """What becomes of a statement whose outcome depends on a covered field in another way than showing it."""

    ALLOW = "allow"
    HOLD = "hold"
    DENY = "deny"


class Use(enum.StrEnum):
    """How a statement uses a watched field."""

    OUTPUT = "output"
    """It, or something computed from it, is shown: to be covered."""
    EQUALITY = "equality"
    """It is compared for equality with a value that the user supplied."""
    PREDICATE = "predicate"
    """What the statement does or shows otherwise depends on it: a comparison, an order, a group, a join."""
    WRITTEN = "written"
    """It is written to where it would not be covered."""
    UNTRACED = "untraced"
    """It could go anywhere: what uses it is not understood."""


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask of the policy, carried by the `Allow` that it belongs to."""

    name: str
    cover: Cover
    columns: tuple[str, ...] = ()
    """Patterns of `schema.table.column`, where `*` stands for any part of one name."""
    detectors: tuple[str, ...] = ()
    """Named detectors, run over every text that comes back."""
    patterns: tuple[tuple[str, str], ...] = ()
    """Further detectors of the policy's own: a name and a regular expression."""
    predicates: Predicates = Predicates.HOLD
    trusts: tuple[str, ...] = ()
    """Functions, as `schema.name`, whose results show nothing of the columns."""

    @property
    def searches(self) -> bool:
        """Whether it runs detectors."""
        return bool(self.detectors or self.patterns)

    def names(self, column: str) -> bool:
        """Tell whether one of its patterns means a column, given as `schema.table.column`."""
        return any(_pattern(pattern).fullmatch(column) for pattern in self.columns)

    def doubts(self, function: str) -> bool:
        """Tell whether what a function that nobody vouches for returns may show its columns."""
        return bool(self.columns) and function not in self.trusts


@lru_cache(4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Return a pattern of column names as an expression; more than it may name is covered, never less."""
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
