"""What was understood of one SQL text: the seam between the wire and the analysis.

The wire asks an `Analyst` to read a text, sends the action to be judged, and follows the session effects once the
target has confirmed them. The analysis never learns what was sent; the wire never looks into the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bastion.model.action import Action

SearchPath: TypeAlias = tuple[str, ...]
"""Schemas in the order in which PostgreSQL looks for an unqualified name, `pg_catalog` and `pg_temp` left implicit."""


@dataclass(frozen=True, slots=True)
class Prepares:
    """`PREPARE name AS …`, or what a Parse message does to the same map."""

    name: str
    reading: "Reading"


@dataclass(frozen=True, slots=True)
class Executes:
    """`EXECUTE name`: does what was prepared under that name."""

    name: str


@dataclass(frozen=True, slots=True)
class Deallocates:
    """`DEALLOCATE name`; None for all."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Declares:
    """`DECLARE name CURSOR FOR …`: opens a portal of that name."""

    name: str
    reading: "Reading"
    holdable: bool


@dataclass(frozen=True, slots=True)
class Fetches:
    """`FETCH … name` or `MOVE … name`: runs the portal of that name."""

    name: str


@dataclass(frozen=True, slots=True)
class Closes:
    """`CLOSE name`; None for all."""

    name: str | None


@dataclass(frozen=True, slots=True)
class SetsPath:
    """The search path may be `path` from now on (or may return to any earlier one)."""

    path: SearchPath


@dataclass(frozen=True, slots=True)
class ChangesCatalog:
    """The catalog that was read may be out of date once this has run."""

    adds: bool = False
    """Whether it leaves alone what was there, or concerns the session only: what others have read still holds."""


@dataclass(frozen=True, slots=True)
class EndsTransaction:
    """COMMIT, ROLLBACK or PREPARE TRANSACTION: portals that are not holdable are gone."""


@dataclass(frozen=True, slots=True)
class DiscardsAll:
    """`DISCARD ALL`: statements, portals and settings are as at the start."""


SessionEffect: TypeAlias = (
    Prepares
    | Executes
    | Deallocates
    | Declares
    | Fetches
    | Closes
    | SetsPath
    | ChangesCatalog
    | EndsTransaction
    | DiscardsAll
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One text, read."""

    action: Action
    """The form of the action: without arguments. For a text that cannot be read, names no resource (UNKNOWN)."""
    effects: tuple[SessionEffect, ...] = ()
    """What it does to the state of the session, in the order in which it happens."""
    sqlstate: str = ""
    """Empty if the text could be read; else what the gateway answers, such as 42601 or 54001."""
    message: str = ""
    """The error's text, where there is a `sqlstate`. Never echoes the statement."""
    position: int = 0
    """The error's position in characters from 1, or 0."""
    statements: int = 1
    """How many statements the text holds."""

    @property
    def readable(self) -> bool:
        """Tell whether the text was understood as SQL."""
        return not self.sqlstate


class Analyst(Protocol):
    """Reads SQL for one session's database and role, against one snapshot of its catalog."""

    @property
    def outdated(self) -> bool:
        """Whether a session of this gateway has changed the catalog since it was read."""
        ...

    def changed(self) -> None:
        """Have every analyst of this database know that its catalog is being changed, or has been."""
        ...

    def read(self, text: bytes, paths: frozenset[SearchPath], types: tuple[int, ...] = ()) -> Reading:
        """Return what `text` means under every search path that the session may have; the worst of them counts.

        `types` are the OIDs that a Parse message declares for parameters: binding one may run checks of its type.
        Never raises: whatever cannot be read comes back as an unreadable `Reading`. Cached by text.
        """
        ...

    def compose(self, reading: Reading, prepared: Mapping[str, Reading], portals: Mapping[str, Reading]) -> Reading:
        """Return `reading` with the effects of every statement and portal that it runs by name.

        A name that is not in the maps makes the action UNKNOWN.
        """
        ...
