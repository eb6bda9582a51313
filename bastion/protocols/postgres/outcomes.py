"""What a client can read from the messages that the gateway puts into the conversation."""

import re
from dataclasses import dataclass

from bastion.protocols.postgres.listing import harmless

_DENIED = re.compile(r'refused by rule "(?P<rule>.*?)": (?P<reason>.*)', re.DOTALL)
_NOT_SENT = "The statement was not sent to the target."
_WAITING = re.compile(r"waiting for approval (?P<id>\S+) until (?P<until>.+)")
EXPIRED = "bastion:expired"


@dataclass(frozen=True, slots=True)
class Message:
    """An error or a notice, field by field."""

    severity: str
    sqlstate: str
    text: str
    detail: str = ""
    hint: str = ""
    position: str = ""

    def lines(self) -> str:
        """Return it as psql prints it."""
        parts = [f"{self.severity}:  {self.text}"]
        parts += [f"{name}:  {value}" for name, value in (("DETAIL", self.detail), ("HINT", self.hint)) if value]
        return harmless("\n".join(parts), lines=True)

    def denial(self) -> tuple[str, str] | None:
        """Return the rule and the reason, if the gateway refused; None for an error of the target's own."""
        found = _DENIED.fullmatch(self.text) if self.sqlstate == "42501" and self.detail == _NOT_SENT else None
        return (found["rule"], found["reason"]) if found else None

    def approval(self) -> tuple[str, str] | None:
        """Return the request's identifier and until when it waits, if this notice says that people are asked."""
        found = _WAITING.fullmatch(self.text) if self.severity == "NOTICE" else None
        return (found["id"], found["until"]) if found else None

    def as_json(self) -> dict[str, object]:
        """Return it for a program."""
        said: dict[str, object] = {"sqlstate": self.sqlstate, "message": self.text}
        said |= {name: value for name, value in (("detail", self.detail), ("hint", self.hint)) if value}
        if denial := self.denial():
            said["denied"] = {"rule": denial[0], "reason": denial[1]}
        return said
