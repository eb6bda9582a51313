"""The messages of the frontend/backend protocol 3: their types, and readers and writers of the ones we look into.

See "Message Formats" in PostgreSQL's documentation. A reader is a cursor with an end check: lengths are checked
before they are believed, and bytes left over are an error.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import Final, TypeAlias

from bastion.errors import ProtocolError

Mark: TypeAlias = tuple[int, int, int]
"""A message's type, and where its bytes start and end."""

HEADER: Final = Struct(">BI")
_COUNT: Final = Struct(">H")
_LENGTH: Final = Struct(">i")
_COLUMN: Final = Struct(">IHIhiH")

# What a client sends.
QUERY: Final = ord("Q")
PARSE: Final = ord("P")
BIND: Final = ord("B")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
CLOSE: Final = ord("C")
SYNC: Final = ord("S")
FLUSH: Final = ord("H")
TERMINATE: Final = ord("X")
FUNCTION_CALL: Final = ord("F")
COPY_FAIL: Final = ord("f")
PASSWORD: Final = ord("p")

# What both send.
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")

# What a target sends.
AUTHENTICATION: Final = ord("R")
BACKEND_KEY_DATA: Final = ord("K")
NEGOTIATE_PROTOCOL_VERSION: Final = ord("v")
PARAMETER_STATUS: Final = ord("S")
READY_FOR_QUERY: Final = ord("Z")
PARSE_COMPLETE: Final = ord("1")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
PARAMETER_DESCRIPTION: Final = ord("t")
ROW_DESCRIPTION: Final = ord("T")
NO_DATA: Final = ord("n")
DATA_ROW: Final = ord("D")
COMMAND_COMPLETE: Final = ord("C")
EMPTY_QUERY_RESPONSE: Final = ord("I")
PORTAL_SUSPENDED: Final = ord("s")
ERROR_RESPONSE: Final = ord("E")
NOTICE_RESPONSE: Final = ord("N")
NOTIFICATION_RESPONSE: Final = ord("A")
COPY_IN_RESPONSE: Final = ord("G")
COPY_OUT_RESPONSE: Final = ord("H")
COPY_BOTH_RESPONSE: Final = ord("W")
FUNCTION_CALL_RESPONSE: Final = ord("V")


@dataclass(slots=True)
class Frames:
    """Whole messages of one side, as they arrived together.

    One object for a whole read, not one a message, because a message costs less to carry than an object. A run of rows
    or of copied data, however long, has one mark.
    """

    data: bytes
    marks: list[Mark] = field(default_factory=list, compare=False, repr=False)


def frame(tag: int, body: bytes = b"") -> bytes:
    """Return one message."""
    return HEADER.pack(tag, len(body) + 4) + body


def text(value: bytes) -> bytes:
    """Return a string as the protocol writes it, ended by NUL; raise `ProtocolError` if it holds one itself."""
    if b"\0" in value:
        raise ProtocolError("expected a string without NUL")
    return value + b"\0"


def read_query(data: bytes, start: int, end: int) -> bytes:
    """Return the text of a Query message."""
    stop = data.find(b"\0", start + 5, end)
    if stop != end - 1:
        raise ProtocolError("expected Query to hold one string and nothing after it")
    return data[start + 5 : stop]


def read_parse(data: bytes, start: int, end: int) -> tuple[bytes, bytes, tuple[int, ...]]:
    """Return a Parse message's statement name, text and parameter types (0 where the target is to find out)."""
    name_end = _string_end(data, start + 5, end)
    text_end = _string_end(data, name_end + 1, end)
    at = text_end + 1
    if at + 2 > end:
        raise ProtocolError("expected Parse to say how many types it names")
    (count,) = _COUNT.unpack_from(data, at)
    if at + 2 + 4 * count != end:
        raise ProtocolError("expected Parse to end after its types")
    types = Struct(f">{count}I").unpack_from(data, at + 2) if count else ()
    return data[start + 5 : name_end], data[name_end + 1 : text_end], types


@dataclass(slots=True)
class Bound:
    """A Bind message: which portal, of which statement, with what."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    """As it came: none means all text, one means the same for all."""
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...] = ()


def read_bind(data: bytes, start: int, end: int) -> Bound:
    """Return what a Bind message binds."""
    portal_end = data.find(b"\0", start + 5, end)
    name_end = data.find(b"\0", portal_end + 1, end)
    if portal_end < 0 or name_end < 0:
        raise ProtocolError("expected the names of a portal and a statement in Bind")
    formats, at = _formats(data, name_end + 1, end)
    if at + 2 > end:
        raise ProtocolError("expected Bind to say how many values it binds")
    count = data[at] << 8 | data[at + 1]
    at += 2
    if len(formats) > 1 and len(formats) != count:
        raise ProtocolError(f"expected {count} parameter formats, found {len(formats)}")
    values: list[bytes | None] = []
    for _ in range(count):
        if at + 4 > end:
            raise ProtocolError("expected Bind to hold all the values it announces")
        (size,) = _LENGTH.unpack_from(data, at)
        at += 4
        if size == -1:
            values.append(None)
        elif size < 0 or at + size > end:
            raise ProtocolError("expected a value to end within its Bind")
        else:
            values.append(data[at : at + size])
            at += size
    results, at = _formats(data, at, end)
    if at != end:
        raise ProtocolError("expected Bind to end after its result formats")
    return Bound(data[start + 5 : portal_end], data[portal_end + 1 : name_end], formats, tuple(values), results)


def read_execute(data: bytes, start: int, end: int) -> bytes:
    """Return the name of the portal that an Execute message runs."""
    stop = _string_end(data, start + 5, end)
    if stop + 5 != end:
        raise ProtocolError("expected Execute to end after its row limit")
    return data[start + 5 : stop]


def read_named(data: bytes, start: int, end: int) -> tuple[int, bytes]:
    """Return what a Describe or Close message speaks of: `S` or `P`, and the name."""
    kind = data[start + 5] if end - start > 6 else 0
    if kind not in (0x53, 0x50) or _string_end(data, start + 6, end) != end - 1:
        raise ProtocolError("expected the kind and the name of a statement or a portal, and nothing after it")
    return kind, data[start + 6 : end - 1]


def read_fields(data: bytes, start: int, end: int) -> dict[str, bytes]:
    """Return the fields of an ErrorResponse or a NoticeResponse by their type."""
    fields: dict[str, bytes] = {}
    at = start + 5
    while at < end and data[at] != 0:
        stop = _string_end(data, at + 1, end)
        fields[chr(data[at])] = data[at + 1 : stop]
        at = stop + 1
    if at != end - 1:
        raise ProtocolError("expected the fields of an error or a notice to end with a zero byte")
    return fields


def read_parameter(data: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """Return the name and the value of a ParameterStatus message."""
    stop = _string_end(data, start + 5, end)
    if _string_end(data, stop + 1, end) != end - 1:
        raise ProtocolError("expected a parameter's name and value, and nothing after them")
    return data[start + 5 : stop], data[stop + 1 : end - 1]


def read_columns(data: bytes, start: int, end: int) -> list[tuple[str, int, int]]:
    """Return the name, the type's OID and the format of each column of a RowDescription message."""
    if start + 7 > end:
        raise ProtocolError("expected RowDescription to say how many columns it describes")
    (count,) = _COUNT.unpack_from(data, start + 5)
    at = start + 7
    columns: list[tuple[str, int, int]] = []
    for _ in range(count):
        stop = _string_end(data, at, end)
        if stop + 1 + _COLUMN.size > end:
            raise ProtocolError("expected the columns to end within their description")
        _, _, oid, _, _, form = _COLUMN.unpack_from(data, stop + 1)
        columns.append((data[at:stop].decode("utf-8", "surrogateescape"), oid, form))
        at = stop + 1 + _COLUMN.size
    if at != end:
        raise ProtocolError("expected RowDescription to end after its columns")
    return columns


def read_tag(data: bytes, start: int, end: int) -> str:
    """Return the tag of a CommandComplete message."""
    if _string_end(data, start + 5, end) != end - 1:
        raise ProtocolError("expected a command tag and nothing after it")
    return data[start + 5 : end - 1].decode("ascii", "backslashreplace")


def notice(tag: int, fields: list[tuple[str, str]]) -> bytes:
    """Return an ErrorResponse or a NoticeResponse. Empty fields are left out; NUL cannot occur in one."""
    body = b"".join(k.encode() + v.replace("\0", "\\0").encode("utf-8", "replace") + b"\0" for k, v in fields if v)
    return frame(tag, body + b"\0")


def _string_end(data: bytes, start: int, end: int) -> int:
    stop = data.find(b"\0", start, end)
    if stop < 0:
        raise ProtocolError("expected a string to end within its message")
    return stop


def _formats(data: bytes, at: int, end: int) -> tuple[tuple[int, ...], int]:
    if at + 2 > end:
        raise ProtocolError("expected a number of formats")
    count = data[at] << 8 | data[at + 1]
    at += 2
    if count == 0:
        return (), at
    if at + 2 * count > end:
        raise ProtocolError("expected the formats to end within their message")
    formats: tuple[int, ...] = Struct(f">{count}H").unpack_from(data, at) if count > 1 else _COUNT.unpack_from(data, at)
    if max(formats) > 1:
        raise ProtocolError("expected a format of 0 or 1")
    return formats, at + 2 * count
