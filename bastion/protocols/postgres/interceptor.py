"""Stands between a PostgreSQL client and its target: judges each Query and each Execute, and lets nothing by unread.

Messages of the client are taken strictly in turn. When one has to wait, for people, for a text to be read, for the
catalog, or for an answer of the target that decides what a name means, all behind it wait too, and what waits is
bounded. What the target says always flows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from bastion.errors import LimitExceeded, ProtocolError
from bastion.model.action import Access, Action, Argument, Resource
from bastion.model.verdict import Allow, Deny, Ruling
from bastion.protocols.contract import (
    Ask,
    Effect,
    Hangup,
    Interceptor,
    Judge,
    Note,
    Send,
    Side,
    Ticket,
    Waiting,
    Withdraw,
)
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres import refusal
from bastion.protocols.postgres.answers import IDLE, Answers, Expected
from bastion.protocols.postgres.messages import Frames
from bastion.protocols.postgres.names import UNKNOWN, Change, Portal, Statement, key
from bastion.protocols.postgres.refusal import Refusal
from bastion.protocols.postgres.sql.reading import (
    Analyst,
    ChangesCatalog,
    Closes,
    Deallocates,
    Declares,
    DiscardsAll,
    EndsTransaction,
    Executes,
    Fetches,
    Prepares,
    Reading,
    SearchPath,
    SetsPath,
)
from bastion.protocols.postgres.traits import Traits, TraitsCache

_Effect: TypeAlias = Effect[Frames]

READ_INLINE: Final = 8 * 1024
"""Bytes of a text above which it is read outside the event loop."""
PATHS_AT_MOST: Final = 32
"""Search paths that one session may have had."""

_PASS, _DROP, _REPLACE, _JUDGE, _WAIT = range(5)
"""What becomes of one message of the client."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is known of a session when its conversation begins."""

    parameters: dict[bytes, bytes]
    """What the target has reported of its settings."""
    path: SearchPath
    """The search path that the session starts with."""
    settings: dict[str, str] = field(default_factory=dict)
    """What the client asked for at start-up and got; for the record."""
    held_bytes: int = 16 * 1024 * 1024
    held_messages: int = 10_000


@dataclass(frozen=True, slots=True)
class ReadText:
    """The question to `Ask("read", …)`: what does this text mean? Answered with a `Reading`."""

    analyst: Analyst
    text: bytes
    paths: frozenset[SearchPath]
    types: tuple[int, ...]


@dataclass(slots=True)
class _Question:
    """One message that waits for its ruling."""

    kind: int
    ticket: Ticket
    action: Action
    traits: Traits
    portal: Portal | None = None
    name: bytes = b""
    held: bool = False
    canceled: bool = False


class PostgresInterceptor(Interceptor[Frames]):
    """The interceptor of one session."""

    def __init__(self, analyst: Analyst, facts: SessionFacts) -> None:
        self._analyst = analyst
        self._facts = facts
        self._answers = Answers(facts.parameters)
        self._statements = self._answers.statements
        self._portals = self._answers.portals
        self._traits = TraitsCache()
        self._paths = frozenset({facts.path})
        self._generation = 1
        self._stale = False
        self._run = 1
        self._skipping = False
        self._tickets = 0
        self._inbox: deque[Frames] = deque()
        self._index = 0
        self._held_bytes = 0
        self._held_messages = 0
        self._waits_for = ""
        self._advancing = False
        self._question: _Question | None = None
        self._ruling: Ruling | None = None
        self._substitute = b""
        self._before: list[_Effect] = []
        self._asked_elsewhere: ReadText | None = None
        self._read_elsewhere: tuple[ReadText, Reading] | None = None
        self._begun = False
        self._over = ""

    # What the gateway calls.

    def received(self, side: Side, message: Frames) -> Iterable[_Effect]:
        """Return what follows from messages that `side` sent."""
        if side is Side.TARGET:
            return self._answered(message)
        self._inbox.append(message)
        if self._waits_for:
            return self._queued(message)
        return self._advance()

    def ruled(self, ticket: Ticket, ruling: Ruling) -> Iterable[_Effect]:
        """Return what follows from a ruling."""
        question = self._question
        if question is None or question.ticket != ticket:
            raise AssertionError(f"nothing waits for a ruling on {ticket}")
        self._ruling = ruling
        if self._advancing:
            return ()
        self._waits_for = ""
        return self._advance()

    def waiting(self, ticket: Ticket, notice: Waiting) -> Iterable[_Effect]:
        """Tell the client by a notice that people are being asked."""
        question = self._question
        if question is None or question.ticket != ticket:
            raise AssertionError(f"nothing waits for a ruling on {ticket}")
        question.held = True
        said = refusal.waiting_notice(notice)
        return (Note("output", said), Send(Side.CLIENT, Frames(said)))

    def answered(self, name: str, answer: object) -> Iterable[_Effect]:
        """Return what follows from the answer to an `Ask`."""
        match name:
            case "interrupt":
                return self._interrupted()
            case "read" if self._asked_elsewhere is not None and isinstance(answer, Reading):
                self._read_elsewhere = (self._asked_elsewhere, answer)
            case "catalog" if self._waits_for == "catalog":
                self._analyst = answer  # type: ignore[assignment]
                self._generation += 1
                self._stale = False
            case "cancel":
                return ()
            case _:
                raise AssertionError(f"nothing was asked under the name {name}")
        self._waits_for = ""
        return self._advance()

    def closed(self, side: Side) -> Iterable[_Effect]:
        """End the other side's connection in its own words."""
        if side is Side.CLIENT:
            return (Send(Side.TARGET, Frames(m.frame(m.TERMINATE))), Hangup("the client hung up"))
        said = refusal.parting("the target closed the connection", "", "08006")
        return (Note("output", said), Send(Side.CLIENT, Frames(said)), Hangup("the target hung up"))

    def failed(self, reason: str, hint: str, code: str) -> Iterable[_Effect]:
        """Tell the client why the gateway ends the conversation."""
        return (Send(Side.CLIENT, Frames(refusal.parting(reason, hint, _SQLSTATES.get(code, "XX000")))),)

    # The target's side.

    def _answered(self, message: Frames) -> Iterator[_Effect]:
        answers = self._answers
        shown = answers.take(message.data, message.marks)
        yield Note("output", shown)
        if answers.notes:
            yield from answers.notes
            answers.notes.clear()
        yield Send(Side.CLIENT, message if shown is message.data else Frames(shown))
        if answers.failed_run and not self._skipping:
            self._skipping = True
            question = self._question
            if question is not None and question.held:
                yield Withdraw(question.ticket, "the target refused a message before it")
        if self._waits_for == "answers":
            self._waits_for = ""
            yield from self._advance()

    def _interrupted(self) -> Iterator[_Effect]:
        """Cancel what runs and what is held, as the client asked from another connection."""
        yield Ask("interrupt", None)
        if self._answers.running:
            yield Ask("cancel", None)
        question = self._question
        if question is not None and question.held:
            question.canceled = True
            yield Withdraw(question.ticket, "the client cancelled it")

    # The client's side.

    def _queued(self, message: Frames) -> Iterable[_Effect]:
        self._held_bytes += len(message.data)
        self._held_messages += len(message.marks)
        facts = self._facts
        if self._held_bytes > facts.held_bytes or self._held_messages > facts.held_messages:
            raise LimitExceeded("more was sent behind a statement that waits than the gateway holds")
        if self._waits_for == "ruling" and any(mark[0] == m.TERMINATE for mark in message.marks):
            return self.closed(Side.CLIENT)
        return ()

    def _advance(self) -> Iterator[_Effect]:
        """Take the client's messages in turn until none is left or one has to wait."""
        self._advancing = True
        if not self._begun:
            self._begun = True
            yield Ask("interrupt", None)
            if self._facts.settings:
                yield Note("settings", dict(self._facts.settings))
        inbox = self._inbox
        while inbox and not self._waits_for:
            message = inbox[0]
            data, marks = message.data, message.marks
            at, count = self._index, len(marks)
            kept = marks[at][1]
            pieces: list[bytes] = []
            while at < count:
                tag, start, end = marks[at]
                step = _JUDGE if self._question is not None else _STEPS[tag](self, data, start, end)
                if step == _JUDGE:
                    question = self._question
                    assert question is not None  # noqa: S101 -- what a step that says so has set
                    if self._ruling is None:
                        yield Judge(question.ticket, question.action)
                    if self._ruling is None:
                        self._waits_for = "ruling"
                        break
                    step = self._decided(question)
                if step == _PASS:
                    at += 1
                    continue
                if step == _WAIT:
                    break
                pieces.append(data[kept:start])
                if step == _REPLACE:
                    pieces.append(self._substitute)
                at += 1
                kept = end
            if self._before:
                yield from self._before
                self._before = []
            stop = marks[at][1] if at < count else len(data)
            if not pieces and kept == 0 and stop == len(data):
                yield Send(Side.TARGET, message)
            else:
                pieces.append(data[kept:stop])
                if sent := b"".join(pieces):
                    yield Send(Side.TARGET, Frames(sent))
            if at < count:
                self._index = at
            else:
                self._index = 0
                inbox.popleft()
            if self._over:
                yield Hangup(self._over)
                inbox.clear()
        if not inbox:
            self._held_bytes = self._held_messages = 0
        self._advancing = False

    def _query(self, data: bytes, start: int, end: int) -> int:
        text = m.read_query(data, start, end)
        self._not_copying()
        if self._skipping:
            return _DROP
        reading = self._read(text)
        if reading is None:
            return _WAIT
        if reading.sqlstate:
            return self._refuse(m.QUERY, refusal.unreadable(reading))
        traits = self._settled(self._traits.of(reading))
        if traits is None:
            return _WAIT
        return self._judge(m.QUERY, traits.reading.action, traits)

    def _function_call(self, data: bytes, start: int, end: int) -> int:
        self._not_copying()
        if self._skipping:
            return _DROP
        return self._refuse(m.QUERY, _NO_FUNCTION_CALLS)

    def _parse(self, data: bytes, start: int, end: int) -> int:
        name, text, types = m.read_parse(data, start, end)
        self._not_copying()
        if self._skipping:
            return _DROP
        reading = self._read(text, types)
        if reading is None:
            return _WAIT
        if reading.sqlstate:
            return self._refuse(m.PARSE, refusal.unreadable(reading))
        statement = Statement(text, reading, self._generation, types)
        change = self._statements.change(key(name), statement, self._run)
        self._answers.expect(Expected(m.PARSE, (change,)))
        return _PASS

    def _bind(self, data: bytes, start: int, end: int) -> int:
        bound = m.read_bind(data, start, end)
        self._not_copying()
        if self._skipping:
            return _DROP
        if self._stale and not self._may_read_on():
            return _WAIT
        found = self._statements.meanings(key(bound.statement), self._run)
        if len(found) > 1:
            return self._wait("answers")
        if not found:
            # The target knows no such statement either, and says so; should it know one, it is not bound unjudged.
            portal = Portal(UNKNOWN)
        else:
            statement = found[0]
            if statement.generation != self._generation and not self._read_again(statement):
                return _WAIT
            arguments = _arguments(bound)
            if arguments is None:
                return self._refuse(m.BIND, _NOT_UTF8)
            portal = Portal(statement.reading, arguments, _facts(statement, bound.formats))
        if found and (traits := self._traits.of(portal.reading)).early:
            traits_now = self._settled(traits)
            if traits_now is None:
                return _WAIT
            return self._judge(m.BIND, _called(traits_now.reading, portal), traits_now, portal, key(bound.portal))
        self._bound(key(bound.portal), portal)
        return _PASS

    def _bound(self, name: bytes, portal: Portal) -> None:
        change = self._portals.change(name, portal, self._run)
        self._answers.expect(Expected(m.BIND, (change,)))

    def _execute(self, data: bytes, start: int, end: int) -> int:
        name = key(m.read_execute(data, start, end))
        self._not_copying()
        if self._skipping:
            return _DROP
        found = self._portals.meanings(name, self._run)
        if len(found) > 1:
            return self._wait("answers")
        portal = found[0] if found else Portal(UNKNOWN)
        if portal.allowed or (portal.approved and portal.suspended):
            # Judged when it was bound, or the same execution that people approved, fetched in portions.
            portal.allowed = portal.suspended = False
            self._executed(self._traits.of(portal.reading), portal)
            return _PASS
        traits = self._settled(self._traits.of(portal.reading))
        if traits is None:
            return _WAIT
        return self._judge(m.EXECUTE, _called(traits.reading, portal), traits, portal)

    def _executed(self, traits: Traits, portal: Portal) -> None:
        expected = Expected(m.EXECUTE, (), portal.ticket)
        expected.portal = portal
        if not traits.plain:
            expected.doubts, expected.by_name = traits.doubts, traits.by_name
            expected.changes = self._changes(traits.reading, self._run)
        self._answers.expect(expected)

    def _describe(self, data: bytes, start: int, end: int) -> int:
        m.read_named(data, start, end)
        self._not_copying()
        if self._skipping:
            return _DROP
        self._answers.expect(Expected(m.DESCRIBE))
        return _PASS

    def _close(self, data: bytes, start: int, end: int) -> int:
        kind, name = m.read_named(data, start, end)
        self._not_copying()
        if self._skipping:
            return _DROP
        change: Change[Any]
        if kind == ord("S"):
            change = self._statements.change(key(name), None, self._run)
        else:
            change = self._portals.change(key(name), None, self._run)
        self._answers.expect(Expected(m.CLOSE, (change,)))
        return _PASS

    def _sync(self, data: bytes, start: int, end: int) -> int:
        if self._answers.copying_in:
            self._answers.ignore_sync()
            return _PASS
        self._skipping = self._answers.failed_run = False
        self._run += 1
        self._answers.expect(Expected(m.SYNC))
        return _PASS

    def _flush(self, data: bytes, start: int, end: int) -> int:
        return _DROP if self._skipping else _PASS

    def _copy_data(self, data: bytes, start: int, end: int) -> int:
        """Take data of a COPY, or of one that has failed meanwhile, which the target ignores."""
        if self._skipping or not (self._answers.copying_in or self._answers.running):
            return _DROP
        self._before.append(Note("output", data[start:end]))
        return _PASS

    def _copy_end(self, data: bytes, start: int, end: int) -> int:
        if data[start] == m.COPY_FAIL and data.find(b"\0", start + 5, end) != end - 1:
            raise ProtocolError("expected CopyFail to hold one string and nothing after it")
        if self._skipping or not (self._answers.copying_in or self._answers.running):
            return _DROP
        if self._answers.copying_in:
            self._answers.copying_in = False
        else:
            self._answers.expect(Expected(m.COPY_DONE))
        return _PASS

    def _terminate(self, data: bytes, start: int, end: int) -> int:
        self._over = "the client ended the session"
        return _PASS

    # Reading, judging, deciding.

    def _read(self, text: bytes, types: tuple[int, ...] = ()) -> Reading | None:
        """Return what `text` means; None if that has to be waited for."""
        if self._stale and not self._may_read_on():
            return None
        if len(text) <= READ_INLINE:
            return self._analyst.read(text, self._paths, types)
        question = ReadText(self._analyst, text, self._paths, types)
        elsewhere, self._read_elsewhere = self._read_elsewhere, None
        if elsewhere is not None and elsewhere[0] == question:
            return elsewhere[1]
        self._asked_elsewhere = question
        self._before.append(Ask("read", question))
        self._waits_for = "read"
        return None

    def _read_again(self, statement: Statement) -> bool:
        """Bring a statement's reading up to date, as the target plans it anew; say False if that must be waited for."""
        if statement.text is None:
            statement.reading = UNKNOWN
        else:
            reading = self._read(statement.text, statement.types)
            if reading is None:
                return False
            statement.reading = UNKNOWN if reading.sqlstate else reading
        statement.facts.clear()
        statement.generation = self._generation
        return True

    def _may_read_on(self) -> bool:
        """Tell whether a text may be read while the catalog is out of date; else arrange for what it waits for."""
        answers = self._answers
        if answers.ready_is_due:
            self._waits_for = "answers"
            return False
        if not answers.outstanding and answers.status == IDLE:
            self._before.append(Ask("catalog", None))
            self._waits_for = "catalog"
            return False
        return True

    def _settled(self, traits: Traits) -> Traits | None:
        """Return the traits with all that is run by name and all doubts added; None if that has to be waited for."""
        if self._stale:
            if not self._may_read_on():
                return None
            if not traits.only_ends:
                # Within the transaction that changed it, nobody but the target knows the catalog.
                action = traits.reading.action
                doubtful = replace(action, resources=(*action.resources, _UNCOMMITTED), form=None)
                traits = self._traits.of(replace(traits.reading, action=doubtful))
        if not traits.runs_names:
            return traits
        prepared: dict[str, Reading] = {}
        portals: dict[str, Reading] = {}
        for effect in traits.reading.effects:
            if isinstance(effect, Executes):
                statements = self._statements.meanings(key(effect.name), self._run)
                if len(statements) > 1:
                    self._waits_for = "answers"
                    return None
                if statements:
                    if statements[0].generation != self._generation and not self._read_again(statements[0]):
                        return None
                    prepared[effect.name] = statements[0].reading
            elif isinstance(effect, Fetches):
                cursors = self._portals.meanings(key(effect.name), self._run)
                if len(cursors) > 1:
                    self._waits_for = "answers"
                    return None
                if cursors and not cursors[0].arguments:  # which nobody would see who judges a FETCH
                    portals[effect.name] = cursors[0].reading
        return self._traits.of(self._analyst.compose(traits.reading, prepared, portals))

    def _judge(self, kind: int, action: Action, traits: Traits, portal: Portal | None = None, name: bytes = b"") -> int:
        self._tickets += 1
        self._question = _Question(kind, Ticket(self._tickets), action, traits, portal, name)
        return _JUDGE

    def _decided(self, question: _Question) -> int:
        """Carry a ruling out."""
        ruling, self._ruling, self._question = self._ruling, None, None
        if self._skipping:
            self._before.append(Note("finished", {"ticket": question.ticket, "tag": "", "rows": 0, "skipped": True}))
            return _DROP
        match ruling:
            case Allow(masks=()):
                return self._allowed(question)
            case Deny() as deny:
                words = refusal.CANCELED if question.canceled else refusal.denied(deny)
                return self._refuse(question.kind, words, question.ticket)
            case _:
                return self._refuse(question.kind, _NO_MASKS, question.ticket)

    def _allowed(self, question: _Question) -> int:
        traits, portal, ticket = question.traits, question.portal, question.ticket
        if portal is None:
            expected = Expected(m.QUERY, (), ticket)
            if not traits.plain:
                expected.doubts, expected.by_name = traits.doubts, traits.by_name
                expected.single = traits.reading.statements <= 1
                expected.changes = self._changes(traits.reading, 0)
            self._answers.expect(expected)
            return _PASS
        portal.ticket = ticket
        portal.approved = question.held
        if question.kind == m.BIND:
            portal.allowed = True
            self._bound(question.name, portal)
        else:
            self._executed(traits, portal)
        return _PASS

    def _changes(self, reading: Reading, run: int) -> tuple[Change[Any], ...]:
        """Return what a text that is sent now does to names, and follow what it may do to paths and catalog."""
        changes: list[Change[Any]] = []
        for effect in reading.effects:
            match effect:
                case Prepares(name=name, reading=inner):
                    statement = Statement(None, inner, self._generation)
                    changes.append(self._statements.change(key(name), statement, run))
                case Deallocates(name=name):
                    changes.append(self._statements.change(None if name is None else key(name), None, run))
                case Declares(name=name, reading=inner, holdable=holdable):
                    changes.append(self._portals.change(key(name), Portal(inner, holdable=holdable), run))
                case Closes(name=name):
                    changes.append(self._portals.change(None if name is None else key(name), None, run))
                case EndsTransaction():
                    changes.append(self._portals.change(None, None, run, spares_holdable=True))
                case DiscardsAll():
                    changes.append(self._statements.change(None, None, run))
                    changes.append(self._portals.change(None, None, run))
                case SetsPath(path=path):
                    self._may_search(path)
                case ChangesCatalog():
                    self._stale = True
                case Executes() | Fetches():
                    pass
        return tuple(changes)

    def _may_search(self, path: SearchPath) -> None:
        if path in self._paths:
            return
        if len(self._paths) >= PATHS_AT_MOST:
            raise LimitExceeded(f"more than {PATHS_AT_MOST} different search paths in one session")
        self._paths |= {path}
        self._generation += 1

    def _refuse(self, kind: int, words: Refusal, ticket: int = 0) -> int:
        """Have the client told `words` in place of the answer to its message."""
        if kind == m.QUERY:
            self._substitute = refusal.QUERY_SUBSTITUTE
            expected = Expected(m.QUERY, (), ticket)
        else:
            self._substitute = refusal.PARSE_SUBSTITUTE
            expected = Expected(m.PARSE, (), ticket)
            self._skipping = True
        expected.refusal = words
        self._answers.expect(expected)
        return _REPLACE

    def _wait(self, what: str) -> int:
        self._waits_for = what
        return _WAIT

    def _not_copying(self) -> None:
        if self._answers.copying_in:
            raise ProtocolError("expected COPY data or its end")


_STEPS: Final[dict[int, Callable[[PostgresInterceptor, bytes, int, int], int]]] = {
    m.QUERY: PostgresInterceptor._query,
    m.PARSE: PostgresInterceptor._parse,
    m.BIND: PostgresInterceptor._bind,
    m.DESCRIBE: PostgresInterceptor._describe,
    m.EXECUTE: PostgresInterceptor._execute,
    m.CLOSE: PostgresInterceptor._close,
    m.SYNC: PostgresInterceptor._sync,
    m.FLUSH: PostgresInterceptor._flush,
    m.TERMINATE: PostgresInterceptor._terminate,
    m.FUNCTION_CALL: PostgresInterceptor._function_call,
    m.COPY_DATA: PostgresInterceptor._copy_data,
    m.COPY_DONE: PostgresInterceptor._copy_end,
    m.COPY_FAIL: PostgresInterceptor._copy_end,
}

_SQLSTATES: Final = {
    "protocol": "08P01",
    "protocol.limit": "54000",
    "protocol.unreadable": "0A000",
    "recording": "58030",
    "target": "08006",
    "target.unreachable": "08001",
}

_UNCOMMITTED: Final = Resource("catalog", "uncommitted changes", "read", Access.UNKNOWN)
_NO_FUNCTION_CALLS: Final = Refusal("0A000", "bastion does not pass FunctionCall messages", hint="Call it by SELECT.")
_NO_MASKS: Final = Refusal("42501", "the result would have to be masked in a way that bastion cannot honour here")
_NOT_UTF8: Final = Refusal("22021", "an argument in text format is not valid UTF-8")


def _arguments(bound: m.Bound) -> tuple[Argument, ...] | None:
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


def _facts(statement: Statement, formats: tuple[int, ...]) -> dict[str, object] | None:
    facts = statement.facts.get(formats)
    if facts is None:
        if len(statement.facts) > 64:
            statement.facts.clear()
        told = {"types": list(statement.types), "formats": list(formats)}
        facts = statement.facts[formats] = {**statement.reading.action.facts, **told}
    return facts


def _called(reading: Reading, portal: Portal) -> Action:
    """Return the action of running a portal."""
    if not portal.arguments:
        return reading.action
    return reading.action.called_with(portal.arguments, portal.facts)
