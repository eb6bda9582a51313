"""Statements, and the portals that binding one to its arguments makes."""

from typing import Final

from bastion.model.action import Access, Action, Argument, Resource
from bastion.protocols.postgres.coverage import Coverage
from bastion.protocols.postgres.messages import Bound
from bastion.protocols.postgres.sql.reading import Reading

_FACTS_KEPT: Final = 64

UNKNOWN: Final = Reading(
    Action("postgres", "unknown", "", (Resource("statement", "", "unknown", Access.UNKNOWN),)), statements=1
)
"""The reading of what we cannot tell."""

# Plain classes: these are made for every execution, and what is rarely set is a default of the class.


class Statement:
    """A prepared statement."""

    def __init__(self, text: bytes | None, reading: Reading, generation: int, types: tuple[int, ...] = ()) -> None:
        self.text = text
        """As Parse sent it; None if SQL's PREPARE made it, whose text we do not have apart."""
        self.source = b""
        """The text that holds such a PREPARE and nothing else; empty if there was more in it."""
        self.reading = reading
        self.generation = generation
        """Of the reading: statements are read again when paths or catalog have changed, as the target plans again."""
        self.types = types
        self.row_description = b""
        """What the target answered to a Describe of it."""
        self._facts: dict[tuple[int, ...], dict[str, object]] = {}

    def read_as(self, reading: Reading, generation: int) -> None:
        """Take over a newer reading."""
        self.reading = reading
        self.generation = generation
        self._facts.clear()

    def facts(self, formats: tuple[int, ...]) -> dict[str, object]:
        """Return the facts of an execution with arguments in `formats`; the same object each time."""
        facts = self._facts.get(formats)
        if facts is None:
            if len(self._facts) >= _FACTS_KEPT:
                self._facts.clear()
            told = {"types": list(self.types), "formats": list(formats)}
            facts = self._facts[formats] = {**self.reading.action.facts, **told}
        return facts

    def means(self, other: "Statement | Portal") -> bool:
        """Tell whether both do the same."""
        return isinstance(other, Statement) and self.reading is other.reading and self.types == other.types


class Portal:
    """A statement with its arguments, ready to run. Keeps the reading it was bound with."""

    holdable = False
    allowed = False
    """Whether its first execution was judged already, when it was bound."""
    approved = False
    """Whether people approved its execution."""
    ticket = 0
    """Of its latest judgement."""
    suspended = False
    """Whether the target has answered that there are more rows of the same execution."""
    statement: Statement | None = None
    """What it was bound from, where a client bound it."""
    result_formats: tuple[int, ...] = ()
    epoch = 0
    """When it was bound, as `Understanding` counts what the session changes; 0 where that does not bear on it."""
    as_of: int | None = None
    """How many changes of the catalog had been counted when it was bound; None where that does not bear on it."""
    coverage: Coverage | None = None
    """What covers what it returns, as its latest ruling wants it."""
    described = False
    """Whether the client asked for a description of the portal itself."""

    def __init__(
        self, reading: Reading, arguments: tuple[Argument, ...] = (), facts: dict[str, object] | None = None
    ) -> None:
        self.reading = reading
        self.arguments = arguments
        self.facts = facts

    def called(self, reading: Reading) -> Action:
        """Return the action of running it, which `reading` tells."""
        return reading.action.called_with(self.arguments, self.facts) if self.arguments else reading.action

    def means(self, other: "Statement | Portal") -> bool:
        """Tell whether both are one."""
        return self is other


def cursor(reading: Reading, *, holdable: bool) -> Portal:
    """Return the portal that SQL's DECLARE makes."""
    portal = Portal(reading)
    portal.holdable = holdable
    return portal


def arguments_of(bound: Bound) -> tuple[Argument, ...] | None:
    """Return bound values as an action carries them; None if one of them is not the text that it claims to be."""
    values, formats = bound.values, bound.formats
    if not values:
        return ()
    if formats == (1,):
        return values
    try:
        if len(formats) <= 1:
            return tuple([None if v is None else v.decode() for v in values])
        return tuple([v if v is None or binary else v.decode() for v, binary in zip(values, formats, strict=True)])
    except UnicodeDecodeError:
        return None


UNKNOWN_STATEMENT: Final = Statement(None, UNKNOWN, 0)
UNKNOWN_PORTAL: Final = cursor(UNKNOWN, holdable=True)
"""What nobody knows does not end with its transaction either, as far as anybody knows."""
