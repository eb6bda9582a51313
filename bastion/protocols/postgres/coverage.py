"""What the masks of one ruling make of what comes back: which columns of which result are covered, and by what.

The lineage of the text says where each column comes from, and the target's own description says it once more for plain
columns. Either is enough for a column to be covered. A result that the lineage does not speak of ends the conversation.
"""

from functools import partial
from typing import Final, Protocol

from bastion.errors import ProtocolError
from bastion.model.mask import CoverKind, Mask
from bastion.model.text import visible
from bastion.protocols.postgres.covering import types as t
from bastion.protocols.postgres.covering.copied import Copied, copied
from bastion.protocols.postgres.covering.description import Column, read_copy_out, read_description
from bastion.protocols.postgres.covering.grammar import CopyFormat, Form
from bastion.protocols.postgres.covering.rows import Covering, cover_rows
from bastion.protocols.postgres.covering.values import covering
from bastion.protocols.postgres.layout import is_readable, layout
from bastion.protocols.postgres.searching import Passing, Search, Texts, finder
from bastion.protocols.postgres.sql.reading import FUNCTION, Origin, Outputs, Reading

_STRENGTH: Final = {
    CoverKind.FULL: 0,
    CoverKind.NULL: 1,
    CoverKind.FIXED: 2,
    CoverKind.HASH: 3,
    CoverKind.PARTIAL: 4,
}


class Knowledge(Protocol):
    """What is known of the target's columns and types; a session's analyst knows it."""

    @property
    def types(self) -> t.Types:
        """Its types, by OID."""

    def watched_at(self, relation: int, number: int) -> frozenset[Origin]:
        """Return what a column is an origin of, by its table's OID and its number there; nothing if none watches it."""

    @property
    def count(self) -> int:
        """How many changes of the catalog by sessions of this gateway have been counted so far."""

    def type_of(self, origin: Origin) -> int:
        """Return the OID of a column's type, or 0."""


class Unreadable(Exception):
    """What comes back could not be read, and so not be covered; says why in words for the client."""


class Coverage:
    """Covers what one execution returns. Follows its results in turn."""

    def __init__(
        self, reading: Reading, masks: tuple[Mask, ...], knowledge: Knowledge, key: bytes, as_of: int | None = None
    ) -> None:
        """`key` is the session's own, `as_of` how many changes of the catalog had been counted by the reading.

        Raises `Unreadable` if the results will be in a form that is not read.
        """
        self.as_of = knowledge.count if as_of is None else as_of
        """What a change counted since then may have made of the text, nobody has read: all it shows is covered."""
        self._masks = sorted((m for m in masks if m.columns), key=_strength)
        self._searching = [Search(m, key) for m in masks if m.searches]
        self._knowledge = knowledge
        self._key = key
        self._traced = bool(reading.outputs)
        self._results = {outputs.statement: outputs for outputs in reading.outputs}
        self._statement = 0
        """The place in the text of the statement that is running."""
        self._coverings: list[Covering | None] = []
        self._finders: list[Covering | None] = []
        self._known = self._covers = self._finds = self._json = self._hot = False
        self._stream: Copied | None = None
        self._covered: dict[str, str] = {}
        self.searches = bool(self._searching)
        """Whether texts are searched."""
        self.quiet = bool(self._masks)
        """Whether what the target says in words could quote a value that is masked."""
        if self.quiet:
            for outputs in reading.outputs:
                if not is_readable(outputs.copied):
                    raise Unreadable("copied data that is masked is only read in UTF-8: leave ENCODING out")
        if self._searching and reading.unusual_copy:
            raise Unreadable(
                "what is copied is only searched in its usual forms: leave DELIMITER, QUOTE and ESCAPE out"
            )

    def described(self, data: bytes, start: int, end: int) -> None:
        """Take a RowDescription message: the next result has these columns."""
        columns = read_description(data, start, end)
        outputs = self._next()
        self._coverings, self._finders, self._json = [], [], False
        for index, column in enumerate(columns):
            origins, bare = _at(outputs, index)
            known = self._knowledge.watched_at(column.relation, column.number)
            self._column(column, origins | known, bare and (outputs is None or known <= origins), together=True)
        if outputs is not None and len(outputs.columns) > len(columns):
            raise ProtocolError("the target describes fewer columns than the statement was read to have")
        self._known = True
        self._covers = any(c is not None for c in self._coverings)
        self._finds = any(f is not None for f in self._finders)

    def rows(self, data: bytes, start: int, end: int) -> bytes | None:
        """Return a run of DataRow messages as the client is to see it; None if that is as it came."""
        if not self._known:
            raise ProtocolError("the target sends rows that it has not described")
        if self._finds and self._is_suspicious(memoryview(data)[start:end]):
            return self._searched(data, start, end)
        return cover_rows(data, start, end, self._coverings) if self._covers else None

    def _searched(self, data: bytes, start: int, end: int) -> bytes:
        """Return a run of rows with what is found in them covered. Cells of text are searched together."""
        texts = [f for f in self._finders if isinstance(f, Texts)]
        if texts:
            cover_rows(data, start, end, [f if isinstance(f, Texts) else None for f in self._finders])
        for text in texts:
            text.search()
        both = [first or second for first, second in zip(self._coverings, self._finders, strict=True)]
        covered = cover_rows(data, start, end, both)
        for text in texts:
            text.forget()
        return covered

    def copies(self, data: bytes, start: int, end: int) -> None:
        """Take a CopyOutResponse message: what follows is copied data."""
        binary, count = read_copy_out(data, start, end)
        outputs = self._next()
        self._stream = None
        if outputs is None:
            # Nothing in it is watched, and nobody has read how it is written.
            if binary and self._searching:
                self._stream = copied(CopyFormat(Form.BINARY), [self._emptied] * count)
            return
        if outputs.copied is None or (outputs.copied.format == "binary") is not binary:
            raise ProtocolError("the target copies data in another form than the statement was read to ask for")
        self._coverings, self._finders, self._json = [], [], False
        for index in range(count):
            origins, bare = _at(outputs, index)
            oid = self._knowledge.type_of(next(iter(origins))) if len(origins) == 1 and bare else 0
            name = outputs.columns[index].name if index < len(outputs.columns) else str(index + 1)
            self._column(Column(name, 0, 0, oid or (0 if binary else t.TEXT), -1, binary), origins, bare)
        coverings = [first or second for first, second in zip(self._coverings, self._finders, strict=True)]
        if any(c is not None for c in coverings):
            self._stream = copied(layout(outputs.copied), coverings)

    def copied(self, data: bytes, start: int, end: int) -> bytes | None:
        """Return a run of CopyData messages as the client is to see it; None if that is as it came."""
        if self._stream is not None:
            # A row that came in parts may have what is looked for in any of them.
            suspicious = bool(self._searching) and self._is_suspicious(memoryview(data)[start:end])
            self._hot = suspicious or self._stream.unfinished
            return self._stream.cover(data, start, end)
        if not self._searching or not self._is_suspicious(memoryview(data)[start:end]):
            return None
        return Passing([search.text_only for search in self._searching]).cover(data, start, end)

    def copied_all(self) -> None:
        """Take the end of copied data."""
        if self._stream is not None:
            self._stream.finish()
            self._stream = None

    def completed(self) -> None:
        """Take the end of one statement, whether it had a result or not: what comes then is the next one's."""
        self._statement += 1

    def finds(self, text: bytes) -> bool:
        """Tell whether anything of what is searched for is in a text, which is no part of a result."""
        return any(search.notes(text) for search in self._searching)

    def told(self) -> dict[str, object]:
        """Return what the record says of it: which columns a mask has covered, and what was found, never a value."""
        found: dict[str, int] = {}
        for search in self._searching:
            for kind, count in search.counts.items():
                found[kind] = found.get(kind, 0) + count
        return ({"covered": dict(self._covered)} if self._covered else {}) | ({"found": found} if found else {})

    def _next(self) -> Outputs | None:
        if not self._traced:
            return None
        found = self._results.pop(self._statement, None)
        if found is None:
            raise ProtocolError("the target returns a result that the statement was not read to have")
        return found

    def _column(self, column: Column, origins: frozenset[Origin], bare: bool, *, together: bool = False) -> None:
        """Take one more column of a result; `together` if its cells can be searched many at a time."""
        types = self._knowledge.types
        mask = next((m for m in self._masks if _means(m, origins)), None)
        if self._masks and self._knowledge.count != self.as_of:
            mask, bare = self._masks[0], False
        if mask is not None:
            self._covered[visible(column.name)] = mask.name
            self._coverings.append(
                covering(
                    mask.cover,
                    self._key,
                    column.type,
                    column.binary,
                    types,
                    modifier=column.modifier,
                    derived=not bare,
                )
            )
            self._finders.append(None)
            return
        self._coverings.append(None)
        searches = self._searching if t.holds_text(column.type, types) else []
        self._json = self._json or t.resolved(column.type, types) in (t.JSON, t.JSONB)
        found = finder(searches, column, types, together=together) if searches else None
        self._finders.append(found if together or found is None else partial(self._if_hot, found))

    def _if_hot(self, find: Covering, cell: bytes) -> bytes | None:
        return find(cell) if self._hot else cell

    def _is_suspicious(self, run: memoryview) -> bool:
        return any(search.suspects(run, json=self._json) for search in self._searching)

    def _emptied(self, cell: bytes) -> bytes | None:
        """Cover a cell of which nothing is known by NULL, which is valid whatever its type, if anything is in it."""
        return None if sum(search.notes(cell) for search in self._searching) else cell


def _strength(mask: Mask) -> tuple[int, int, str]:
    """Order masks by how little they show."""
    return _STRENGTH[mask.cover.kind], mask.cover.keep, mask.name


def _means(mask: Mask, origins: frozenset[Origin]) -> bool:
    return any(
        mask.doubts(name) if relation == FUNCTION else mask.names(f"{relation}.{name}") for relation, name in origins
    )


def _at(outputs: Outputs | None, index: int) -> tuple[frozenset[Origin], bool]:
    """Return what the column at `index` comes from, and whether it is that unchanged."""
    if outputs is None:
        return frozenset(), True
    if index < len(outputs.columns):
        column = outputs.columns[index]
        return column.origins, column.bare
    if outputs.rest is None:
        raise ProtocolError("the target describes more columns than the statement was read to have")
    return outputs.rest, False
