"""What the target still owes an answer to, and what its answers mean for the state of the session.

The target answers in the order in which it was asked. When an extended-protocol message fails, it skips everything up
to the next Sync; a Query that fails skips nothing. While it takes COPY data in, it ignores Flush and Sync.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from bastion.errors import LimitExceeded, ProtocolError, UnreadableStream
from bastion.protocols.contract import Note
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres import tags
from bastion.protocols.postgres.binding import UNKNOWN_PORTAL, UNKNOWN_STATEMENT, Portal, Statement
from bastion.protocols.postgres.introducing import Introductions
from bastion.protocols.postgres.messages import Mark
from bastion.protocols.postgres.names import Names
from bastion.protocols.postgres.owed import Expected, Run
from bastion.protocols.postgres.refusal import is_of_substitute
from bastion.protocols.postgres.withholding import Withholding

_OWED_AT_MOST: Final = 100_000
"""Answers owed at once."""
PINNED: Final = frozenset(
    {b"client_encoding", b"standard_conforming_strings", b"session_authorization", b"is_superuser"}
)
"""Reported settings that decide how text is read and as whom it runs. One that changes ends the conversation."""

_NO_SUCH_NAME: Final = frozenset({"26000", "34000"})
IDLE: Final = ord("I")
FAILED: Final = ord("E")
_STATUSES: Final = frozenset(b"ITE")


class Answers:
    """Follows the target's answers, and changes the maps of names by nothing else."""

    def __init__(self, parameters: dict[bytes, bytes]) -> None:
        self.statements: Names[Statement] = Names(UNKNOWN_STATEMENT)
        self.portals: Names[Portal] = Names(UNKNOWN_PORTAL)
        self.status = IDLE
        """The transaction status of the latest ReadyForQuery."""
        self.copying_in = False
        """Whether the target reads COPY data."""
        self._awaits = True
        """Whether the target has been sent nothing to answer since it was ready."""
        self.failed_run = False
        """Whether the target skips whatever comes until the next Sync that it has not seen yet."""
        self.notes: list[Note] = []
        """What is to be put on the record behind the output it speaks of; whoever reads it empties it."""
        self._introductions = Introductions()
        self.introductions = self._introductions.notes
        """What is to be put on the record before that; likewise."""
        self._pinned = {k: v for k, v in parameters.items() if k in PINNED}
        self._owed: deque[Expected] = deque()
        self._run: Run | None = None
        """A run that is all there is owed, as long as nothing has to be said of its messages one by one."""
        self._copying_out = False
        self._ignored_syncs = 0
        self.withholding = Withholding()

    @property
    def outstanding(self) -> int:
        """How many messages the target has not answered yet."""
        self.unfold()
        return len(self._owed)

    @property
    def ready_is_due(self) -> bool:
        """Tell whether the target is going to report ReadyForQuery without being sent anything more."""
        self.unfold()
        return any(e.kind in (m.SYNC, m.QUERY) for e in self._owed)

    @property
    def ready(self) -> bool:
        """Tell whether the target waits for a message, and nothing that it was sent belongs to what may come next."""
        return self._awaits and self.settled

    @property
    def running(self) -> bool:
        """Tell whether the target may be running a statement."""
        self.unfold()
        return any(e.kind in (m.EXECUTE, m.QUERY) for e in self._owed)

    @property
    def executing(self) -> Iterator[Portal]:
        """Yield the portals that the target has been told to run, and has not said to have run."""
        self.unfold()
        return (e.portal for e in self._owed if e.kind == m.EXECUTE and e.portal is not None)

    @property
    def settled(self) -> bool:
        """Tell whether nothing is owed: what was said before is all there is to know."""
        return not self._owed and self._run is None and not self.failed_run and not self._ignored_syncs

    def expect_run(self, run: Run) -> None:
        """Take note that the target is sent a whole run, while nothing else is owed."""
        if not self.settled:
            raise AssertionError("something else is owed")
        self._run = run
        self._awaits = False

    def unfold(self) -> None:
        """Take the messages of a run one by one from here on."""
        run, self._run = self._run, None
        if run is not None:
            self._owed.extend(run.unfolded(self.portals))

    def expect(self, expected: Expected) -> None:
        """Take note that the target is sent something that it will answer."""
        self.unfold()
        if len(self._owed) >= _OWED_AT_MOST:
            raise LimitExceeded(f"more than {_OWED_AT_MOST} messages wait for the target's answer")
        self._owed.append(expected)
        self._awaits = False
        self.withholding.reached(expected.coverage)

    def ignore_sync(self) -> None:
        """Take note of a Sync that the target ignores if it still reads COPY data."""
        self._ignored_syncs += 1

    def take(self, data: bytes, marks: list[Mark]) -> bytes:
        """Follow what the target sent; return what the client is to see, which is the same but for refusals."""
        run = self._run
        if run is not None:
            if run.is_answered_by(marks):
                self._run = None
                self._complete(run, data, marks)
                return data
            self.unfold()
        kept = 0
        pieces: list[bytes] = []
        for tag, start, end in marks:
            replacement = _FOLLOWED[tag](self, data, start, end)
            if replacement is not None:
                pieces.append(data[kept:start])
                pieces.append(replacement)
                kept = end
        if not pieces:
            return data
        pieces.append(data[kept:])
        return b"".join(pieces)

    def _complete(self, run: Run, data: bytes, marks: list[Mark]) -> None:
        """Follow the whole answer to a run: its last messages are CommandComplete and ReadyForQuery."""
        portal = run.portal
        (_, start, end), (_, ready, _) = marks[-2], marks[-1]
        if run.described or marks[0][0] == m.ROW_DESCRIPTION:
            self._introductions.described()
        if len(marks) > 2 and marks[-3][0] == m.DATA_ROW:
            self._introductions.rows(portal)
        tag, rows = tags.read(data, start, end)
        self.notes.append(Note("finished", {"ticket": run.ticket, "tag": tag, "rows": rows}))
        self._reports(data[ready + 5])
        if self.status != IDLE and portal is not None:
            self.portals.change(b"", portal, run.number).happened()

    def _head(self, tag: int) -> Expected:
        owed = self._owed
        while owed and owed[0].kind == m.COPY_DONE:
            owed.popleft()
        if not owed:
            raise _unexpected(tag)
        return owed[0]

    def _completed(self, data: bytes, start: int, end: int) -> None:
        """Take ParseComplete, BindComplete or CloseComplete."""
        head = self._head(data[start])
        if _COMPLETES.get(head.kind) != data[start] or head.refusal is not None:
            raise _unexpected(data[start])
        self._owed.popleft()
        for change in head.changes:
            change.happened()

    def _described(self, data: bytes, start: int, end: int) -> bytes | None:
        """Take RowDescription, NoData or ParameterDescription."""
        tag = data[start]
        head = self._head(tag)
        kind = head.kind
        if head.coverage is not None and tag == m.ROW_DESCRIPTION:
            head.coverage.described(data, start, end)
        if head.own:
            if tag == m.PARAMETER_DESCRIPTION:
                raise _unexpected(tag)
            self._owed.popleft()
            return b""
        self._introductions.described()
        if kind == m.DESCRIBE:
            if tag != m.PARAMETER_DESCRIPTION:
                self._owed.popleft()
                if head.statement is not None and tag == m.ROW_DESCRIPTION:
                    head.statement.row_description = data[start:end]
        elif kind != m.QUERY or tag != m.ROW_DESCRIPTION:
            raise _unexpected(tag)
        return None

    def _rows(self, data: bytes, start: int, end: int) -> bytes | None:
        head = self._head(m.DATA_ROW)
        if head.kind not in (m.EXECUTE, m.QUERY):
            raise _unexpected(m.DATA_ROW)
        self._introductions.rows(head.portal)
        return None if head.coverage is None else head.coverage.rows(data, start, end)

    def _copied(self, data: bytes, start: int, end: int) -> bytes | None:
        """Take CopyData or CopyDone."""
        if not self._copying_out:
            raise _unexpected(data[start])
        coverage = self._owed[0].coverage
        if data[start] == m.COPY_DONE:
            self._copying_out = False
            if coverage is not None:
                coverage.copied_all()
            return None
        return None if coverage is None else coverage.copied(data, start, end)

    def _copy_out(self, data: bytes, start: int, end: int) -> None:
        head = self._running(m.COPY_OUT_RESPONSE)
        self._copying_out = True
        if head.coverage is not None:
            head.coverage.copies(data, start, end)

    def _copy_in(self, data: bytes, start: int, end: int) -> None:
        """Take CopyInResponse: what was sent ahead, up to the end of the data, is read as part of the COPY."""
        head = self._running(m.COPY_IN_RESPONSE)
        ahead = list(self._owed)[1:]
        self._owed.clear()
        self._owed.append(head)
        self.copying_in = True
        for at, expected in enumerate(ahead):
            if expected.kind == m.COPY_DONE:
                self.copying_in = False
                self._owed.extend(ahead[at + 1 :])
                return
            if expected.kind != m.SYNC:
                raise ProtocolError("a message other than COPY data was sent to a statement that reads COPY data")
            self._ignored_syncs += 1

    def _command_complete(self, data: bytes, start: int, end: int) -> None:
        head = self._running(m.COMMAND_COMPLETE)
        if head.coverage is not None:
            head.coverage.completed()
        self.copying_in = self._copying_out = False
        tag, rows = tags.read(data, start, end)
        head.rows += rows
        head.tag = tags.joined(head.tag, tag)
        if head.kind == m.EXECUTE:
            self._ignored_syncs = 0
            self._executed(head)

    def _empty_query(self, data: bytes, start: int, end: int) -> None:
        head = self._running(m.EMPTY_QUERY_RESPONSE)
        if head.kind == m.EXECUTE:
            self._executed(head)

    def _suspended(self, data: bytes, start: int, end: int) -> None:
        head = self._running(m.PORTAL_SUSPENDED)
        if head.kind != m.EXECUTE:
            raise _unexpected(m.PORTAL_SUSPENDED)
        if head.portal is not None:
            head.portal.suspended = True
        self._executed(head)

    def _executed(self, head: Expected) -> None:
        self._owed.popleft()
        for change in head.changes:
            change.happened()
        self._finish(head)

    def _ready(self, data: bytes, start: int, end: int) -> None:
        self.copying_in = self._copying_out = False
        while self._owed and self._owed[0].kind == m.COPY_DONE:
            self._owed.popleft()
        head = self._owed[0] if self._owed else None
        if head is None or head.kind not in (m.SYNC, m.QUERY):
            # A Sync sent to a COPY that had failed by the time it arrived is answered after all.
            if not self._ignored_syncs:
                raise _unexpected(m.READY_FOR_QUERY)
            self._ignored_syncs -= 1
            self.failed_run = False
        else:
            self._owed.popleft()
            if head.kind == m.QUERY:
                self._queried(head)
        self._reports(data[start + 5])

    def _reports(self, status: int) -> None:
        """Take the status of the transaction, once all that was answered before it is followed."""
        if status not in _STATUSES:
            raise ProtocolError("expected a transaction status of I, T or E")
        self.status = status
        self._awaits = not self._owed
        if status == IDLE:
            self.portals.end_transaction()
            self.withholding.rested(e.coverage for e in self._owed)

    def _queried(self, head: Expected) -> None:
        for change in head.changes:
            if not head.sqlstate:
                change.happened()
            elif head.single:
                change.failed()
            else:
                change.unclear()
        if not head.sqlstate:
            self._ignored_syncs = 0
        self._finish(head)

    def _error(self, data: bytes, start: int, end: int) -> bytes | None:
        fields = m.read_fields(data, start, end)
        sqlstate = fields.get("C", b"").decode("ascii", "replace")
        self.copying_in = self._copying_out = False
        while self._owed and self._owed[0].kind == m.COPY_DONE:
            self._owed.popleft()
        if not self._owed:
            if fields.get("V", fields.get("S")) not in (b"FATAL", b"PANIC"):
                raise _unexpected(m.ERROR_RESPONSE)
            return self.withholding.said(m.ERROR_RESPONSE, fields)
        head = self._owed[0]
        replacement = self.withholding.said(m.ERROR_RESPONSE, fields)
        if head.refusal is not None and is_of_substitute(fields):
            sqlstate = head.refusal.sqlstate
            replacement = head.refusal.encoded()
        head.sqlstate = sqlstate or "XX000"
        if head.kind not in (m.QUERY, m.SYNC):
            self._skip()
        return replacement

    def _skip(self) -> None:
        """Drop what the target skips: everything up to the next Sync."""
        owed = self._owed
        dropped: list[Expected] = []
        while owed and owed[0].kind != m.SYNC:
            dropped.append(owed.popleft())
        self.failed_run = not owed
        for expected in dropped:
            for change in expected.changes:
                change.failed()
            self._finish(expected)

    def _parameter(self, data: bytes, start: int, end: int) -> bytes | None:
        name, value = m.read_parameter(data, start, end)
        if name in self._pinned and self._pinned[name] != value:
            setting = name.decode("ascii")
            raise UnreadableStream(f"the target's setting {setting} changed, so what follows would be read differently")
        return self.withholding.set(name, value)

    def _noticed(self, data: bytes, start: int, end: int) -> bytes | None:
        """Take a notice, which may come at any time."""
        return self.withholding.said(m.NOTICE_RESPONSE, m.read_fields(data, start, end))

    def _notified(self, data: bytes, start: int, end: int) -> bytes | None:
        """Take a notification, which may come at any time."""
        return self.withholding.notified(data, start, end)

    def _running(self, tag: int) -> Expected:
        head = self._head(tag)
        if head.kind not in (m.EXECUTE, m.QUERY) or head.refusal is not None:
            raise _unexpected(tag)
        return head

    def _finish(self, head: Expected) -> None:
        """Note the outcome of what was judged."""
        if head.doubts and not (head.by_name and head.sqlstate in _NO_SUCH_NAME):
            self.statements.doubt()
            self.portals.doubt()
        if not head.ticket:
            return
        self.notes.append(Note("finished", head.outcome()))


_COMPLETES: Final = {m.PARSE: m.PARSE_COMPLETE, m.BIND: m.BIND_COMPLETE, m.CLOSE: m.CLOSE_COMPLETE}

_FOLLOWED: Final[dict[int, Callable[[Answers, bytes, int, int], bytes | None]]] = {
    m.DATA_ROW: Answers._rows,
    m.COMMAND_COMPLETE: Answers._command_complete,
    m.READY_FOR_QUERY: Answers._ready,
    m.BIND_COMPLETE: Answers._completed,
    m.PARSE_COMPLETE: Answers._completed,
    m.CLOSE_COMPLETE: Answers._completed,
    m.ROW_DESCRIPTION: Answers._described,
    m.NO_DATA: Answers._described,
    m.PARAMETER_DESCRIPTION: Answers._described,
    m.EMPTY_QUERY_RESPONSE: Answers._empty_query,
    m.PORTAL_SUSPENDED: Answers._suspended,
    m.ERROR_RESPONSE: Answers._error,
    m.NOTICE_RESPONSE: Answers._noticed,
    m.NOTIFICATION_RESPONSE: Answers._notified,
    m.PARAMETER_STATUS: Answers._parameter,
    m.COPY_IN_RESPONSE: Answers._copy_in,
    m.COPY_OUT_RESPONSE: Answers._copy_out,
    m.COPY_DATA: Answers._copied,
    m.COPY_DONE: Answers._copied,
}


def _unexpected(tag: int) -> ProtocolError:
    return ProtocolError(f"the target sent {chr(tag)!r} although nothing that it was asked is answered by that")
