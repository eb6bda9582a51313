"""What no parser gets to see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.protocols.postgres.sql import guard


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        (b"SELECT 1\0; DELETE FROM orders", "22021"),
        (b"SELECT '\xff'", "22021"),
        (b"SELECT '\xed\xa0\x80'", "22021"),  # a surrogate
        (b"SELECT '\xc0\xaf'", "22021"),  # overlong
        (b"SELECT 1 -- " + b"x" * guard.MAX_BYTES, "54000"),
        (b"SELECT " + b"(" * 300 + b"1" + b")" * 300, "54001"),
        (b"SELECT " + b"ARRAY[" * 300 + b"]" * 300, "54001"),
        (b"SELECT 1" + b",1" * (guard.MAX_TOKENS // 2), "54000"),
        (b"SELECT '" + b"(" * 300, "42601"),
    ],
)
def test_is_turned_away(text: bytes, sqlstate: str) -> None:
    fault = guard.fault(text)
    assert fault is not None
    assert fault.sqlstate == sqlstate


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT '" + b"(" * 1000 + b"'",  # brackets in a literal nest nothing
        b"SELECT 1 /* " + b"(" * 1000 + b" */",
        b"INSERT INTO t VALUES " + b",".join([b"(1, 'x')"] * 5000),
        "SELECT 'żółw 🐢'".encode(),
    ],
)
def test_is_let_through(text: bytes) -> None:
    assert guard.fault(text) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_let_through_or_turned_away(text: bytes) -> None:
    fault = guard.fault(text)
    assert fault is None or len(fault.sqlstate) == 5
