"""Texts that would cost far more to understand than they did to send are refused before they cost it."""

import time

import pytest

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst

_LONGEST = 5.0
"""Seconds; what is refused here took minutes, or all memory, without a limit."""


def _many(piece: str, count: int, between: str = ",") -> str:
    return between.join(piece.format(n=n) for n in range(count))


BOMBS = {
    "columns that nothing has": f"SELECT {_many('q', 4000)} FROM {_many('orders a{n}', 4000)}",
    "columns of many tables": f"SELECT {_many('a{n}.id', 4000)} FROM {_many('orders a{n}', 4000)}",
    "stars": f"SELECT {_many('*', 4000)} FROM {_many('orders a{n}', 4000)}",
    "search paths": _many("SET search_path = s{n}", 4000, ";"),
    "names to order by": f"SELECT {_many('1 AS a{n}', 20_000)} ORDER BY {_many('a{n}', 20_000)}",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_bomb_is_refused_in_time(analyst: CatalogAnalyst, text: str) -> None:
    began = time.monotonic()
    reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
    assert time.monotonic() - began < _LONGEST
    assert reading.sqlstate == "54001"
    assert reading.message == "statement is too complex to be read"


def test_wide_report_is_none(analyst: CatalogAnalyst) -> None:
    text = f"SELECT {_many('a{n}.id', 60)}, {_many('a{n}.note', 60)} FROM orders a0 " + _many(
        "JOIN orders a{n} ON a{n}.id = a0.id", 60, " "
    ).replace("JOIN orders a0 ON a0.id = a0.id", "")
    reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
    assert reading.readable


def test_long_list_of_values_is_none(analyst: CatalogAnalyst) -> None:
    text = f"SELECT id FROM orders WHERE id IN ({_many('{n}', 30_000)})"
    assert analyst.read(text.encode(), frozenset({analyst.catalog.path})).readable


def test_comments_in_comments_are_refused_in_time(analyst: CatalogAnalyst) -> None:
    text = "/*" * 200_000 + "*/" * 200_000 + "SELECT 1"
    began = time.monotonic()
    reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
    assert time.monotonic() - began < _LONGEST
    assert reading.sqlstate == "54001"


def test_many_comments_one_after_another_are_read(analyst: CatalogAnalyst) -> None:
    text = '/* ---- */ /**/ SELECT 1 AS "/*/*" /*' + "*" * 600 + "*/" + "/**/ " * 2000
    assert analyst.read(text.encode(), frozenset({analyst.catalog.path})).readable


def test_a_text_of_stars_and_slashes_is_read(analyst: CatalogAnalyst) -> None:
    text = "SELECT '" + "/*- " * 10_000 + "'"
    assert analyst.read(text.encode(), frozenset({analyst.catalog.path})).readable
