"""Deep, long and broken statements end in an answer, never in the death of the process."""

import subprocess
import sys
import threading

import pytest

from bastion.protocols.postgres.sql.parser import NotParsed, Parser

PARSER = Parser()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 WHERE " + " OR ".join(f"a = {n}" for n in range(3000)),
        "SELECT 1 WHERE " + " AND ".join(f"a = {n}" for n in range(3000)),
        "SELECT " + " || ".join(["a"] * 450),
        " UNION ALL ".join(["SELECT 1"] * 800),
        "SELECT 1 WHERE a IN (" + ",".join(map(str, range(20000))) + ")",
        "SELECT " + "(" * 100 + "1" + ")" * 100,
    ],
    ids=["or", "and", "concat", "union", "in", "brackets"],
)
def test_what_mappers_write_is_parsed(text: str) -> None:
    assert len(PARSER.parse(text.encode())) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1" + b"+1" * 24_000,
        b"SELECT 1" + b"+1" * 400_000,
        b"SELECT 1" + b"::a" * 300_000,
        b"SELECT " + b"NOT " * 200_000 + b"true",
        b"SELECT " + b"- " * 400_000 + b"1",
        b"SELECT 1" + b" ISNULL" * 100_000,
        b"VALUES (1)" + b" UNION VALUES (1)" * 50_000,
        b"SELECT FROM a" + b" NATURAL JOIN a" * 50_000,
        b"SELECT " + b"CASE WHEN " * 50_000,
    ],
    ids=["plus", "more", "cast", "not", "minus", "isnull", "union", "join", "case"],
)
@pytest.mark.slow
def test_what_would_overrun_a_stack_is_not_understood(text: bytes) -> None:
    with pytest.raises(NotParsed) as caught:
        PARSER.parse(text)
    assert caught.value.fault.sqlstate in {"54001", "42601"}
    assert len(PARSER.parse(b"SELECT 1")) == 1


def test_an_error_says_where_and_never_quotes() -> None:
    with pytest.raises(NotParsed) as caught:
        PARSER.parse("SELECT 'ż' FROM x 'hunter2'".encode())
    fault = caught.value.fault
    assert (fault.sqlstate, fault.message, fault.position) == ("42601", "syntax error", 19)


def test_threads_take_turns() -> None:
    found: list[int] = []

    def work(count: int) -> None:
        found.extend(len(PARSER.parse(b";".join([b"SELECT 1"] * count))) - count for _ in range(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 200


_SMALL_STACK = """
import threading
from bastion.protocols.postgres.sql.parser import ON_THE_SPOT, NotParsed, Parser

def filled(head, middle, tail=""):
    return head + middle * ((ON_THE_SPOT - len(head) - len(tail)) // len(middle)) + tail

def nested(opening, closing, inner="1"):
    times = (ON_THE_SPOT - 20) // len(opening + closing)
    return "SELECT " + opening * times + inner + closing * times

SHAPES = [
    filled("SELECT 1", "+1"), filled("SELECT 1", "::a"), filled("SELECT ", "- ", "1"), filled("SELECT ", "NOT ", "1"),
    filled("SELECT 1", " ISNULL"), filled("TABLE a", " UNION TABLE a"), filled("SELECT FROM a", " JOIN a ON b"),
    filled("SELECT a", "[1]"), filled("SELECT 1", " COLLATE b"), filled("SELECT 1", " AT TIME ZONE b"),
    nested("(", ")"), nested("f(", ")"), nested("ARRAY[", "]"), nested("(SELECT ", ")"),
    nested("CASE WHEN ", " THEN a END"), "SELECT * FROM " + nested("(", " CROSS JOIN a)", "a")[7:],
]

def work():
    for shape in SHAPES:
        assert len(shape) <= ON_THE_SPOT
        try:
            Parser().parse(shape.encode())
        except NotParsed:
            pass
    print("survived")

threading.stack_size(256 * 1024)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.slow
def test_what_is_parsed_on_the_spot_needs_half_the_smallest_stack() -> None:
    ran = subprocess.run([sys.executable, "-c", _SMALL_STACK], capture_output=True, text=True, check=False)
    assert ran.stdout == "survived\n"
