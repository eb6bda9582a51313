"""What was understood of one SQL text: the seam between the wire and the analysis.

The wire asks an `Analyst` to read a text, sends the action to be judged, and follows the session effects once the
target has confirmed them. The analysis never learns what was sent; the wire never looks into the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from bastion.model.action import Action
from bastion.protocols.postgres.covering.types import Types

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
    aside: bool = False
    """Whether what it returns is not what the client gets: it is explained, or put into a table."""


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
    """Whether it leaves alone what was there: what was read still holds, as far as it goes."""
    own: bool = False
    """Whether it concerns nothing but temporary objects of the session, which nobody else sees."""
    names: frozenset[str] = frozenset()
    """The tables and views that it bears on, by their names alone."""


@dataclass(frozen=True, slots=True)
class EndsTransaction:
    """COMMIT, ROLLBACK or PREPARE TRANSACTION: portals that are not holdable are gone."""


@dataclass(frozen=True, slots=True)
class RollsBack:
    """ROLLBACK TO: what the transaction has changed of the catalog may be as it was before."""


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
    | RollsBack
    | DiscardsAll
)


Origin: TypeAlias = tuple[str, str]
"""Where a value comes from: the full name of a relation and a column; or `FUNCTION` and the full name of one."""
FUNCTION: Final = "function"
"""In the place of a relation: the result of a function of which nobody knows what it shows."""


@dataclass(frozen=True, slots=True)
class Output:
    """One column of what a statement returns."""

    name: str
    """As the row description has it."""
    origins: frozenset[Origin]
    """What of it is watched; empty if nothing is."""
    bare: bool
    """Whether it is the unchanged value of each of its origins."""


@dataclass(frozen=True, slots=True)
class CopyForm:
    """How COPY … TO STDOUT writes its rows. None where the target's default holds."""

    format: str = "text"
    """`text`, `csv` or `binary`."""
    delimiter: str | None = None
    null: str | None = None
    quote: str | None = None
    escape: str | None = None
    header: bool = False
    force_quote: tuple[str, ...] | None = None
    """The columns that are always quoted; `*` for all."""
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """What one statement returns to the client."""

    statement: int
    """Its place in the text, from 0."""
    columns: tuple[Output, ...] = ()
    rest: frozenset[Origin] | None = None
    """What any further column comes from, derived; empty if nothing of that is watched. None: there is none."""
    copied: CopyForm | None = None
    """For COPY: it sends no row description."""
    effect: int | None = None
    """The effect, by its place in the reading, that names what returns this; `compose` puts its outputs here."""

    @property
    def shows(self) -> bool:
        """Whether anything of it comes from what is watched."""
        return bool(self.rest) or any(column.origins for column in self.columns)


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
    outputs: tuple[Outputs, ...] = ()
    """What each statement that returns something returns, in order; empty where nothing watched is in any of it."""

    unusual_copy: bool = False
    """Whether it copies rows to the client with marks of its own between and around values, or in another encoding."""

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

    @property
    def count(self) -> int:
        """How many changes of the catalog by sessions of this gateway have been counted so far."""
        ...

    @property
    def types(self) -> Types:
        """The database's types, by OID."""
        ...

    def watched_at(self, relation: int, number: int) -> frozenset[Origin]:
        """Return what a column is an origin of, by its table's OID and its number there."""
        ...

    def type_of(self, origin: Origin) -> int:
        """Return the OID of a column's type, or 0 where that is not known."""
        ...

    def begins(self, session: object, names: frozenset[str]) -> None:
        """Take note that a session changes the catalog of what goes by these names, and has not committed it."""
        ...

    def ends(self, session: object) -> None:
        """Take note that nothing of a session's changes is under way any more."""
        ...

    def is_contested(self, session: object, reading: "Reading") -> bool:
        """Tell whether a text touches what another session has changed and not committed."""
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
