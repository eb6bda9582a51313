"""A recording as the person saw it."""

import json
import uuid
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.entry import Entry
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.cells import cell
from bastion.protocols.postgres.messages import frame
from bastion.protocols.postgres.transcript import PostgresTranscript
from tests.kit.postgres import Server
from tests.protocols.postgres.wire import COPY_IN, complete, described, error, ready, row


def entries(*parts: tuple[str, object]) -> Iterable[Entry]:
    for number, (kind, data) in enumerate(parts, start=1):
        yield Entry(number, number * 1000, kind, data if isinstance(data, bytes) else json.dumps(data).encode())


def shown(*parts: tuple[str, object]) -> str:
    return "".join(moment.text for moment in PostgresTranscript().moments(entries(*parts)))


OPENED = ("opened", {"name": "Alice", "target": "prod-db", "reason": "ticket 7"})


def judged(text: str, *arguments: object) -> tuple[str, object]:
    return ("judged", {"ticket": 1, "text": text, "arguments": list(arguments)})


def test_a_query_and_its_table() -> None:
    result = described(("id", 23, 0), ("name", 25, 0)) + row(b"1", b"Ann") + row(b"20", None) + complete("SELECT 2")
    assert shown(OPENED, judged("select id,\n name from people"), ("output", result + ready())) == (
        "-- Alice at prod-db: ticket 7\n"
        "prod-db=> select id,\n"
        "prod-db->  name from people\n"
        " id | name\n"
        "----+------\n"
        "  1 | Ann\n"
        " 20 |\n"
        "(2 rows)\n\n"
    )


def test_empty_table_shows_its_columns() -> None:
    assert shown(("output", described(("id", 23, 0)) + complete("SELECT 0"))) == " id\n----\n(0 rows)\n\n"


def test_tag_of_a_change() -> None:
    assert shown(OPENED, judged("delete from t where id = $1", "5"), ("output", complete("DELETE 1"))).endswith(
        "prod-db=> delete from t where id = $1\n-- $1 = 5\nDELETE 1\n"
    )


def test_arguments_of_every_kind() -> None:
    text = shown(judged("select $1", None, "a\x1b[2J", {"hex": "00ff"}))
    assert text.splitlines()[1:] == ["-- $1 = NULL", "-- $2 = a\\x1b[2J", "-- $3 = \\\\x00ff"]


def test_error_with_detail_and_hint() -> None:
    said = m.notice(m.ERROR_RESPONSE, [("S", "ERROR"), ("C", "42501"), ("M", "refused"), ("D", "why"), ("H", "how")])
    assert shown(("output", said)) == "ERROR:  refused\nDETAIL:  why\nHINT:  how\n"


def test_hold_and_approval() -> None:
    notice = m.notice(m.NOTICE_RESPONSE, [("S", "NOTICE"), ("M", "waiting for approval A1")])
    vote = {"approval": "A1", "name": "Carol", "approves": True, "reason": ""}
    settled = {"ticket": 1, "approval": "A1", "state": "approved", "is": "allow"}
    text = shown(("output", notice), ("vote", vote), ("settled", settled), ("closed", {"reason": "done"}))
    assert text == "NOTICE:  waiting for approval A1\n-- Carol approves A1\n-- approval A1 is approved\n-- done\n"


def test_copy_and_notification() -> None:
    data = COPY_IN + frame(m.COPY_DATA, b"1\tAnn\n") + complete("COPY 1")
    data += frame(m.NOTIFICATION_RESPONSE, b"\0\0\0\1news\0hello\0")
    assert shown(("output", data)) == (
        '1\tAnn\nCOPY 1\nAsynchronous notification "news" with payload hello received.\n'
    )


def test_rows_whose_description_came_earlier() -> None:
    columns = ("columns", {"columns": [["id", 23, True]]})
    data = row(b"\0\0\0\x07") + complete("SELECT 1")
    assert shown(columns, ("output", data)) == " id\n----\n  7\n(1 row)\n\n"


def test_rows_whose_description_is_not_known() -> None:
    assert "\\\\xff" not in shown(("output", row(b"plain") + complete("SELECT 1")))
    assert "column 1" in shown(("output", row(b"plain") + complete("SELECT 1")))


@given(st.integers(1, 80))
def test_pieces_of_output_do_not_matter(size: int) -> None:
    data = described(("id", 23, 0)) + row(b"1") * 7 + complete("SELECT 7") + error() + ready()
    parts = [("output", data[at : at + size]) for at in range(0, len(data), size)]
    assert shown(*parts) == shown(("output", data))


@given(st.lists(st.tuples(st.sampled_from(["output", "judged"]), st.binary(max_size=60)), max_size=5), st.text())
def test_nothing_acts_on_the_terminal(parts: list[tuple[str, bytes]], text: str) -> None:
    made: list[tuple[str, object]] = []
    for kind, data in parts:
        if kind == "judged":
            made.append(judged(text + data.decode("latin-1"), text))
        else:
            made += [("output", frame(tag, data)) for tag in b"DEdTCA"]
            made.append(("output", row(data, text.encode("utf-8", "replace"))))
    for char in shown(*made):
        assert char in "\n\t" or char.isprintable()


def test_long_result_is_not_kept_whole() -> None:
    transcript = PostgresTranscript()
    data = described(("id", 23, 0)) + row(b"1") * 2000
    list(transcript.moments(entries(("output", data))))
    assert len(transcript._rows) < 1000


@pytest.mark.parametrize("oid", [16, 20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 1700, 2950, 3802, 25, 999999])
@given(st.binary(max_size=20))
def test_any_binary_value_is_shown(oid: int, value: bytes) -> None:
    assert cell(value, oid, True).isprintable()


@pytest.mark.live
def test_common_binary_values_read_as_postgresql_writes_them(postgres: Server) -> None:
    values = [
        True, 7, 2**40, 1.5, "text", b"\x00\xff", date(2024, 2, 29),
        datetime.fromisoformat("1999-12-31 23:59:59.123456"),
        Decimal("-12345.6789"), Decimal("0.00012"), Decimal("100000"), Decimal("NaN"), uuid.UUID(int=7),
    ]  # fmt: skip
    with psycopg.connect(postgres.dsn()) as connection:
        for value in values:
            binary = psycopg.ClientCursor(connection)
            binary.format = psycopg.pq.Format.TEXT
            text = binary.execute("select (%s)::text", (value,)).fetchone()
            assert text is not None
            result = connection.execute("select %s", (value,), binary=True).pgresult
            assert result is not None
            found = cell(result.get_value(0, 0), result.ftype(0), result.fformat(0) == 1)
            expected = {"true": "t", "false": "f"}.get(text[0], text[0])
            assert found.replace("\\\\", "\\") == expected


def test_null_is_empty() -> None:
    assert cell(None, 23, False) == ""
