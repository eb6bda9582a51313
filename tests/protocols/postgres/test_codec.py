"""The two byte streams: whole messages or nothing, whatever the pieces they come in."""

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.errors import LimitExceeded, ProtocolError, UnreadableStream
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.codec import CLIENT_TYPES, TARGET_TYPES, Codec, client_codec, target_codec
from bastion.protocols.postgres.messages import Frames, frame
from tests.protocols.postgres.wire import SYNC, bind, complete, execute, parse, query, ready, row


def bodies(bounds: tuple[int, int]) -> st.SearchStrategy[bytes]:
    least, most = bounds
    return st.binary(min_size=least - 4, max_size=(most or least + 40) - 4)


def messages(types: dict[int, tuple[int, int]]) -> st.SearchStrategy[bytes]:
    return st.sampled_from(sorted(types)).flatmap(lambda tag: bodies(types[tag]).map(lambda body: frame(tag, body)))


STREAMS = st.one_of(
    st.tuples(st.just(client_codec), st.lists(messages(CLIENT_TYPES), max_size=12)),
    st.tuples(st.just(target_codec), st.lists(messages(TARGET_TYPES), max_size=12)),
)


def decoded(codec: Codec, pieces: list[bytes]) -> tuple[bytes, list[int]]:
    """Return what a codec yields for `pieces`: all bytes, and the types with runs as one."""
    data, tags = b"", list[int]()
    for piece in pieces:
        for message in codec.decode(piece):
            assert message.marks[0][1] == 0
            assert message.marks[-1][2] == len(message.data)
            data += codec.encode(message)
            for tag, start, _ in message.marks:
                assert message.data[start] == tag
                if not (tags and tag == tags[-1] and tag in (m.DATA_ROW, m.COPY_DATA)):
                    tags.append(tag)
    return data, tags


def cut(wire: bytes, points: list[int]) -> list[bytes]:
    at = sorted({p % (len(wire) + 1) for p in points} | {0, len(wire)})
    return [wire[a:b] for a, b in itertools.pairwise(at)]


@given(STREAMS, st.lists(st.integers(0, 5000), max_size=10))
def test_any_pieces_give_the_same_messages(stream: tuple[type[Codec], list[bytes]], points: list[int]) -> None:
    make, sent = stream
    wire = b"".join(sent)
    whole = decoded(make(), [wire])
    assert whole[0] == wire
    # Where Describe is a client's, its letter is DataRow's: runs are compared as runs on both sides.
    assert decoded(make(), cut(wire, points)) == whole


@given(
    st.sampled_from([client_codec, target_codec]), st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5)
)
def test_any_bytes_raise_only_protocol_errors(make: type[Codec], data: bytes, points: list[int]) -> None:
    codec = make(1000)
    with contextlib.suppress(ProtocolError):
        assert data.startswith(decoded(codec, cut(data, points))[0])


@given(st.sampled_from([client_codec, target_codec]), st.binary(min_size=1, max_size=60), st.data())
def test_flaw_behind_good_messages_does_not_take_them_along(
    make: type[Codec], flaw: bytes, data: st.DataObject
) -> None:
    types = CLIENT_TYPES if make is client_codec else TARGET_TYPES
    good = b"".join(data.draw(st.lists(messages(types), min_size=1, max_size=4)))
    seen = b""
    try:
        for message in make().decode(good + b"\xff" + flaw + b"\0" * 5):
            seen += message.data
    except ProtocolError:
        assert seen == good
    else:
        raise AssertionError("0xff is no type of message")


def test_run_of_rows_has_one_mark() -> None:
    rows = row(b"a") + row(b"b", None) + row()
    (message,) = target_codec().decode(rows + complete("SELECT 3") + ready())
    assert [mark[0] for mark in message.marks] == [m.DATA_ROW, m.COMMAND_COMPLETE, m.READY_FOR_QUERY]
    assert message == Frames(rows + complete("SELECT 3") + ready())


def test_describe_is_not_taken_for_rows() -> None:
    sent = frame(m.DESCRIBE, b"Sa\0") + frame(m.DESCRIBE, b"Sb\0")
    (message,) = client_codec().decode(sent)
    assert len(message.marks) == 2


@pytest.mark.parametrize("length", [0, 1, 3, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 30])
def test_absurd_length_is_refused_before_it_is_held(length: int) -> None:
    for make in (client_codec, target_codec):
        with pytest.raises(ProtocolError):
            list(make().decode(b"d" + struct.pack(">I", length)))


def test_message_at_the_limit_passes_and_one_above_does_not() -> None:
    (message,) = client_codec(1000).decode(query("x" * 993))
    assert len(message.data) == 999
    with pytest.raises(LimitExceeded):
        list(client_codec(1000).decode(query("x" * 995)[:5]))


def test_run_ends_at_a_row_above_the_limit() -> None:
    codec = target_codec(1000)
    with pytest.raises(LimitExceeded):
        list(codec.decode(row(b"a") + row(b"x" * 2000)))


@pytest.mark.parametrize("tag", [b"R", b"K", b"v", b"V", b"W", b"Q", b"\0"])
def test_target_may_not_send(tag: bytes) -> None:
    with pytest.raises(UnreadableStream):
        list(target_codec().decode(tag + b"\0\0\0\x08\0\0\0\0"))


@pytest.mark.parametrize("tag", [b"p", b"R", b"Z", b"\x16", b"\0"])
def test_client_may_not_send(tag: bytes) -> None:
    with pytest.raises(UnreadableStream):
        list(client_codec().decode(tag + b"\0\0\0\x08\0\0\0\0"))


@pytest.mark.parametrize("sent", [b"S\0\0\0\x05x", b"X\0\0\0\x08\0\0\0\0", b"H\0\0\0\x05\0", b"c\0\0\0\x05\0"])
def test_message_without_a_body_has_none(sent: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(client_codec().decode(sent))


@pytest.mark.parametrize(
    "data",
    [
        b"Q\0\0\0\x08a\0b\0",
        b"Q\0\0\0\x06ab",
    ],
)
def test_query_holds_one_string(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        m.read_query(data, 0, len(data))


@given(st.binary(max_size=80))
def test_readers_raise_only_protocol_errors(body: bytes) -> None:
    data = frame(m.BIND, body)
    for read in (
        m.read_query, m.read_parse, m.read_bind, m.read_execute, m.read_named, m.read_fields, m.read_parameter,
        m.read_tag,
    ):  # fmt: skip
        with contextlib.suppress(ProtocolError):
            read(data, 0, len(data))


@given(
    st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=5),
    st.sampled_from([[], [0], [1]]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5),
)
def test_bind_is_read_as_it_was_written(values: list[bytes | None], formats: list[int], name: str) -> None:
    data = bind(name, name + "p", values, formats)
    bound = m.read_bind(b"x" + data, 1, 1 + len(data))
    assert (bound.statement, bound.portal) == (name.encode(), name.encode() + b"p")
    assert (bound.values, bound.formats) == (tuple(values), tuple(formats))


@pytest.mark.parametrize("formats", [[2], [0, 1], [65535]])
def test_bind_with_formats_that_do_not_fit_is_refused(formats: list[int]) -> None:
    data = bind("", "", [b"1", b"2", b"3"], formats)
    with pytest.raises(ProtocolError):
        m.read_bind(data, 0, len(data))


def test_parse_and_execute_are_read_as_they_were_written() -> None:
    data = parse("select $1", "s", [23, 0]) + execute("p", 5) + SYNC
    (message,) = client_codec().decode(data)
    (_, start, end), (_, next_start, next_end), _ = message.marks
    assert m.read_parse(data, start, end) == (b"s", b"select $1", (23, 0))
    assert m.read_execute(data, next_start, next_end) == b"p"
