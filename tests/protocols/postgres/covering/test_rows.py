"""Runs of rows: what is covered is gone, what is not is untouched, and what is no row is refused."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bastion.errors import ProtocolError
from bastion.protocols.postgres.codec import target_codec
from bastion.protocols.postgres.covering.rows import Constant, Covering, cover_rows
from bastion.protocols.postgres.messages import DATA_ROW, frame

Row = Sequence[bytes | None]
CANARY = b"canary"


def encoded(row: Row) -> bytes:
    cells = (struct.pack(">i", -1) if c is None else struct.pack(">i", len(c)) + c for c in row)
    return frame(DATA_ROW, struct.pack(">H", len(row)) + b"".join(cells))


def starred(value: bytes) -> bytes:
    return b"*" * (len(value) // 2)


def dropped(value: bytes) -> None:
    return None


COVERINGS: list[Covering | None] = [
    None,
    Constant(b"********"),
    Constant(b""),
    Constant(None),
    Constant(b"********", nulls=True),
    Constant(b"", nulls=True),
    Constant(None, nulls=True),
    starred,
    dropped,
]

CELLS = st.none() | st.binary(max_size=12) | st.just(CANARY)


def expected(value: bytes | None, covering: Covering | None) -> bytes | None:
    if covering is None:
        return value
    if value is None:
        return covering.value if isinstance(covering, Constant) and covering.nulls else None
    return covering(value)


@st.composite
def results(draw: st.DrawFn) -> tuple[list[Covering | None], list[list[bytes | None]]]:
    coverings = draw(st.lists(st.sampled_from(COVERINGS), max_size=6))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(coverings), max_size=len(coverings)), max_size=6))
    return coverings, rows


@given(results(), st.binary(max_size=5), st.binary(max_size=5))
def test_each_cell_is_covered_as_its_column_says(
    result: tuple[list[Covering | None], list[list[bytes | None]]], before: bytes, behind: bytes
) -> None:
    coverings, rows = result
    run = b"".join(map(encoded, rows))
    covered = cover_rows(before + run + behind, len(before), len(before) + len(run), coverings)
    assert covered == b"".join(encoded(list(map(expected, row, coverings))) for row in rows)


@given(results())
def test_nothing_to_cover_changes_nothing(result: tuple[list[Covering | None], list[list[bytes | None]]]) -> None:
    coverings, rows = result
    run = b"".join(map(encoded, rows))
    assert cover_rows(run, 0, len(run), [None] * len(coverings)) == run


@given(results(), st.data())
def test_a_run_with_a_flaw_is_refused_or_is_a_run(
    result: tuple[list[Covering | None], list[list[bytes | None]]], data: st.DataObject
) -> None:
    coverings, rows = result
    run = bytearray(b"".join(map(encoded, rows)))
    for _ in range(data.draw(st.integers(1, 3))):
        if run:
            run[data.draw(st.integers(0, len(run) - 1))] = data.draw(st.integers(0, 255))
    run = run[: data.draw(st.integers(0, len(run)))]
    try:
        covered = cover_rows(bytes(run), 0, len(run), coverings)
    except ProtocolError:
        return
    marks = [mark for frames in target_codec().decode(covered) for mark in frames.marks]
    assert sum(end - start for _, start, end in marks) == len(covered)
    assert cover_rows(covered, 0, len(covered), [None] * len(coverings)) == covered


@given(st.binary(max_size=60), st.lists(st.sampled_from(COVERINGS), max_size=3))
@example(b"D\0\0\0\4\0\0", [])
@example(b"D\xff\xff\xff\xff\0\0", [])
@example(b"D\0\0\0\5\0\0", [])
@example(b"D\0\0\0\6\0\0", [])
@example(b"D\0\0\0\x0a\0\1\0\0\0\4", [None])
@example(b"D\0\0\0\x0a\0\1\xff\xff\xff\xfe", [None])
@example(b"D\0\0\0\x0a\0\1\x7f\xff\xff\xff", [starred])
def test_any_bytes_raise_nothing_else(data: bytes, coverings: list[Covering | None]) -> None:
    try:
        covered = cover_rows(data, 0, len(data), coverings)
    except ProtocolError:
        return
    assert cover_rows(covered, 0, len(covered), [None] * len(coverings)) == covered


@pytest.mark.parametrize("width", [0, 1, 3])
def test_rows_have_as_many_columns_as_were_described(width: int) -> None:
    run = encoded([b"a", CANARY])
    with pytest.raises(ProtocolError):
        cover_rows(run, 0, len(run), [Constant(b"")] * width)


def test_a_cell_cannot_reach_into_the_next_row() -> None:
    row = bytearray(encoded([b"a", CANARY]))
    row[7:11] = struct.pack(">i", 15)
    run = bytes(row) + encoded([b"a", CANARY])
    with pytest.raises(ProtocolError):
        cover_rows(run, 0, len(run), [None, Constant(b"")])


def test_a_row_as_wide_as_rows_can_be() -> None:
    run = encoded([CANARY] * 1664)
    assert cover_rows(run, 0, len(run), [Constant(b"x")] * 1664) == encoded([b"x"] * 1664)


def test_a_cell_in_which_nothing_is_found_stays() -> None:
    def found(value: bytes) -> bytes:
        return value.replace(CANARY, b"[found]") if CANARY in value else value

    rows: list[Row] = [[b"an " + CANARY, b"b", None], [b"a", CANARY, CANARY]]
    run = b"".join(map(encoded, rows))
    covered = cover_rows(run, 0, len(run), [found, Constant(b"***"), None])
    assert covered == encoded([b"an [found]", b"***", None]) + encoded([b"a", b"***", CANARY])


@pytest.mark.parametrize("size", [255, 256, 65_535, 65_536, 16_777_215, 16_777_216])
def test_cells_of_any_length_are_read(size: int) -> None:
    run = encoded([b"a" * size, CANARY, b"b" * size])
    covered = cover_rows(run, 0, len(run), [None, Constant(b"***"), starred])
    assert covered == encoded([b"a" * size, b"***", b"*" * (size // 2)])
