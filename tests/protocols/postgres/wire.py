"""PostgreSQL messages by name, an analyst of a tiny language, and a carrier of effects without a gateway."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bastion.model.action import Access, Action, Resource
from bastion.model.verdict import Allow, Deny, Ruling
from bastion.protocols.contract import Ask, Effect, Hangup, Judge, Note, Send, Side, Withdraw
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.codec import client_codec, target_codec
from bastion.protocols.postgres.interceptor import PostgresInterceptor, SessionFacts
from bastion.protocols.postgres.messages import Frames, frame
from bastion.protocols.postgres.sql.reading import (
    ChangesCatalog,
    Closes,
    Deallocates,
    Declares,
    EndsTransaction,
    Executes,
    Fetches,
    Prepares,
    Reading,
    RollsBack,
    SearchPath,
    SetsPath,
)

ALLOW = Allow(("test",))
DENY = Deny("no-such-thing", "not here")
PARAMETERS = {b"client_encoding": b"UTF8", b"standard_conforming_strings": b"on"}


def query(text: str) -> bytes:
    return frame(m.QUERY, text.encode() + b"\0")


def parse(text: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    return frame(
        m.PARSE, name.encode() + b"\0" + text.encode() + b"\0" + struct.pack(f">H{len(types)}I", len(types), *types)
    )


def bind(
    statement: str = "", portal: str = "", values: Sequence[bytes | None] = (), formats: Sequence[int] = ()
) -> bytes:
    body = portal.encode() + b"\0" + statement.encode() + b"\0"
    body += struct.pack(f">H{len(formats)}H", len(formats), *formats) + struct.pack(">H", len(values))
    for value in values:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return frame(m.BIND, body + b"\0\0")


def describe(kind: str = "P", name: str = "") -> bytes:
    return frame(m.DESCRIBE, kind.encode() + name.encode() + b"\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    return frame(m.EXECUTE, portal.encode() + b"\0" + struct.pack(">I", rows))


def close(kind: str, name: str = "") -> bytes:
    return frame(m.CLOSE, kind.encode() + name.encode() + b"\0")


SYNC = frame(m.SYNC)
FLUSH = frame(m.FLUSH)
TERMINATE = frame(m.TERMINATE)
PARSED = frame(m.PARSE_COMPLETE)
BOUND = frame(m.BIND_COMPLETE)
CLOSED = frame(m.CLOSE_COMPLETE)
NO_DATA = frame(m.NO_DATA)
SUSPENDED = frame(m.PORTAL_SUSPENDED)
COPY_IN = frame(m.COPY_IN_RESPONSE, b"\0\0\0")
COPY_OUT = frame(m.COPY_OUT_RESPONSE, b"\0\0\0")
COPY_DONE = frame(m.COPY_DONE)


def ready(status: str = "I") -> bytes:
    return frame(m.READY_FOR_QUERY, status.encode())


def complete(tag: str = "SELECT 1") -> bytes:
    return frame(m.COMMAND_COMPLETE, tag.encode() + b"\0")


def row(*values: bytes | None) -> bytes:
    body = struct.pack(">H", len(values))
    for value in values:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return frame(m.DATA_ROW, body)


def described(*columns: tuple[str, int, int]) -> bytes:
    body = struct.pack(">H", len(columns))
    for name, oid, form in columns:
        body += name.encode() + b"\0" + struct.pack(">IHIhiH", 0, 0, oid, -1, -1, form)
    return frame(m.ROW_DESCRIPTION, body)


def error(sqlstate: str = "42P01", message: str = "no", severity: str = "ERROR") -> bytes:
    return m.notice(m.ERROR_RESPONSE, [("S", severity), ("V", severity), ("C", sqlstate), ("M", message)])


def sight(schema: str = "", contents: str = "", isolation: str = "read committed") -> bytes:
    """Return the row that answers what a session has of temporary objects."""
    return row(b"sight", json.dumps({"a": schema or None, "b": isolation, "c": contents or None}).encode())


def renewal(
    sent: bytes,
    status: str = "I",
    *,
    schema: str = "",
    contents: str = "",
    isolation: str = "read committed",
    among: bytes = b"",
) -> bytes:
    """Return a target's answers to what the gateway asks it for the catalog; `among` comes before the first row."""
    statements = types(sent).count("P")
    answers = b""
    for number in range(statements):
        rows = {1: row(b"public", b"0"), 2: among + sight(schema, contents, isolation)}.get(number, b"")
        answers += PARSED + BOUND + rows + complete() + CLOSED + CLOSED
    return answers + ready(status)


SUBSTITUTE_FAILS = error("42601", 'syntax error at or near "bastion_refuses_this"')


def split(data: bytes) -> list[tuple[str, bytes]]:
    """Return the messages of `data`: type and body."""
    found, at = [], 0
    while at < len(data):
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5])
        found.append((chr(data[at]), data[at + 5 : end]))
        at = end
    return found


def types(data: bytes) -> str:
    """Return the types of the messages of `data`, one letter each."""
    return "".join(tag for tag, _ in split(data))


def fields(body: bytes) -> dict[str, str]:
    """Return the fields of an error or a notice."""
    return {part[:1].decode(): part[1:].decode() for part in body.split(b"\0") if part}


def meaning(action: Action) -> tuple[str, ...]:
    """Return what the tiny language's action does: the statements that it comes down to."""
    return tuple(r.name for r in action.resources)


_KINDS = {"strange": "function", **dict.fromkeys(("begin", "commit", "rollback", "back"), "transaction")}


class TinyAnalyst:
    """Reads a language of a few words, in which `;` parts statements."""

    outdated = False
    count = 0

    def changed(self) -> None:
        """Take no notice: there is no other session."""

    def begins(self, session: object, names: frozenset[str]) -> None:
        """Take no notice, likewise."""

    def ends(self, session: object) -> None:
        """Take no notice, likewise."""

    def is_contested(self, session: object, reading: Reading) -> bool:
        return False

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, frozenset[SearchPath]]] = []
        self._known: dict[tuple[bytes, frozenset[SearchPath], tuple[int, ...]], Reading] = {}

    def read(self, text: bytes, paths: frozenset[SearchPath], types: tuple[int, ...] = ()) -> Reading:
        self.asked.append((text, paths))
        key = (text, paths, types)
        if key not in self._known:
            try:
                self._known[key] = self._fresh(text.decode())
            except UnicodeDecodeError:
                unreadable = Action("postgres", "unreadable", text.decode("latin-1"), ())
                self._known[key] = Reading(unreadable, (), "22021", "invalid byte sequence")
        return self._known[key]

    def _fresh(self, text: str) -> Reading:
        parts = [part.strip() for part in text.split(";") if part.strip()]
        if any(part == "garbage" for part in parts):
            return Reading(Action("postgres", "unreadable", text, ()), (), "42601", "syntax error", 3)
        resources: list[Resource] = []
        effects: list[Any] = []
        for part in parts:
            verb, _, rest = part.partition(" ")
            name, _, inner = rest.partition(" ")
            match verb:
                case "prepare":
                    effects.append(Prepares(name, self._fresh(inner)))
                case "execute":
                    effects.append(Executes(name))
                    continue
                case "deallocate":
                    effects.append(Deallocates(None if name == "all" else name))
                case "declare":
                    effects.append(Declares(name, self._fresh(inner), holdable=False))
                case "hold":
                    effects.append(Declares(name, self._fresh(inner), holdable=True))
                case "fetch":
                    effects.append(Fetches(name))
                    continue
                case "close":
                    effects.append(Closes(None if name == "all" else name))
                case "commit" | "rollback":
                    effects.append(EndsTransaction())
                case "back":
                    effects.append(RollsBack())
                case "path":
                    effects.append(SetsPath((name,)))
                case "ddl":
                    effects.append(ChangesCatalog())
            access = {"delete": Access.WRITE, "strange": Access.UNKNOWN}.get(verb, Access.READ)
            kind = _KINDS.get(verb, "statement")
            resources.append(Resource(kind, part, verb, access))
        if not parts:
            resources.append(Resource("statement", "", "nothing", Access.NONE))
        return Reading(
            Action("postgres", parts[0].split()[0] if parts else "nothing", text, tuple(resources)),
            tuple(effects),
            statements=len(parts),
        )

    def compose(self, reading: Reading, prepared: Mapping[str, Reading], portals: Mapping[str, Reading]) -> Reading:
        own, held = dict(prepared), dict(portals)
        resources = list(reading.action.resources)
        effects: list[Any] = []
        pending = list(reading.effects)
        while pending and len(effects) < 20:
            effect = pending.pop(0)
            effects.append(effect)
            match effect:
                case Prepares(name, inner):
                    own[name] = inner
                case Declares(name, inner):
                    held[name] = inner
                case Executes(name):
                    resources += _named(own.get(name), name)
                    pending[:0] = own[name].effects if name in own else ()
                case Fetches(name):
                    resources += _named(held.get(name), name)
                    pending[:0] = held[name].effects if name in held else ()
        action = Action("postgres", reading.action.verb, reading.action.text, tuple(resources))
        return Reading(action, tuple(effects), statements=reading.statements)


def _named(inner: Reading | None, name: str) -> tuple[Resource, ...]:
    if inner is None or not inner.action.resources:
        return (Resource("statement", f"? {name}", "execute", Access.UNKNOWN),)
    return inner.action.resources


class Carrier:
    """Carries effects as the gateway does, with a rule for each action; `None` holds it until `settle`."""

    def __init__(
        self,
        rule: Callable[[Action], Ruling | None] = lambda _: ALLOW,
        *,
        analyst: Any = None,
        facts: SessionFacts | None = None,
    ) -> None:
        self.interceptor = PostgresInterceptor(
            analyst or TinyAnalyst(), facts or SessionFacts(dict(PARAMETERS), ("public",))
        )
        self.rule = rule
        self.judged: list[Action] = []
        self.actions: dict[int, Action] = {}
        self.held: list[Judge] = []
        self.notes: list[Note] = []
        self.asks: list[Ask] = []
        self.withdrawn: list[Withdraw] = []
        self.hangup = ""
        self.log: list[tuple[str, str]] = []
        self.sent = {Side.CLIENT: b"", Side.TARGET: b""}
        self._codecs = {Side.CLIENT: client_codec(), Side.TARGET: target_codec()}

    def client(self, *data: bytes) -> bytes:
        """Have the client say something; return what the target got for it."""
        return self._said(Side.CLIENT, b"".join(data), Side.TARGET)

    def target(self, *data: bytes) -> bytes:
        """Have the target say something; return what the client got for it."""
        return self._said(Side.TARGET, b"".join(data), Side.CLIENT)

    def _said(self, side: Side, data: bytes, other: Side) -> bytes:
        before = len(self.sent[other])
        for message in self._codecs[side].decode(data):
            self.carry(self.interceptor.received(side, message))
        return self.sent[other][before:]

    def settle(self, ruling: Ruling) -> bytes:
        """Rule on what is held; return what the target got for it."""
        before = len(self.sent[Side.TARGET])
        judge = self.held.pop(0)
        self.carry(self.interceptor.ruled(judge.ticket, ruling))
        return self.sent[Side.TARGET][before:]

    def answer(self, name: str, answer: object) -> bytes:
        """Answer a question; return what the target got for it."""
        before = len(self.sent[Side.TARGET])
        self.asks = [ask for ask in self.asks if ask.name != name]
        self.carry(self.interceptor.answered(name, answer))
        return self.sent[Side.TARGET][before:]

    def carry(self, effects: Iterable[Effect[Frames]]) -> None:
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    self.sent[to] += message.data
                    self.log.append(("send " + to.value, types(message.data)))
                case Judge(ticket=ticket, action=action):
                    self.judged.append(action)
                    self.actions[ticket] = action
                    self.log.append(("judge", action.text))
                    ruling = self.rule(action)
                    if ruling is None:
                        self.held.append(effect)
                        continue
                    self.carry(self.interceptor.ruled(ticket, ruling))
                case Note():
                    self.notes.append(effect)
                    self.log.append(("note", effect.kind))
                case Ask():
                    self.asks.append(effect)
                case Withdraw():
                    self.withdrawn.append(effect)
                case Hangup(reason=reason):
                    self.hangup = reason

    @property
    def finished(self) -> list[dict[str, Any]]:
        """What was noted of outcomes."""
        return [dict(n.detail) for n in self.notes if n.kind == "finished" and not isinstance(n.detail, bytes)]
