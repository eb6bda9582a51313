"""What the target owes an answer to: one message, or one whole run of them that goes by the book."""

from typing import Any, Final

from bastion.model.action import Action
from bastion.model.text import visible
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.binding import Portal, Statement
from bastion.protocols.postgres.coverage import Coverage
from bastion.protocols.postgres.messages import Mark
from bastion.protocols.postgres.names import Change, Names
from bastion.protocols.postgres.refusal import Refusal

_QUERIED: Final = frozenset({b"CZ", b"TCZ", b"TDCZ"})
_EXECUTED: Final = frozenset({b"2CZ", b"2DCZ"})
_DESCRIBED: Final = frozenset({b"2nCZ", b"2TCZ", b"2TDCZ"})
"""The types of the messages that answer a run which goes by the book, in order."""


class Expected:
    """One message that the target is to answer, and what follows from the answer."""

    # A plain class: one is made for every message, and what is rarely set is a default of the class.
    refusal: Refusal | None = None
    """Set on a substitute: what the client is told in place of its error."""
    portal: Portal | None = None
    """What an Execute runs."""
    statement: Statement | None = None
    """What a Describe asks about."""
    coverage: Coverage | None = None
    """What covers its results, where a mask is in reach."""
    own: bool = False
    """Whether the gateway itself has asked: what is answered is not for the client."""
    single: bool = True
    """Whether a Query holds one statement, which happens as a whole or not at all."""
    doubts: bool = False
    """Whether it could do anything at all, to names as well."""
    by_name: bool = False
    """Whether what it could do is only unknown for the name that it goes by."""
    sqlstate: str = ""
    """Of the error that it was answered with."""
    tag: str = ""
    """What it was completed with; several statements of one Query parted by semicolons."""
    rows: int = 0

    def __init__(self, kind: int, changes: tuple[Change[Any], ...] = (), ticket: int = 0) -> None:
        self.kind = kind
        """The message's type; CopyDone stands for a CopyFail too."""
        self.changes = changes
        """What it does to names if it succeeds."""
        self.ticket = ticket
        """Of its judgement; 0 if it was not judged."""

    def outcome(self) -> dict[str, object]:
        """Return what the recording is told of what became of it."""
        detail: dict[str, object] = {"ticket": self.ticket, "tag": self.tag, "rows": self.rows}
        if self.sqlstate:
            detail["sqlstate"] = visible(self.sqlstate)
        elif not self.tag and self.portal is not None and not self.portal.suspended:
            detail["skipped"] = True
        if self.coverage is not None:
            detail |= self.coverage.told()
        return detail


class Run:
    """A Query, or Bind, Execute and Sync, that was sent when nothing was owed, and does nothing to the session.

    Says in one object what the `Expected` of each of its messages would say. `unfolded` gives those, for whatever does
    not go by the book.
    """

    ticket: int = 0
    """Of its judgement."""

    def __init__(self, number: int, action: Action, portal: Portal | None, *, described: bool) -> None:
        self.number = number
        """Of the run of messages up to a Sync."""
        self.action = action
        self.portal = portal
        """The unnamed one, which was bound and runs; None for a Query."""
        self.described = described
        """Whether the portal is to be described, too."""

    def unfolded(self, portals: Names[Portal]) -> list[Expected]:
        """Return what the target owes to each of its messages."""
        portal = self.portal
        if portal is None:
            return [Expected(m.QUERY, (), self.ticket)]
        bound = Expected(m.BIND, (portals.change(b"", portal, self.number),))
        executed = Expected(m.EXECUTE, (), self.ticket)
        executed.portal = portal
        described = [Expected(m.DESCRIBE)] if self.described else []
        return [bound, *described, executed, Expected(m.SYNC)]

    def is_answered_by(self, marks: list[Mark]) -> bool:
        """Tell whether a read holds all of its answer, nothing else, and no error."""
        tags = bytes([mark[0] for mark in marks])
        return tags in (_QUERIED if self.portal is None else _DESCRIBED if self.described else _EXECUTED)
