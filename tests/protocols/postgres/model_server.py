"""A model of how PostgreSQL treats statements, portals, transactions and errors, for the tiny language of `wire`.

It says of each Query and Execute that it was given what ran for it. Written from the documentation's message flow and
from `postgres.c`, and compared with a real server by test_live.
"""

from dataclasses import dataclass, field

from tests.protocols.postgres.wire import (
    BOUND,
    CLOSED,
    NO_DATA,
    PARSED,
    SUBSTITUTE_FAILS,
    complete,
    error,
    ready,
    sight,
    split,
)


class Failed(Exception):
    """The message fails."""


@dataclass
class ModelServer:
    """One backend."""

    statements: dict[str, str] = field(default_factory=dict)
    portals: dict[str, str] = field(default_factory=dict)
    ran: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    """For each Query and Execute that was not skipped and ran something: its number, and the statements that ran."""
    asked: int = 0
    """Query and Execute messages that came, the gateway's substitutes left out."""
    in_block: bool = False
    aborted: bool = False
    skipping: bool = False
    _step: int = 0

    def receive(self, data: bytes) -> bytes:
        """Take messages and return the answers."""
        return b"".join(self._one(tag, body) for tag, body in split(data))

    def _one(self, tag: str, body: bytes) -> bytes:
        if tag in "PBEC" and b"bastion_catalog" in body[:64]:
            return self._asked_for_catalog(tag, body)
        substitute = b"bastion_refuses_this" in body
        if tag in "QE" and not substitute:
            self.asked += 1
        if self.skipping and tag != "S":
            return b""
        parts = [part.decode("latin-1") for part in body.split(b"\0")]
        if tag == "S":
            self.skipping = False
            return self._end_of_run()
        if tag == "Q":
            return self._query(parts[0], substitute) + self._end_of_run()
        try:
            if substitute:
                raise Failed
            return self._extended(tag, body, parts)
        except Failed:
            self.skipping = True
            self.aborted = True
            return SUBSTITUTE_FAILS if substitute else error()

    def _asked_for_catalog(self, tag: str, body: bytes) -> bytes:
        """Answer one of the messages by which the gateway asks what is temporary, on its own account."""
        if self.skipping or self.aborted:
            raise AssertionError("the gateway asks a target that does not wait for it")
        if tag == "P":
            opens = any(body.split(b"\0")[1].startswith(word) for word in (b"SAVEPOINT", b"BEGIN"))
            self._step = 0 if opens else self._step + 1
            return PARSED
        if tag == "E":
            return (self.sight() if self._step == 2 else b"") + complete()
        return BOUND if tag == "B" else CLOSED

    def sight(self) -> bytes:
        """Return the row that says what is temporary."""
        return sight()

    def _extended(self, tag: str, body: bytes, parts: list[str]) -> bytes:
        match tag:
            case "H":
                return b""
            case "P":
                name, text = parts[0], parts[1]
                if name == "":
                    self.statements.pop("", None)
                self._usable(text)
                if "missing" in text or (name and name in self.statements):
                    raise Failed
                self.statements[name] = text
                return PARSED
            case "B":
                portal, name = parts[0], parts[1]
                if name not in self.statements:
                    raise Failed
                self._usable(self.statements[name])
                if portal and portal in self.portals:
                    raise Failed
                self.portals[portal] = self.statements[name]
                return BOUND
            case "E":
                if parts[0] not in self.portals:
                    raise Failed
                text = self.portals[parts[0]]
                self._usable(text)
                return self._run(text, self._started())
            case "C":
                kept = self.statements if parts[0][0] == "S" else self.portals
                kept.pop(parts[0][1:], None)
                return CLOSED
            case "D":
                kept = self.statements if parts[0][0] == "S" else self.portals
                if parts[0][1:] not in kept:
                    raise Failed
                return NO_DATA
        raise AssertionError(tag)

    def _query(self, text: str, substitute: bool) -> bytes:
        self.statements.pop("", None)
        if substitute:
            self.aborted = True
            return SUBSTITUTE_FAILS
        ran = self._started()
        said = b""
        try:
            for part in (p.strip() for p in text.split(";") if p.strip()):
                self._usable(part)
                self.portals.pop("", None)
                said += self._run(part, ran)
        except Failed:
            self.aborted = True
            return said + error()
        return said

    def _usable(self, text: str) -> None:
        if self.aborted and text.split()[0] not in ("commit", "rollback"):
            raise Failed

    def _started(self) -> list[str]:
        return []

    def _run(self, text: str, ran: list[str]) -> bytes:
        verb, _, rest = text.partition(" ")
        name, _, inner = rest.partition(" ")
        before = len(ran)
        match verb:
            case "prepare":
                if name in self.statements:
                    raise Failed
                self.statements[name] = inner
                ran.append(text)
            case "execute":
                if name not in self.statements or self.statements[name].startswith("execute"):
                    raise Failed
                self._run(self.statements[name], ran)
            case "deallocate":
                if name == "all":
                    self.statements.clear()
                elif self.statements.pop(name, None) is None:
                    raise Failed
                ran.append(text)
            case "declare":
                if not self.in_block or name in self.portals:
                    raise Failed
                self.portals[name] = inner
                ran.append(text)
            case "fetch":
                if name not in self.portals or self.portals[name].startswith("fetch"):
                    raise Failed
                self._run(self.portals[name], ran)
            case "close":
                if name == "all":
                    self.portals.clear()
                elif self.portals.pop(name, None) is None:
                    raise Failed
                ran.append(text)
            case "begin":
                self.in_block = True
                ran.append(text)
            case "commit" | "rollback":
                self.in_block = self.aborted = False
                self.portals.clear()
                ran.append(text)
            case "broken":
                raise Failed
            case _:
                ran.append(text)
        if len(ran) > before:
            self.ran.append((self.asked, tuple(ran[before:])))
        return complete(verb.upper())

    def _end_of_run(self) -> bytes:
        if not self.in_block:
            self.aborted = False
            self.portals.clear()
        return ready("I" if not self.in_block else "E" if self.aborted else "T")
