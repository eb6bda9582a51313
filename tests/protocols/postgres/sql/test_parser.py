"""Deep, long and broken statements end in an answer, never in the death of the process."""

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
