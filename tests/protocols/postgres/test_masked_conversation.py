"""An interceptor whose rulings carry masks: what it asks the target for, and what the client never hears."""

import struct
from dataclasses import replace

import pytest

from bastion.errors import ProtocolError
from bastion.model.action import Action
from bastion.model.mask import Cover, CoverKind, Mask
from bastion.model.verdict import Allow
from bastion.protocols.contract import Note, Side
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.interceptor import SessionFacts
from bastion.protocols.postgres.messages import frame
from bastion.protocols.postgres.sql.reading import CopyForm, Origin, Output, Outputs, Reading, SearchPath
from tests.protocols.postgres.wire import (
    BOUND,
    COPY_DONE,
    PARAMETERS,
    PARSED,
    SUBSTITUTE_FAILS,
    SUSPENDED,
    SYNC,
    Carrier,
    TinyAnalyst,
    bind,
    complete,
    describe,
    described,
    error,
    execute,
    fields,
    parse,
    query,
    ready,
    row,
    split,
    types,
)

SECRET = b"ada@corp.example"
MASK = Mask("pii", Cover(CoverKind.FULL), ("public.users.email",))
MAIL: Origin = ("public.users", "email")
COLUMN = described(("email", 25, 0))
COVERED = row(b"********")


class Tracing(TinyAnalyst):
    """Says of `mail` that it shows the one watched column, of `copy` that it copies it; of anything else nothing."""

    def __init__(self, encoding: str | None = None) -> None:
        super().__init__()
        self.types: dict[int, object] = {}
        self._form = CopyForm(encoding=encoding)

    def read(self, text: bytes, paths: frozenset[SearchPath], types: tuple[int, ...] = ()) -> Reading:
        reading = super().read(text, paths, types)
        columns = (Output("email", frozenset({MAIL}), bare=True),)
        if text.startswith(b"mail"):
            return self._kept(text, replace(reading, outputs=(Outputs(0, columns),)))
        if text.startswith(b"copy"):
            return self._kept(text, replace(reading, outputs=(Outputs(0, columns, copied=self._form),)))
        return reading

    def _kept(self, text: bytes, reading: Reading) -> Reading:
        return self.__dict__.setdefault("kept", {}).setdefault(text, reading)  # type: ignore[no-any-return]

    def watched_at(self, relation: int, number: int) -> frozenset[Origin]:
        return frozenset()

    def type_of(self, origin: Origin) -> int:
        return 25


def masked(analyst: Tracing | None = None) -> Carrier:
    def rule(action: Action) -> Allow:
        return Allow(("r",), () if action.text.startswith(("plain", "begin", "commit")) else (MASK,))

    facts = SessionFacts(dict(PARAMETERS), ("public",), key=b"key")
    return Carrier(rule, analyst=analyst or Tracing(), facts=facts)


def test_a_query_is_covered_by_the_description_it_brings() -> None:
    carrier = masked()
    assert carrier.client(query("mail 1")) == query("mail 1")
    assert carrier.target(COLUMN, row(SECRET), complete(), ready()) == COLUMN + COVERED + complete() + ready()
    assert [n.detail["covered"] for n in carrier.notes if n.kind == "finished"] == [{"email": "pii"}]  # type: ignore[index]


def test_an_execution_is_described_first_and_the_client_does_not_hear_of_it() -> None:
    carrier = masked()
    sent = carrier.client(parse("mail 1"), bind(), execute(), SYNC)
    assert sent == parse("mail 1") + bind() + describe("P") + execute() + SYNC
    shown = carrier.target(PARSED, BOUND, COLUMN, row(SECRET), complete(), ready())
    assert shown == PARSED + BOUND + COVERED + complete() + ready()


def test_a_description_that_comes_alone_leaves_no_trace() -> None:
    carrier = masked()
    carrier.client(parse("mail 1", "s"), bind("s"), execute(), SYNC)
    carrier.target(PARSED, BOUND)
    before = len(carrier.log)
    assert carrier.target(COLUMN) == b""
    assert carrier.log[before:] == []
    assert carrier.target(row(SECRET), complete(), ready()) == COVERED + complete() + ready()


def test_the_clients_own_description_reaches_it_and_is_asked_for_once_more() -> None:
    carrier = masked()
    sent = carrier.client(parse("mail 1"), bind(), describe("P"), execute(), SYNC)
    assert types(sent) == "PBDDES"
    shown = carrier.target(PARSED, BOUND, COLUMN, COLUMN, row(SECRET), complete(), ready())
    assert shown == PARSED + BOUND + COLUMN + COVERED + complete() + ready()


def test_each_part_of_a_portal_is_covered() -> None:
    carrier = masked()
    carrier.client(parse("mail 1"), bind(), execute(rows=1), SYNC)
    carrier.target(PARSED, BOUND, COLUMN, row(SECRET), SUSPENDED, ready("T"))
    assert carrier.client(execute(rows=1), SYNC) == describe("P") + execute(rows=1) + SYNC
    assert carrier.target(COLUMN, row(SECRET), complete(), ready("T")) == COVERED + complete() + ready("T")


def test_executions_one_behind_the_other_are_each_described() -> None:
    carrier = masked()
    sent = carrier.client(parse("mail 1", "s"), bind("s"), execute(), bind("s"), execute(), SYNC)
    assert types(sent) == "PBDEBDES"
    shown = carrier.target(PARSED, *[BOUND, COLUMN, row(SECRET), complete()] * 2, ready())
    assert shown == PARSED + (BOUND + COVERED + complete()) * 2 + ready()


def test_a_description_that_fails_is_the_clients_error() -> None:
    carrier = masked()
    carrier.client(parse("mail 1"), bind(), execute(), SYNC)
    shown = carrier.target(PARSED, BOUND, error("34000", "no portal"), ready())
    assert types(shown) == "12EZ"


def test_rows_that_come_without_a_description_do_not_reach_the_client() -> None:
    carrier = masked()
    carrier.client(query("mail 1"))
    with pytest.raises(ProtocolError, match="not described"):
        carrier.target(row(SECRET), complete(), ready())
    assert SECRET not in carrier.sent[Side.CLIENT]


def test_words_of_the_target_are_withheld_until_the_transaction_is_over() -> None:
    carrier = masked()
    carrier.client(query("begin"))
    carrier.target(complete("BEGIN"), ready("T"))
    carrier.client(query("mail 1"))
    carrier.target(COLUMN, complete(), ready("T"))
    carrier.client(query("commit"))
    shown = carrier.target(error("23505", f"Key (email)=({SECRET.decode()}) exists"), ready("I"))
    told = fields(split(shown)[0][1])
    assert told["C"] == "23505"
    assert SECRET.decode() not in str(told)
    carrier.client(query("plain"))
    told = fields(split(carrier.target(error("42P01", "no such table"), ready()))[0][1])
    assert told["M"] == "no such table"


def test_notices_are_withheld_before_the_rows_they_come_with() -> None:
    carrier = masked()
    carrier.client(query("mail 1"))
    said = m.notice(m.NOTICE_RESPONSE, [("S", "NOTICE"), ("C", "00000"), ("M", SECRET.decode())])
    shown = carrier.target(said, COLUMN, complete(), ready())
    assert types(shown) == "NTCZ"
    assert SECRET not in shown


def test_what_is_recorded_is_what_is_shown() -> None:
    carrier = masked()
    carrier.client(query("mail 1"))
    carrier.target(COLUMN, row(SECRET), complete(), ready())
    assert Note("output", COLUMN + COVERED + complete() + ready()) in carrier.notes
    assert all(SECRET not in n.detail for n in carrier.notes if isinstance(n.detail, bytes))


def test_copied_data_is_covered_and_ends_as_it_should() -> None:
    carrier = masked()
    carrier.client(query("copy 1"))
    begins = frame(m.COPY_OUT_RESPONSE, struct.pack(">bHh", 0, 1, 0))
    data = frame(m.COPY_DATA, SECRET + b"\n")
    shown = carrier.target(begins, data, COPY_DONE, complete("COPY 1"), ready())
    assert shown == begins + frame(m.COPY_DATA, b"********\n") + COPY_DONE + complete("COPY 1") + ready()


def test_a_copy_that_could_not_be_read_is_not_sent() -> None:
    carrier = masked(Tracing("sjis"))
    assert b"copy" not in carrier.client(query("copy 1"))
    told = fields(split(carrier.target(SUBSTITUTE_FAILS, ready()))[0][1])
    assert (told["C"], "UTF-8" in told["M"]) == ("0A000", True)
