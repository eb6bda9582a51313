"""How a refusal reaches the client: the target is given something that cannot be parsed, and its error is replaced.

So the target itself fails the transaction, keeps the replies in order and skips to the next Sync, and both ends agree
on where they stand.
"""

from dataclasses import dataclass
from typing import Final

from bastion.model.text import visible
from bastion.model.verdict import Deny
from bastion.protocols.contract import Waiting
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.messages import frame, notice
from bastion.protocols.postgres.sql.reading import Reading

_MARKER: Final = b"bastion_refuses_this"
_SYNTAX_ERROR: Final = b"42601"

QUERY_SUBSTITUTE: Final = frame(m.QUERY, _MARKER + b"\0")
PARSE_SUBSTITUTE: Final = frame(m.PARSE, _MARKER + b"\0" + _MARKER + b"\0\0\0")
"""Parse into a name of ours; a Parse that fails leaves every name as it was."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a client is told instead of the target's answer."""

    sqlstate: str
    message: str
    detail: str = ""
    hint: str = ""
    position: int = 0

    def encoded(self) -> bytes:
        """Return the ErrorResponse."""
        fields = [
            ("S", "ERROR"),
            ("V", "ERROR"),
            ("C", self.sqlstate),
            ("M", self.message),
            ("D", self.detail),
            ("H", self.hint),
            ("P", str(self.position) if self.position else ""),
        ]
        return notice(m.ERROR_RESPONSE, fields)


CANCELED: Final = Refusal("57014", "canceling statement due to user request")


def denied(deny: Deny) -> Refusal:
    """Return the words for a denial."""
    return Refusal(
        "42501",
        f'refused by rule "{visible(deny.rule)}": {visible(deny.reason)}',
        detail="The statement was not sent to the target.",
        hint='"bastion policy explain" tells how the statement was understood and which rules spoke about it.',
    )


def unreadable(reading: Reading) -> Refusal:
    """Return the words for a text that could not be read."""
    return Refusal(
        reading.sqlstate,
        visible(reading.message),
        detail="The statement was not sent to the target.",
        position=reading.position,
    )


def is_of_substitute(fields: dict[str, bytes]) -> bool:
    """Tell whether an error of the target is the one that a substitute was made to cause."""
    return fields.get("C") == _SYNTAX_ERROR and _MARKER in fields.get("M", b"")


def waiting_notice(waiting: Waiting) -> bytes:
    """Return the NoticeResponse that says people are being asked."""
    approval = visible(waiting.approval)
    wanted = [
        f'rule "{visible(d.rule)}" ({visible(d.reason)}) wants {d.votes} of {visible(", ".join(sorted(d.approvers)))}'
        for d in waiting.demands
    ]
    fields = [
        ("S", "NOTICE"),
        ("V", "NOTICE"),
        ("C", "01000"),
        ("M", f"waiting for approval {approval} until {waiting.expires:%Y-%m-%d %H:%M:%S} UTC"),
        ("D", "; ".join(wanted)),
        ("H", f'An approver runs "bastion approve {approval}". Cancel the statement to withdraw the request.'),
    ]
    return notice(m.NOTICE_RESPONSE, fields)


def parting(message: str, hint: str, sqlstate: str) -> bytes:
    """Return the ErrorResponse that ends a conversation."""
    fields = [("S", "FATAL"), ("V", "FATAL"), ("C", sqlstate), ("M", visible(message)), ("H", visible(hint))]
    return notice(m.ERROR_RESPONSE, fields)
