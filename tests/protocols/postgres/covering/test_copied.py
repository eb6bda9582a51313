"""Copied rows, however they come: real servers take back what was covered, and what is no row never passes."""

import contextlib
import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bastion.errors import LimitExceeded, ProtocolError
from bastion.protocols.postgres.covering.copied import Copied, copied
from bastion.protocols.postgres.covering.grammar import CopyFormat, Form
from bastion.protocols.postgres.covering.rows import Constant, Covering
from bastion.protocols.postgres.messages import COPY_DATA, frame
from tests.kit.postgres import Server, fresh_database

PREAMBLE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
CANARY = b"canary"

Row = Sequence[str | None]


def reversed_text(value: bytes) -> bytes:
    return value.decode()[::-1].encode()


def pieces(data: bytes, points: Sequence[int]) -> list[bytes]:
    """Return some bytes, cut at those points."""
    cuts = sorted({0, len(data), *(p % (len(data) + 1) for p in points)})
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


def through(stream: Copied, data: bytes, points: Sequence[int] = ()) -> bytes:
    """Return what comes out of a stream that is cut at those points."""
    out = b"".join(map(stream.feed, pieces(data, points)))
    stream.finish()
    return out


def over(stream: Copied, messages: Sequence[bytes], together: int) -> list[bytes]:
    """Return what becomes of messages that are passed over that many together."""
    out = []
    for at in range(0, len(messages), together):
        run = b"".join(frame(COPY_DATA, message) for message in messages[at : at + together])
        out.append(stream.cover(b"head" + run + b"tail", 4, 4 + len(run)))
    stream.finish()
    return out


def carried(run: bytes) -> list[bytes]:
    """Return what a run of messages carries."""
    found, at = [], 0
    while at < len(run):
        tag, length = struct.unpack_from(">BI", run, at)
        assert tag == COPY_DATA
        found.append(run[at + 5 : at + 1 + length])
        at += 1 + length
    assert at == len(run)
    return found


FORMATS = {
    "text": ("", CopyFormat()),
    "text header": ("format text, header", CopyFormat(header=True)),
    "text delimiter": ("delimiter '|'", CopyFormat(delimiter=b"|")),
    "text control delimiter": (r"delimiter E'\x01'", CopyFormat(delimiter=b"\x01")),
    "text null": ("null 'none'", CopyFormat(null=b"none")),
    "text empty null": ("null ''", CopyFormat(null=b"")),
    "text null of its own": (r"null '\None'", CopyFormat(null=rb"\None")),
    "text null as an escape": (r"null '\none'", CopyFormat(null=rb"\none")),
    "csv": ("format csv", CopyFormat(Form.CSV)),
    "csv header": ("format csv, header", CopyFormat(Form.CSV, header=True)),
    "csv forced": ("format csv, force_quote *", CopyFormat(Form.CSV)),
    "csv null": (r"format csv, null '\N'", CopyFormat(Form.CSV, null=rb"\N")),
    "csv all": (
        r"format csv, delimiter '^', quote '''', escape '\', null 'a b', header, force_quote *",
        CopyFormat(Form.CSV, True, b"^", b"a b", b"'", b"\\"),
    ),
    "csv escape is the delimiter": (
        "format csv, delimiter ';', escape ';'",
        CopyFormat(Form.CSV, delimiter=b";", escape=b";"),
    ),
    "csv tab": (r"format csv, delimiter E'\t'", CopyFormat(Form.CSV, delimiter=b"\t")),
    "binary": ("format binary", CopyFormat(Form.BINARY)),
}

ROWS: list[Row] = [
    ("plain", "words", "here"),
    ("", "", ""),
    (None, None, None),
    ("tab\there", "new\nline", "both\r\n"),
    ("back\\slash", "\\N", "\\."),
    ("\\", "\\\\", "a\\"),
    ('quo"te', '""', '"'),
    ("it's", "''", "'"),
    ("comma,", ";a;", "a|b^c"),
    ("none", "a b", "\\none\\"),
    ("ünï", "\U0001f511", "e\u0301"),
    ("\b\f\v\x01\x7f", " lead", "trail "),
    ("a\n\n,\n", '"\n"', "\n"),
    ("NULL", "null", "\\n"),
]

PLANS: dict[str, list[Covering | None]] = {
    "first": [reversed_text, None, None],
    "second": [None, reversed_text, None],
    "last": [None, None, reversed_text],
    "constants": [Constant(b"**\t\"',\\*\n"), None, Constant(b"x", nulls=True)],
    "empty and null": [Constant(None), Constant(b"", nulls=True), Constant(None, nulls=True)],
    "all": [reversed_text, reversed_text, reversed_text],
    "none": [None, None, None],
}


AMBIGUOUS = {"text null": "none", "text empty null": "", "text null as an escape": "\none"}
"""Formats in which NULL is written as a value can be, and which: it could be a user's guess at one."""


def expected(form: str, value: str | None, covering: Covering | None) -> str | None:
    null = AMBIGUOUS.get(form)
    if null is not None and value in (None, null):
        if covering is None:
            return None
        value = null
    if covering is None or (value is None and not (isinstance(covering, Constant) and covering.nulls)):
        return value
    covered = covering((value or "").encode())
    return None if covered is None or covered.decode() == null else covered.decode()


@pytest.fixture(scope="module", params=["postgres", "postgres18"])
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection[Any]]:
    server: Server = request.getfixturevalue(request.param)
    with fresh_database(server) as database, psycopg.connect(database.dsn(), autocommit=True) as made:
        made.execute(
            "create table source (n serial, a text, b text, c text); create table kept (a text, b text, c text)"
        )
        made.cursor().executemany("insert into source (a, b, c) values (%s, %s, %s)", ROWS)
        yield made


def sent(connection: psycopg.Connection[Any], statement: str) -> list[bytes]:
    """Return the messages that the server sends for a COPY."""
    with connection.cursor().copy(statement.encode()) as copy:
        return list(map(bytes, copy))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_server_takes_back_what_was_covered(connection: psycopg.Connection[Any], form: str, plan: str) -> None:
    options, layout = FORMATS[form]
    options = f"with ({options})" if options else ""
    messages = sent(
        connection, f'copy (select a, b as "b,\'""^\\t\\n\\", c from source order by n) to stdout {options}'
    )
    coverings = PLANS[plan]
    data = b"".join(messages)
    covered = through(copied(layout, coverings), data)
    assert covered == through(copied(layout, coverings), data, range(len(data)))
    assert len(covered) == len(data) or plan != "none"
    if plan == "none":
        assert covered == data
    rewritten = [carried(rewritten) for rewritten in over(copied(layout, coverings), messages, 5)]
    assert list(map(len, rewritten)) == [len(messages[at : at + 5]) for at in range(0, len(messages), 5)]
    assert b"".join(itertools.chain(*rewritten)) == covered
    connection.execute("truncate kept")
    taken = f"copy kept (a, b, c) from stdin {options.replace(', force_quote *', '')}"
    with connection.cursor().copy(taken.encode()) as copy:
        copy.write(covered)
    kept = connection.execute("select a, b, c from kept order by ctid").fetchall()
    assert kept == [tuple(expected(form, *pair) for pair in zip(row, coverings, strict=True)) for row in ROWS]


LAYOUTS = st.sampled_from([layout for _, layout in FORMATS.values()])
COVERINGS = st.sampled_from([None, reversed_text, Constant(b"*,\t*"), Constant(None), Constant(b"", nulls=True)])


def written(layout: CopyFormat, rows: Sequence[Sequence[bytes | None]]) -> bytes:
    """Return rows as a server writes them, in the formats in which that is quickly said."""
    if layout.form is Form.BINARY:
        cells = [b"".join(struct.pack(">i", -1 if c is None else len(c)) + (c or b"") for c in row) for row in rows]
        counted = [struct.pack(">h", len(row)) + data for row, data in zip(rows, cells, strict=True)]
        return PREAMBLE + b"".join(counted) + TRAILER
    lines = []
    for row in rows:
        fields = []
        for value in row:
            if value is None:
                fields.append(b"" if layout.form is Form.CSV else rb"\N")
            elif layout.form is Form.CSV:
                fields.append(b'"' + value.replace(b'"', b'""') + b'"')
            else:
                fields.append(
                    value.replace(b"\\", rb"\\").replace(b"\n", rb"\n").replace(b"\r", rb"\r").replace(b"\t", rb"\t")
                )
        lines.append((b"," if layout.form is Form.CSV else b"\t").join(fields) + b"\n")
    return b"".join(lines)


VALUES = st.none() | st.text(st.sampled_from('ab,"\\\n\t'), max_size=6).map(str.encode)


@given(
    st.sampled_from([CopyFormat(), CopyFormat(Form.CSV), CopyFormat(Form.BINARY)]),
    st.lists(COVERINGS, min_size=1, max_size=4),
    st.data(),
)
def test_any_pieces_give_the_same_rows(
    layout: CopyFormat, coverings: list[Covering | None], data: st.DataObject
) -> None:
    row = st.lists(VALUES, min_size=len(coverings), max_size=len(coverings))
    stream = written(layout, data.draw(st.lists(row, max_size=5)))
    whole = through(copied(layout, coverings), stream)
    assert whole == through(copied(layout, coverings), stream, data.draw(st.lists(st.integers(0, 500), max_size=12)))
    points = sorted(
        {0, len(stream), *(p % (len(stream) + 1) for p in data.draw(st.lists(st.integers(0, 500), max_size=9)))}
    )
    messages = [stream[a:b] for a, b in itertools.pairwise(points)]
    runs = over(copied(layout, coverings), messages, data.draw(st.integers(1, 5)))
    assert whole == b"".join(message for run in runs for message in carried(run))
    # What was covered is a stream of the same format, in which nothing else changed.
    assert through(copied(layout, [None] * len(coverings)), whole) == whole


@given(LAYOUTS, st.lists(COVERINGS, max_size=4), st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=8))
@example(CopyFormat(), [None], b"\\.\n", [])
@example(CopyFormat(), [], b"\n\n", [1])
@example(CopyFormat(Form.CSV), [None], b'a"b\n', [])
@example(CopyFormat(Form.CSV), [None, None], b'"a"b,\n', [])
@example(CopyFormat(Form.BINARY), [None], PREAMBLE + b"\0\1\0\0\0\5abc", [25])
@example(CopyFormat(Form.BINARY), [None], PREAMBLE + b"\0\1\xff\xff\xff\xfe", [])
@example(CopyFormat(Form.BINARY), [None], PREAMBLE + TRAILER + b"x", [])
@example(CopyFormat(Form.BINARY), [None], b"PGCOPY\n\xff\r\n\0\0\1\0\0\0\0\0\0" + TRAILER, [])
def test_any_bytes_raise_nothing_else(
    layout: CopyFormat, coverings: list[Covering | None], data: bytes, points: list[int]
) -> None:
    with contextlib.suppress(ProtocolError):
        through(copied(layout, coverings), data, points)
    with contextlib.suppress(ProtocolError):
        copied(layout, coverings).cover(data, 0, len(data))
    with contextlib.suppress(ProtocolError):
        over(copied(layout, coverings), [PREAMBLE, data, data] if layout.form is Form.BINARY else [data, data], 1)


FLAWED = {
    "text: too few": (CopyFormat(), b"canary\n"),
    "text: too many": (CopyFormat(), b"a\tb\tcanary\n"),
    "text: an escape that is none": (CopyFormat(), b"a\\.\tcanary\n"),
    "text: an end": (CopyFormat(), b"\\.\n"),
    "text: a newline that is escaped": (CopyFormat(), b"a\tcanary\\\n"),
    "text: a carriage return": (CopyFormat(), b"a\tcanary\r\n"),
    "csv: too few": (CopyFormat(Form.CSV), b"canary\n"),
    "csv: too many": (CopyFormat(Form.CSV), b'a,"b",canary\n'),
    "csv: a quote within": (CopyFormat(Form.CSV), b'a,can"ary\n'),
    "csv: something behind a quote": (CopyFormat(Form.CSV), b'"a"canary,b\n'),
    "csv: a carriage return": (CopyFormat(Form.CSV), b"a,canary\r\n"),
    "binary: no preamble": (CopyFormat(Form.BINARY), b"\0\2" + b"\0\0\0\6canary" * 2),
    "binary: too few": (CopyFormat(Form.BINARY), PREAMBLE + b"\0\1\0\0\0\6canary"),
    "binary: a length below null": (CopyFormat(Form.BINARY), PREAMBLE + b"\0\2\xff\xff\xff\xfecanary"),
    "binary: flags": (CopyFormat(Form.BINARY), PREAMBLE[:12] + b"\1" + PREAMBLE[13:] + b"\0\2"),
    "binary: something behind its end": (CopyFormat(Form.BINARY), PREAMBLE + TRAILER + b"canary"),
}


@pytest.mark.parametrize("flaw", FLAWED)
def test_what_deviates_is_refused_at_once(flaw: str) -> None:
    layout, data = FLAWED[flaw]
    with pytest.raises(ProtocolError):
        copied(layout, [None, None]).feed(data)


@pytest.mark.parametrize(
    ("layout", "data"),
    [
        (CopyFormat(), b"a\tcanary"),
        (CopyFormat(Form.CSV), b'a,"canary\n'),
        (CopyFormat(Form.BINARY), b""),
        (CopyFormat(Form.BINARY), PREAMBLE),
        (CopyFormat(Form.BINARY), PREAMBLE + b"\0\2\0\0\0\6canary"),
    ],
)
def test_what_is_unfinished_does_not_pass(layout: CopyFormat, data: bytes) -> None:
    stream = copied(layout, [None, None])
    assert CANARY not in stream.feed(data)
    with pytest.raises(ProtocolError):
        stream.finish()


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        (CopyFormat(), b"0123456789" * 101),
        (CopyFormat(Form.CSV), b'"' + b"0\n" * 501),
        (CopyFormat(Form.BINARY), PREAMBLE + b"\0\2" + (b"\0\0\3\xe6" + bytes(998)) * 2),
        (CopyFormat(Form.BINARY), PREAMBLE + b"\0\2\x7f\xff\xff\xff"),
    ],
)
def test_what_is_held_is_bounded(layout: CopyFormat, row: bytes) -> None:
    with pytest.raises(LimitExceeded):
        through(copied(layout, [None, None], limit=1000), row, range(19, 3000, 10))


def test_a_peer_that_dribbles_is_given_up() -> None:
    stream = copied(CopyFormat(Form.CSV), [None], limit=1000)
    stream.feed(b'"')
    with pytest.raises(LimitExceeded, match="pieces"):
        through(stream, b"\n" * 900, range(900))


def test_a_field_as_large_as_a_message_is_read() -> None:
    for layout, value in (
        (CopyFormat(), b"\\\\" * 4_000_000),
        (CopyFormat(Form.CSV), b'"' + b'""' * 4_000_000 + b'"'),
        (CopyFormat(Form.CSV), b"\\" * 8_000_000),
    ):
        delimiter = b"," if layout.form is Form.CSV else b"\t"
        data = value + delimiter + CANARY + b"\n"
        assert through(copied(layout, [None, Constant(b"x")]), data).count(CANARY) == 0


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        (CopyFormat(null=b"none"), b"none\t" * 1000),
        (CopyFormat(), rb"\N" + b"\t\\N" * 1000),
        (CopyFormat(), b"a\t" * 1599 + b"x" * 1_000_000),
        (CopyFormat(Form.CSV), b"," * 1000),
        (CopyFormat(Form.CSV), b'"a,\n",' * 1599 + b'"' + b"x\n" * 1_000_000 + b'"'),
    ],
)
def test_a_row_that_is_none_is_refused_in_no_time(layout: CopyFormat, row: bytes) -> None:
    """The patterns are tried in one way only: otherwise these would take for ever."""
    for columns in (999, 1600, 1602):
        with pytest.raises(ProtocolError):
            through(copied(layout, [None] * columns), row + b"\r\n")


def test_a_delimiter_is_one_byte() -> None:
    for layout in (CopyFormat(delimiter=b"ab"), CopyFormat(Form.CSV, quote=b""), CopyFormat(Form.CSV, escape=b"xx")):
        with pytest.raises(ProtocolError):
            copied(layout, [None])


@pytest.mark.parametrize("wire", [b"d\0\0\0\3", b"d\0\0\0", b"D\0\0\0\4", b"d\0\0\0\6a"])
def test_messages_are_whole(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        copied(CopyFormat(), [None]).cover(wire, 0, len(wire))


def test_a_message_that_ends_no_row_is_joined_with_the_next() -> None:
    wire = frame(COPY_DATA, b"a\tcan") + frame(COPY_DATA, b"ary\nb\tc\n") + frame(COPY_DATA, b"d\te\n")
    covered = copied(CopyFormat(), [None, Constant(b"x")]).cover(wire, 0, len(wire))
    assert covered == frame(COPY_DATA, b"a\tx\nb\tx\n") + frame(COPY_DATA, b"d\tx\n")


def test_a_guess_at_a_value_that_stands_for_null_is_not_answered() -> None:
    """Whoever says that NULL is to be written as `canary` cannot see by that which value is `canary`."""
    layout = CopyFormat(null=CANARY)
    assert through(copied(layout, [reversed_text]), b"canary\nother\n") == b"yranac\nrehto\n"
    layout = CopyFormat(Form.CSV, null=CANARY)
    assert through(copied(layout, [reversed_text]), b'canary\n"canary"\n') == b'canary\n"yranac"\n'
