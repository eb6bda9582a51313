"""Errors, notices and notifications of a statement that a mask is in reach of, without what could quote a value.

A target quotes values in its words: `invalid input syntax for type integer: "…"`, `Key (email)=(…) already exists`. So
they are replaced by the name of the condition. A function can raise whatever it likes, in every field and with a code
of its own making: of what it raises only a code that PostgreSQL itself knows is left.
"""

import re
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
_SWITCH: Final = rb"on|off"
_SETTINGS: Final = {
    b"DateStyle": rb"(?:ISO|SQL|Postgres|German), (?:MDY|DMY|YMD)",
    b"IntervalStyle": rb"postgres|postgres_verbose|sql_standard|iso_8601",
    # A name that begins with a part of the world is one of those that the target knows.
    b"TimeZone": rb"UTC|GMT|(?:Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Etc|Europe|Indian|Pacific|US)"
    rb"/[A-Za-z0-9_+/-]+",
    b"client_encoding": rb"UTF8",
    b"server_encoding": rb"[A-Z0-9_]+",
    b"integer_datetimes": _SWITCH,
    b"in_hot_standby": _SWITCH,
    b"is_superuser": _SWITCH,
    b"standard_conforming_strings": _SWITCH,
    b"default_transaction_read_only": _SWITCH,
}
"""Reported settings whose values are few, and what these look like."""


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


def is_plain(setting: bytes, value: bytes) -> bool:
    """Tell whether the value of a reported setting is one of few, so that it cannot be anything else's."""
    few = _SETTINGS.get(setting)
    return few is not None and re.fullmatch(few, value) is not None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
