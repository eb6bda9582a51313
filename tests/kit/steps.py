"""Runs the steps of the hostile cases in `tests/corpus/attacks.yaml` against a gateway.

A step is a mapping with one key that says what to do; `on` beside it names another of the case's connections.

    startup: {…} or [[k, v], …]       start-up packet; without one the connection starts in the ordinary way
    q, q_hex, q_repeat, send_q        Query: as text, as hex, as [prefix, unit, n, suffix], without awaiting the answer
    parse, bind, describe, execute, close, sync, flush, fcall, copy_data, copy_done, terminate
    msg: [type, hex, length]          a message whose length lies
    raw_hex                           bytes as they are
    ssl_request, gssenc_request       what asks for encryption
    batch: […]                        the bytes of all inner steps in one write
    await: type, any or close         wait for an answer
    sleep                             wait until the statement sent last runs at the target
    cancel: {pid: …, key: …}          CancelRequest on a connection of its own
    admin: SQL                        run straight at the target, to set up or clean up
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit import pgwire
from tests.kit.pgwire import Closed, Connection, Message

_GRACE = 1.0
"""Seconds to wait for an answer that need not come."""
_UNSTARTED = {"startup", "ssl_request", "gssenc_request"}
_AWAITED = {"q", "q_hex", "q_repeat", "sync", "fcall", "copy_done"}
_UNSENT = "was not sent to the target"
_HELD = re.compile(r"bastion approve ([A-Za-z0-9]+)")

Step = Mapping[str, Any]


@dataclass
class Place:
    """Where a case runs, and the acts that it needs done outside its connections."""

    socket: Path
    database: str
    """The target's name, which is also the name of its database."""
    role: str
    port: int
    """The target's own port."""
    ticket: Callable[[], str]
    admin: Callable[[str], list[Any]]
    held: Callable[[str], None]
    """Called with the approval's id when a statement is held; is to settle it."""
    running: Callable[[str], None]
    """Returns when the target runs a statement that contains the text."""


@dataclass
class Run:
    """One run of a case, and what its client saw."""

    place: Place
    connections: dict[str, Connection] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    """The identifiers of what was held."""
    turned_away: bool = False
    """Whether a connection with nothing but a CancelRequest was hung up on."""
    sent: str = ""
    """The latest query."""

    def steps(self, steps: Iterable[Step]) -> "Run":
        """Carry the steps out, one after another."""
        steps = list(steps)
        first: dict[str, str] = {}
        for step in steps:
            verb = _verb(step)
            if verb not in {"admin", "sleep"}:
                first.setdefault(step.get("on", "A"), _first_of(step))
        for step in steps:
            self._step(step, first)
        return self

    def close(self) -> None:
        """Hang up everywhere."""
        for connection in self.connections.values():
            connection.socket.close()

    @property
    def messages(self) -> list[Message]:
        """Everything that any connection received, in messages."""
        return [m for c in self.connections.values() for m in c.seen]

    @property
    def raw(self) -> bytes:
        """Every byte that any connection received."""
        return b"\n".join(bytes(c.raw) for c in self.connections.values())

    @property
    def refusals(self) -> int:
        """How often the gateway, not the target, said no."""
        return sum(1 for m in self.messages if m.type == "E" and refused_by_gateway(m))

    @property
    def verdict(self) -> str:
        """The worst that happened: `allow`, `hold`, `deny` or `close`."""
        if self.turned_away or any(c.closed for c in self.connections.values()):
            return "close"
        # What was held was then denied, so that the run could go on; that refusal is no verdict of the policy.
        if self.refusals > len(self.holds):
            return "deny"
        return "hold" if self.holds else "allow"

    def _step(self, step: Step, first: Mapping[str, str]) -> None:
        verb, value = _verb(step), step[_verb(step)]
        name = step.get("on", "A")
        match verb:
            case "admin":
                self.place.admin(self._filled(value))
                return
            case "sleep":
                self.place.running(self.sent)
                return
            case "cancel":
                self._cancel(value)
                return
        connection = self._connection(name, start=first[name] not in _UNSTARTED)
        if connection.closed:
            return
        try:
            self._talk(connection, verb, value)
        except Closed:
            connection.closed = True

    def _talk(self, connection: Connection, verb: str, value: Any) -> None:
        match verb:
            case "await":
                if value == "close":
                    connection.until_closed()
                elif value == "any":
                    connection.receive(_GRACE)
                else:
                    connection.until(value, patience=_GRACE)
                return
            case "ssl_request" | "gssenc_request":
                connection.send(self._encoded(verb, value))
                connection.byte()
                return
        connection.send(self._encoded(verb, value))
        if verb in _AWAITED or verb == "startup":
            connection.until("Z", "G", "W")
        elif verb == "batch":
            for _ in range(sum(1 for inner in value if _verb(inner) in _AWAITED | {"startup"})):
                connection.until("Z", "G", "W", patience=_GRACE)
        elif verb in {"msg", "raw_hex"}:
            connection.until("Z", patience=_GRACE)

    def _connection(self, name: str, *, start: bool) -> Connection:
        if name not in self.connections:
            connection = Connection(self.place.socket, self.place.ticket)
            connection.on_notice = self._noticed
            self.connections[name] = connection
            if start:
                connection.login(
                    user=self.place.role,
                    database=self.place.database,
                    application_name="attack",
                    client_encoding="UTF8",
                )
        return self.connections[name]

    def _noticed(self, message: Message) -> None:
        found = _HELD.search(" ".join(message.fields.values()))
        if found and found[1] not in self.holds:
            self.holds.append(found[1])
            self.place.held(found[1])

    def _cancel(self, value: Mapping[str, Any]) -> None:
        def number(given: Any, attribute: str) -> int:
            return getattr(self.connections[given["of"]], attribute) if isinstance(given, Mapping) else int(given)

        numbers = number(value["pid"], "process"), number(value["key"], "key")
        with Connection(self.place.socket) as other:
            other.send(pgwire.request(pgwire.CANCEL_REQUEST, *numbers))
            self.turned_away = other.until_closed()

    def _filled(self, text: str) -> str:
        place = self.place
        return text.replace("{DB}", place.database).replace("{ROLE}", place.role).replace("{PORT}", str(place.port))

    def _encoded(self, verb: str, value: Any) -> bytes:
        match verb:
            case "q" | "send_q":
                self.sent = self._filled(value)
                return pgwire.query(self.sent)
            case "q_hex":
                return pgwire.query(bytes.fromhex(value))
            case "q_repeat":
                prefix, unit, times, suffix = value
                return pgwire.query(prefix + unit * times + suffix)
            case "parse":
                return pgwire.parse(value[0], self._filled(value[1]), *value[2:])
            case "bind":
                return pgwire.bind(*value)
            case "describe":
                return pgwire.describe(*value)
            case "execute":
                return pgwire.execute(*value)
            case "close":
                return pgwire.close(*value)
            case "sync":
                return pgwire.SYNC
            case "flush":
                return pgwire.FLUSH
            case "terminate":
                return pgwire.TERMINATE
            case "copy_data":
                return pgwire.frame("d", value.encode())
            case "copy_done":
                return pgwire.COPY_DONE
            case "raw_hex":
                return bytes.fromhex(value)
            case "msg":
                return pgwire.frame(value[0], bytes.fromhex(value[1]), *value[2:])
            case "fcall":
                oid = self.place.admin(f"select '{value['fn']}'::regprocedure::oid")[0][0]
                arguments = value.get("args", []), value.get("formats", []), value.get("result_format", 0)
                return pgwire.function_call(int(oid), *arguments)
            case "ssl_request":
                return pgwire.request(pgwire.SSL_REQUEST)
            case "gssenc_request":
                return pgwire.request(pgwire.GSSENC_REQUEST)
            case "startup":
                pairs = value.items() if isinstance(value, Mapping) else value
                return pgwire.startup([(self._filled(k), self._filled(v)) for k, v in pairs])
            case "batch":
                return b"".join(self._in_batch(inner) for inner in value)
        raise AssertionError(f"there is no step {verb}")

    def _in_batch(self, step: Step) -> bytes:
        encoded = self._encoded(_verb(step), step[_verb(step)])
        if _verb(step) == "startup":
            # Whoever smuggles a start-up packet sends the password along.
            encoded += pgwire.frame("p", pgwire.string(self.place.ticket()))
        return encoded


def refused_by_gateway(message: Message) -> bool:
    """Tell whether an ErrorResponse is the gateway's own: about a statement, or a parting word."""
    told = message.fields
    return _UNSENT in told.get("D", "") or told["M"].startswith("bastion ") or told.get("S") == "FATAL"


def _verb(step: Step) -> str:
    return next(key for key in step if key != "on")


def _first_of(step: Step) -> str:
    verb = _verb(step)
    return _first_of(step[verb][0]) if verb == "batch" else verb
