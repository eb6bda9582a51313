"""Tells the recording what the columns of a result are, where the target described its statement at another time."""

from bastion.model.text import visible
from bastion.protocols.contract import Note
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.binding import Portal, Statement


class Introductions:
    """Introduces each result once, before its first rows."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        """What is to be put on the record; whoever reads it empties it."""
        self._introduced: Portal | None = None
        self._last: tuple[Statement, tuple[int, ...]] | None = None

    def described(self) -> None:
        """Take note that the output holds a description, which later rows would be read by."""
        self._last = None

    def rows(self, portal: Portal | None) -> None:
        """Take note of rows that a portal returns; None for those of a Query, which come with their description."""
        if portal is self._introduced:
            return
        self._introduced = portal
        if portal is None or portal.described or portal.statement is None or not portal.statement.row_description:
            return
        shown = portal.statement, portal.result_formats
        if shown == self._last:
            return
        self._last = shown
        description = portal.statement.row_description
        columns = m.read_columns(description, 0, len(description))
        formats = portal.result_formats or (0,)
        if len(formats) == 1:
            formats *= len(columns)
        if len(formats) == len(columns):
            told = [[visible(name), oid, bool(form)] for (name, oid, _), form in zip(columns, formats, strict=True)]
            self.notes.append(Note("columns", {"columns": told}))
