"""Errors, notices and notifications of a statement that a mask is in reach of, without what could quote a value.

A target quotes values in its words: `invalid input syntax for type integer: "…"`, `Key (email)=(…) already exists`. So
they are replaced by the name of the condition. A function can raise whatever it likes, in every field and with a code
of its own making: of what it raises only a code that PostgreSQL itself knows is left.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from bastion.errors import ProtocolError
from bastion.protocols.postgres.messages import NOTIFICATION_RESPONSE, frame

_WITHHELD: Final = ", in words that bastion withholds because they could quote a masked value"
_KEPT: Final = ("S", "V", "P")
"""Severity, as the client's language and as everybody's has it, and a position in the client's own text."""
_NAMES: Final = ("s", "t", "c", "d", "n")
"""Schema, table, column, data type and constraint."""
_CONTEXT: Final = frozenset("Wq")
"""Where it was raised, and the internal query: there if a function had a hand in it, whatever its language."""
_RAISED: Final = "P0001"
_UNNAMED: Final = "a condition of its own"


@cache
def conditions() -> dict[str, str]:
    """Return the words for each SQLSTATE that PostgreSQL knows, as in `errcodes.txt` of its source."""
    text = (files("bastion.protocols.postgres.covering") / "sqlstates.txt").read_text()
    return dict(line.split("\t") for line in text.splitlines())


def withheld(fields: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return the fields of an error or a notice, by their type, that may be shown beside a mask."""
    sqlstate = fields.get("C", b"").decode("ascii", "replace")
    words = conditions().get(sqlstate)
    ours = words is not None and not sqlstate.startswith("P0") and not _CONTEXT & fields.keys()
    if words is None and sqlstate != "00000":
        # Five characters of anybody's choosing are five characters of a value.
        words, sqlstate = conditions().get(f"{sqlstate[:2]}000", _UNNAMED), _RAISED
    shown = [(kind, _text(fields[kind])) for kind in _KEPT if kind in fields]
    shown += [("C", sqlstate), ("M", (words or "a message") + _WITHHELD)]
    if ours:
        shown += [(kind, _text(fields[kind])) for kind in _NAMES if kind in fields]
    return shown


def quiet_notification(data: bytes, start: int, end: int) -> bytes:
    """Return a NotificationResponse message without its payload."""
    channel_end = data.find(b"\0", start + 9, end)
    if channel_end < 0 or data.find(b"\0", channel_end + 1, end) != end - 1:
        raise ProtocolError("expected a notification's channel and payload, and nothing after them")
    if channel_end + 2 == end:
        return data[start:end]
    return frame(NOTIFICATION_RESPONSE, data[start + 5 : channel_end + 1] + b"\0")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
