"""Stands between a PostgreSQL client and its target: judges each Query and each Execute, and lets nothing by unread.

Messages of the client are taken strictly in turn. When one has to wait, for people, for a text to be read, for the
catalog, or for an answer of the target that decides what a name means, all behind it wait too, and what waits is
bounded. What the target says always flows.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from bastion.errors import LimitExceeded, ProtocolError
from bastion.model.action import Action
from bastion.model.mask import Mask
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
from bastion.protocols.postgres.answers import Answers
from bastion.protocols.postgres.binding import UNKNOWN, Portal, Statement, arguments_of
from bastion.protocols.postgres.coverage import Coverage, Unreadable
from bastion.protocols.postgres.messages import Frames
from bastion.protocols.postgres.names import Change, key
from bastion.protocols.postgres.owed import Expected, Run
from bastion.protocols.postgres.refusal import Refusal
from bastion.protocols.postgres.renewing import Renewal
from bastion.protocols.postgres.sql.reading import Analyst, Reading, SearchPath
from bastion.protocols.postgres.traits import Traits
from bastion.protocols.postgres.understanding import Understanding
from bastion.protocols.postgres.usual import usual

_Effect: TypeAlias = Effect[Frames]

_PASS, _DROP, _REPLACE, _JUDGE, _WAIT, _PRECEDE = range(6)
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
    key: bytes = field(default=b"", repr=False)
    """The session's own, for covers that are digests."""
    held_bytes: int = 16 * 1024 * 1024
    held_messages: int = 10_000


class _Question:
    """One message that waits for its ruling."""

    # A plain class: one is made for every execution.
    held = False
    """Whether people are being asked."""
    canceled = False
    """Whether the client has cancelled it meanwhile."""
    asked = False
    """Whether the ruling was asked for already, before the messages up to it were taken one by one."""

    def __init__(
        self, kind: int, ticket: Ticket, action: Action, traits: Traits, portal: Portal | None, name: bytes
    ) -> None:
        self.kind = kind
        self.ticket = ticket
        self.action = action
        self.traits = traits
        self.portal = portal
        self.name = name


class PostgresInterceptor(Interceptor[Frames]):
    """The interceptor of one session."""

    def __init__(self, analyst: Analyst, facts: SessionFacts) -> None:
        self._facts = facts
        self._answers = Answers(facts.parameters)
        self._understanding = Understanding(analyst, facts.path, self._answers)
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
        self._whole: tuple[Run, Frames] | None = None
        """A whole run that waits for its ruling."""
        self._asked: tuple[Ticket, Action] | None = None
        """What was asked for such a run, when its messages are taken one by one after all."""
        self._approved: _Question | None = None
        """What people have approved, while it is found out anew what the message means."""
        self._ruling: Ruling | None = None
        self._substitute = b""
        self._due: Refusal | None = None
        self._before: list[_Effect] = []
        self._begun = False
        self._over = ""

    # What the gateway calls.

    def received(self, side: Side, message: Frames) -> Iterable[_Effect]:
        """Return what follows from messages that `side` sent."""
        if self._whole is not None:
            return [*self._taken_apart(), *self.received(side, message)]
        if side is Side.TARGET:
            return self._answered(message)
        if self._begun and not self._inbox and not self._skipping:
            run = usual(message, self._run, self._answers, self._understanding)
            if run is not None:
                self._tickets += 1
                run.ticket = self._tickets
                self._whole = run, message
                return (Judge(Ticket(run.ticket), run.action),)
        self._inbox.append(message)
        if self._waits_for:
            return self._queued(message)
        return self._advance()

    def ruled(self, ticket: Ticket, ruling: Ruling) -> Iterable[_Effect]:
        """Return what follows from a ruling."""
        whole = self._whole
        if whole is not None:
            run, message = whole
            if run.ticket != ticket:
                raise AssertionError(f"nothing waits for a ruling on {ticket}")
            if isinstance(ruling, Allow) and not ruling.masks:
                self._whole = None
                return self._runs(run, message)
            self._ruling = ruling
            return self._taken_apart()
        question = self._question
        if question is None or question.ticket != ticket:
            raise AssertionError(f"nothing waits for a ruling on {ticket}")
        self._ruling = ruling
        if self._advancing:
            return ()
        if question.held and isinstance(ruling, Allow):
            # While people took their time, others may have changed what the names in it stand for.
            self._question, self._approved = None, question
        self._waits_for = ""
        return self._advance()

    def waiting(self, ticket: Ticket, notice: Waiting) -> Iterable[_Effect]:
        """Tell the client by a notice that people are being asked."""
        before = self._taken_apart()
        question = self._question
        if question is None or question.ticket != ticket:
            raise AssertionError(f"nothing waits for a ruling on {ticket}")
        question.held = True
        said = refusal.waiting_notice(notice)
        return (*before, Note("output", said), Send(Side.CLIENT, Frames(said)))

    def answered(self, name: str, answer: object) -> Iterable[_Effect]:
        """Return what follows from the answer to an `Ask`."""
        match name:
            case "interrupt":
                return [*self._taken_apart(), *self._interrupted()]
            case "cancel":
                return ()
            case "read" if isinstance(answer, Reading):
                self._understanding.was_read(answer)
            case "catalog" if self._waits_for == "catalog":
                self._due = self._understanding.renewed(answer)  # type: ignore[arg-type]  # the endpoint's analyst
            case "view" if self._waits_for == "view":
                refused = self._understanding.viewed(answer)  # type: ignore[arg-type]  # likewise
                self._due = self._due or refused
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

    @property
    def leaves_changes(self) -> bool:
        """Whether changes of the catalog are under way that the target may still carry out when all have hung up."""
        return self._understanding.changing

    def ended(self) -> None:
        """Take note that the target has nothing of this conversation under way any more."""
        self._understanding.ended()

    # The target's side.

    def _renewing(self, renewal: Renewal, message: Frames) -> Iterator[_Effect]:
        """Take answers to what the gateway has asked on its own account."""
        passed, sent = renewal.take(message)
        if passed is not None:
            yield from self._told(passed)
        if sent is not None:
            yield Send(Side.TARGET, sent)
        if not renewal.done:
            return
        follows = self._understanding.looked()
        if isinstance(follows, Ask):
            yield follows
            return
        self._due = self._due or follows
        yield from self._resumed([])

    def _answered(self, message: Frames) -> Iterable[_Effect]:
        renewal = self._understanding.renewal
        return self._told(message) if renewal is None else self._renewing(renewal, message)

    def _told(self, message: Frames) -> Iterable[_Effect]:
        answers = self._answers
        shown = answers.take(message.data, message.marks)
        effects: list[_Effect] = []
        if answers.introductions:
            effects += answers.introductions
            answers.introductions.clear()
        if shown:  # not where all of it answers what the gateway itself has asked
            effects.append(Note("output", shown))
        if answers.notes:
            effects += answers.notes
            answers.notes.clear()
        if shown:
            effects.append(Send(Side.CLIENT, message if shown is message.data else Frames(shown)))
        if self._understanding.changing:
            self._understanding.happened()
        if answers.failed_run and not self._skipping:
            self._skipping = True
            question = self._question
            if question is not None and question.held:
                effects.append(Withdraw(question.ticket, "the target refused a message before it"))
        return self._resumed(effects) if self._waits_for == "answers" else effects

    def _resumed(self, effects: list[_Effect]) -> Iterator[_Effect]:
        yield from effects
        self._waits_for = ""
        yield from self._advance()

    def _interrupted(self) -> Iterator[_Effect]:
        """Cancel what runs and what is held, as the client asked from another connection."""
        yield Ask("interrupt", None)
        if self._answers.running:
            yield Ask("cancel", None)
        if self._waits_for == "view":
            # What is asked is over soon, and a cancel might come too late for it.
            self._due = refusal.CANCELED
        question = self._question
        if question is not None and question.held:
            question.canceled = True
            yield Withdraw(question.ticket, "the client cancelled it")

    # The client's side.

    def _taken_apart(self) -> list[_Effect]:
        """Take the messages of a run that waits for its ruling one by one, up to the one that was judged."""
        if self._whole is None:
            return []
        run, message = self._whole
        self._whole = None
        self._asked = Ticket(run.ticket), run.action
        self._inbox.append(message)
        return list(self._advance())

    def _runs(self, run: Run, message: Frames) -> Iterable[_Effect]:
        """Let a whole run through."""
        if run.portal is not None:
            run.portal.ticket = run.ticket
            self._run += 1
        self._answers.expect_run(run)
        return (Send(Side.TARGET, message),)

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
        self._answers.unfold()
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
                if self._due is not None:
                    step = self._refuse_due(tag)
                else:
                    step = _JUDGE if self._question is not None else _STEPS[tag](self, data, start, end)
                if self._approved is not None and step not in (_JUDGE, _WAIT):
                    self._lapse(self._approved)
                if step == _JUDGE:
                    question = self._question
                    assert question is not None  # noqa: S101 -- what a step that says so has set
                    if self._ruling is None and not question.asked:
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
                if step in (_REPLACE, _PRECEDE):
                    pieces.append(self._substitute)
                at += 1
                kept = start if step == _PRECEDE else end
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
        if self._is_out_of_turn():
            return _DROP
        reading = self._understanding.read(text)
        if reading is None:
            return self._wait()
        if reading.sqlstate:
            return self._not_read(m.QUERY, reading)
        traits = self._understanding.whole(reading, self._run)
        if traits is None:
            return self._wait()
        return self._judge(m.QUERY, traits.reading.action, traits)

    def _not_read(self, kind: int, reading: Reading) -> int:
        """Refuse a text that could not be read; what was tried is on the record all the same."""
        told = {"text": reading.action.safe_text, "sqlstate": reading.sqlstate, "message": reading.message}
        self._before.append(Note("unread", told))
        return self._refuse(kind, refusal.unreadable(reading))

    def _function_call(self, data: bytes, start: int, end: int) -> int:
        if self._is_out_of_turn():
            return _DROP
        refused = _NO_FUNCTION_CALLS
        self._before.append(Note("unread", {"text": "", "sqlstate": refused.sqlstate, "message": refused.message}))
        return self._refuse(m.QUERY, refused)

    def _parse(self, data: bytes, start: int, end: int) -> int:
        name, text, types = m.read_parse(data, start, end)
        if self._is_out_of_turn():
            return _DROP
        reading = self._understanding.read(text, types)
        if reading is None:
            return self._wait()
        if reading.sqlstate:
            return self._not_read(m.PARSE, reading)
        statement = Statement(text, reading, self._understanding.generation, types)
        change = self._answers.statements.change(key(name), statement, self._run)
        self._answers.expect(Expected(m.PARSE, (change,)))
        return _PASS

    def _bind(self, data: bytes, start: int, end: int) -> int:
        bound = m.read_bind(data, start, end)
        if self._is_out_of_turn():
            return _DROP
        if not self._understanding.may_go_on():
            return self._wait()
        found = self._answers.statements.meanings(key(bound.statement), self._run)
        if len(found) > 1:
            return self._wait("answers")
        name = key(bound.portal)
        if not found:
            # The target knows no such statement either, and says so; should it know one, it is not run unjudged.
            self._bound(name, Portal(UNKNOWN))
            return _PASS
        statement = found[0]
        if not self._understanding.refresh(statement):
            return self._wait()
        arguments = arguments_of(bound)
        if arguments is None:
            return self._refuse(m.BIND, _NOT_UTF8)
        portal = Portal(statement.reading, arguments, statement.facts(bound.formats))
        portal.statement, portal.result_formats = statement, bound.result_formats
        portal.epoch = self._understanding.epoch
        portal.as_of = self._understanding.knowledge.count
        if self._understanding.traits(portal.reading).early:
            traits = self._understanding.whole(portal.reading, self._run)
            if traits is None:
                return self._wait()
            return self._judge(m.BIND, portal.called(traits.reading), traits, portal, name)
        self._bound(name, portal)
        return _PASS

    def _bound(self, name: bytes, portal: Portal) -> None:
        change = self._answers.portals.change(name, portal, self._run)
        self._answers.expect(Expected(m.BIND, (change,)))

    def _execute(self, data: bytes, start: int, end: int) -> int:
        name = key(m.read_execute(data, start, end))
        if self._is_out_of_turn():
            return _DROP
        found = self._answers.portals.meanings(name, self._run)
        if len(found) > 1:
            return self._wait("answers")
        portal = found[0] if found else Portal(UNKNOWN)
        ahead = portal.allowed and not self._understanding.is_contested(portal.reading)
        portal.allowed = portal.allowed and ahead
        if ahead or (portal.approved and portal.suspended):
            # Judged when it was bound, or the same execution that people approved, fetched in portions.
            goes_on = portal.suspended
            portal.allowed = portal.suspended = False
            return self._executed(self._understanding.traits(portal.reading), portal, name, goes_on=goes_on)
        traits = self._understanding.whole(portal.reading, self._run, portal.epoch)
        if traits is None:
            return self._wait()
        return self._judge(m.EXECUTE, portal.called(traits.reading), traits, portal, name)

    def _executed(self, traits: Traits, portal: Portal, name: bytes, *, goes_on: bool = False) -> int:
        """Expect the answer to an Execute, and where its results are covered to what describes them before it."""
        coverage = portal.coverage
        describes = coverage is not None and not goes_on
        if describes:
            own = Expected(m.DESCRIBE)
            own.own, own.coverage = True, coverage
            self._answers.expect(own)
            self._substitute = m.frame(m.DESCRIBE, b"P" + m.text(name))
        expected = Expected(m.EXECUTE, (), portal.ticket)
        expected.portal, expected.coverage = portal, coverage
        if not traits.plain:
            expected.doubts, expected.by_name = traits.doubts, traits.by_name
            expected.changes = self._changes(traits, self._run, coverage)
        self._answers.expect(expected)
        return _PRECEDE if describes else _PASS

    def _describe(self, data: bytes, start: int, end: int) -> int:
        kind, name = m.read_named(data, start, end)
        if self._is_out_of_turn():
            return _DROP
        expected = Expected(m.DESCRIBE)
        if kind == ord("S"):
            statements = self._answers.statements.meanings(key(name), self._run)
            expected.statement = statements[0] if len(statements) == 1 else None
        else:
            for portal in self._answers.portals.meanings(key(name), self._run):
                portal.described = True
        self._answers.expect(expected)
        return _PASS

    def _close(self, data: bytes, start: int, end: int) -> int:
        kind, name = m.read_named(data, start, end)
        if self._is_out_of_turn():
            return _DROP
        change: Change[Any]
        if kind == ord("S"):
            change = self._answers.statements.change(key(name), None, self._run)
        else:
            change = self._answers.portals.change(key(name), None, self._run)
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

    def _judge(self, kind: int, action: Action, traits: Traits, portal: Portal | None = None, name: bytes = b"") -> int:
        asked, self._asked = self._asked, None
        approved, self._approved = self._approved, None
        if approved is not None:
            self._question = _Question(kind, approved.ticket, action, traits, portal, name)
            self._question.held = True
            if approved.action != action:
                self._ruling = _CHANGED
            return _JUDGE
        if asked is None:
            self._tickets += 1
            self._question = _Question(kind, Ticket(self._tickets), action, traits, portal, name)
            return _JUDGE
        ticket, judged = asked
        if judged != action:
            raise AssertionError("what is about to run is not what was judged")
        self._question = _Question(kind, ticket, action, traits, portal, name)
        self._question.asked = True
        return _JUDGE

    def _lapse(self, approved: _Question) -> None:
        """Let go of an approval: what it was for is not run, or is another thing by now."""
        self._approved = self._ruling = None
        self._before.append(_skipped(approved.ticket))

    def _decided(self, question: _Question) -> int:
        """Carry a ruling out."""
        ruling, self._ruling, self._question = self._ruling, None, None
        if self._skipping:
            self._before.append(_skipped(question.ticket))
            return _DROP
        if isinstance(ruling, Allow):
            try:
                return self._allowed(question, self._coverage(question, ruling.masks) if ruling.masks else None)
            except Unreadable as error:
                words = Refusal("0A000", f"what comes back could not be masked: {error}")
        elif isinstance(ruling, Deny):
            words = refusal.CANCELED if question.canceled else refusal.denied(ruling)
        else:
            raise AssertionError("a ruling is one of the two")
        return self._refuse(question.kind, words, question.ticket)

    def _coverage(self, question: _Question, masks: tuple[Mask, ...]) -> Coverage:
        reading = question.traits.reading
        as_of = question.portal.as_of if question.portal is not None else None
        coverage = Coverage(reading, masks, self._understanding.knowledge, self._facts.key, as_of)
        if any(r.kind == "channel" for r in reading.action.resources):
            self._answers.withholding.listens(coverage)
        return coverage

    def _allowed(self, question: _Question, coverage: Coverage | None) -> int:
        traits, portal, ticket = question.traits, question.portal, question.ticket
        if portal is None:
            expected = Expected(m.QUERY, (), ticket)
            expected.coverage = coverage
            if not traits.plain:
                expected.doubts, expected.by_name = traits.doubts, traits.by_name
                expected.single = traits.reading.statements <= 1
                expected.changes = self._changes(traits, 0, coverage)
            self._answers.expect(expected)
            return _PASS
        portal.ticket = ticket
        portal.approved = question.held
        portal.coverage = coverage
        if question.kind == m.BIND:
            portal.allowed = True
            self._bound(question.name, portal)
            return _PASS
        return self._executed(traits, portal, question.name)

    def _changes(self, traits: Traits, run: int, coverage: Coverage | None) -> tuple[Change[Any], ...]:
        """Return what an execution does to names. What it does to the catalog itself, its reading tells."""
        before = self._understanding.knowledge.count
        changes = self._understanding.changes(traits.reading, run)
        if coverage is not None:
            coverage.as_of += self._understanding.knowledge.count - before
        return changes

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

    def _refuse_due(self, tag: int) -> int:
        """Refuse the message that has waited for a view of the catalog, which cannot be had or was not waited for."""
        words, self._due = self._due, None
        if words is None:
            raise AssertionError("nothing is to be refused")
        return self._refuse(tag, words)

    def _wait(self, what: str = "") -> int:
        """Have the message wait for `what`, or for what the understanding of it waits for."""
        self._waits_for = what or self._understanding.waits_for
        self._before += self._understanding.asks
        self._understanding.asks.clear()
        return _WAIT

    def _is_out_of_turn(self) -> bool:
        """Tell whether a message is to be dropped, as the target skips it; raise if it must not come at all."""
        if self._answers.copying_in:
            raise ProtocolError("expected COPY data or its end")
        return self._skipping


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
    "access.refused": "57P01",
    "protocol": "08P01",
    "protocol.limit": "54000",
    "protocol.unreadable": "0A000",
    "recording": "58030",
    "target": "08006",
    "target.refused": "08004",
    "target.unreachable": "08001",
}

_CHANGED: Final = Deny("bastion:changed", "what it does is not what was approved: the catalog has changed meanwhile")
_NO_FUNCTION_CALLS: Final = Refusal("0A000", "bastion does not pass FunctionCall messages", hint="Call it by SELECT.")
_NOT_UTF8: Final = Refusal("22021", "an argument in text format is not valid UTF-8")


def _skipped(ticket: Ticket) -> Note:
    """Return the outcome of what was judged and did not run."""
    return Note("finished", {"ticket": ticket, "tag": "", "rows": 0, "skipped": True})
