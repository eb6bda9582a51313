"""What the masks of a ruling make of results: by lineage, by the target's description, by detectors."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bastion.errors import ProtocolError
from bastion.model.action import Access, Action, Resource
from bastion.model.mask import Cover, CoverKind, Mask
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.coverage import Coverage, Unreadable
from bastion.protocols.postgres.sql.reading import CopyForm, Origin, Output, Outputs, Reading

MAIL: Origin = ("public.users", "email")
TEXT, INT4, JSON, JSONB, TEXTS, INT8 = 25, 23, 114, 3802, 1009, 20
PII = Mask("pii", Cover(CoverKind.PARTIAL), ("public.users.*",))
CARDS = Mask("cards", Cover(CoverKind.FULL), detectors=("payment_card",))
CARD = b"4111111111111111"
ADDRESS = b"ada@corp.example"


class Known:
    """What is known of one database: the watched columns by table and number."""

    def __init__(self, **watched: Origin) -> None:
        self.types: dict[int, Any] = {}
        self.count = 0
        self._watched = {tuple(map(int, at[1:].split("_"))): frozenset({origin}) for at, origin in watched.items()}

    def watched_at(self, relation: int, number: int) -> frozenset[Origin]:
        return self._watched.get((relation, number), frozenset())

    def type_of(self, origin: Origin) -> int:
        return {"email": TEXT, "salary": INT4}.get(origin[1], 0)


def reading(*outputs: Outputs) -> Reading:
    action = Action("postgres", "select", "text", (Resource("relation", "public.users", "select", Access.READ),))
    return Reading(action, outputs=outputs)


def columns(*origins: Origin | None, bare: bool = True, **more: Any) -> Outputs:
    made = [Output(f"c{i}", frozenset({o}) if o else frozenset(), bare) for i, o in enumerate(origins)]
    return Outputs(more.pop("statement", 0), tuple(made), **more)


def coverage(masks: Sequence[Mask], *outputs: Outputs, known: Known | None = None) -> Coverage:
    return Coverage(reading(*outputs), tuple(masks), known or Known(), b"key")


def describe(made: Coverage, *types: int, binary: int = 0, at: tuple[int, int] = (0, 0)) -> None:
    body = struct.pack(">H", len(types))
    for index, oid in enumerate(types):
        body += b"c%d\0" % index + struct.pack(">IhIhih", *at, oid, -1, -1, binary)
    data = m.frame(m.ROW_DESCRIPTION, body)
    made.described(data, 0, len(data))


def row(*cells: bytes | None) -> bytes:
    body = struct.pack(">H", len(cells))
    for cell in cells:
        body += struct.pack(">i", -1) if cell is None else struct.pack(">i", len(cell)) + cell
    return m.frame(m.DATA_ROW, body)


def shown(made: Coverage, *cells: bytes | None) -> bytes:
    data = row(*cells)
    covered = made.rows(data, 0, len(data))
    return data if covered is None else covered


def copied(made: Coverage, payload: bytes, count: int, binary: int = 0) -> bytes:
    head = m.frame(m.COPY_OUT_RESPONSE, struct.pack(f">bH{count}h", binary, count, *[binary] * count))
    made.copies(head, 0, len(head))
    data = m.frame(m.COPY_DATA, payload)
    covered = made.copied(data, 0, len(data))
    made.copied_all()
    return data if covered is None else covered


def test_a_bare_column_has_the_masks_cover_and_a_computed_one_the_full_one() -> None:
    made = coverage([PII], columns(None, MAIL))
    describe(made, TEXT, TEXT)
    assert shown(made, b"Ada", ADDRESS) == row(b"Ada", b"a***@***.example")
    assert shown(made, b"Ada", None) == row(b"Ada", None)
    made = coverage([PII], columns(MAIL, bare=False))
    describe(made, TEXT)
    assert shown(made, ADDRESS) == row(b"********")
    assert shown(made, None) == row(b"********")


def test_results_that_no_mask_touches_pass_as_they_came() -> None:
    made = coverage([PII], columns(None, ("public.orders", "note")))
    describe(made, TEXT, TEXT)
    data = row(b"x", ADDRESS)
    assert made.rows(data, 0, len(data)) is None
    assert made.told() == {}
    assert made.quiet


def test_the_targets_own_description_is_enough() -> None:
    # The lineage saw nothing in this text, or nothing in this column.
    known = Known(_77_2=MAIL)
    for outputs in ((), (columns(None),)):
        made = coverage([PII], *outputs, known=known)
        describe(made, TEXT, at=(77, 2))
        assert ADDRESS not in shown(made, ADDRESS)
        assert made.told() == {"covered": {"c0": "pii"}}


def test_each_result_of_a_text_has_its_own_columns() -> None:
    made = coverage([PII], columns(None, MAIL), columns(MAIL, None, statement=1))
    describe(made, TEXT, TEXT)
    assert shown(made, b"x", ADDRESS) == row(b"x", b"a***@***.example")
    made.completed()
    describe(made, TEXT, TEXT)
    assert shown(made, ADDRESS, b"x") == row(b"a***@***.example", b"x")


def test_a_result_that_nobody_has_read_ends_the_conversation() -> None:
    made = coverage([PII], columns(MAIL))
    describe(made, TEXT)
    with pytest.raises(ProtocolError, match="was not read to have"):
        describe(made, TEXT)


def test_a_statement_without_a_result_leaves_the_next_ones_alone() -> None:
    """What runs by name, and a CALL, may have none."""
    made = coverage([PII], Outputs(0, rest=frozenset()), columns(MAIL, bare=False, statement=1))
    made.completed()
    describe(made, TEXT)
    assert shown(made, ADDRESS) == row(b"********")


def test_what_a_changed_catalog_may_have_made_of_a_text_is_covered() -> None:
    """A view that another session replaces while this one waits for a lock may show anything."""
    known = Known()
    made = coverage([PII], columns(None, None), known=known)
    describe(made, TEXT, INT4)
    assert shown(made, b"x", b"7") == row(b"x", b"7")
    known.count += 1
    made.completed()
    made = coverage([PII], columns(None, None), known=known)
    known.count += 1
    describe(made, TEXT, INT4)
    assert shown(made, b"x", None) == row(b"********", b"0")


def test_what_is_searched_for_is_found_in_what_is_said() -> None:
    made = coverage([Mask("cards", Cover(CoverKind.FULL), detectors=("payment_card",))])
    assert made.finds(b'invalid input syntax for type integer: "' + CARD + b'"')
    assert not made.finds(b"syntax error")
    assert made.told() == {"found": {"payment_card": 1}}


@pytest.mark.parametrize("types", [(TEXT,), (TEXT, TEXT, TEXT)])
def test_a_result_of_another_width_ends_the_conversation(types: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError, match="columns than"):
        describe(coverage([PII], columns(MAIL, None)), *types)


def test_what_follows_the_known_columns_is_covered() -> None:
    made = coverage([PII], columns(None, rest=frozenset({MAIL})))
    describe(made, TEXT, TEXT, TEXT)
    assert shown(made, b"x", ADDRESS, ADDRESS) == row(b"x", b"********", b"********")


def test_of_several_masks_the_one_that_shows_least_counts() -> None:
    weak = Mask("weak", Cover(CoverKind.PARTIAL), ("public.users.email",))
    strong = Mask("strong", Cover(CoverKind.NULL), ("*.*.email",))
    for masks in ([weak, strong], [strong, weak]):
        made = coverage(masks, columns(MAIL))
        describe(made, TEXT)
        assert shown(made, ADDRESS) == row(None)
        assert made.told() == {"covered": {"c0": "strong"}}


def test_a_function_of_which_nobody_knows_what_it_shows_is_covered() -> None:
    origin = ("function", "public.mail_of")
    made = coverage([PII], columns(origin, bare=False))
    describe(made, TEXT)
    assert shown(made, ADDRESS) == row(b"********")
    trusting = Mask("pii", PII.cover, PII.columns, trusts=("public.mail_of",))
    made = coverage([trusting], columns(origin, bare=False))
    describe(made, TEXT)
    assert shown(made, ADDRESS) == row(ADDRESS)


def test_detectors_search_text_in_whatever_it_is_held() -> None:
    made = coverage([CARDS])
    describe(made, TEXT, INT8, JSON, TEXTS)
    found = shown(made, b"pay " + CARD, CARD, b'{"n": "' + CARD + b'"}', b"{" + CARD + b",x}")
    assert found == row(b"pay ********", CARD, b'{"n": "********"}', b"{********}")
    assert made.told() == {"found": {"payment_card": 3}}
    assert not made.quiet


def test_a_binary_jsonb_stays_one() -> None:
    made = coverage([CARDS])
    describe(made, JSONB, binary=1)
    assert shown(made, b'\1{"n": "' + CARD + b'"}') == row(b'\1{"n": "********"}')


def test_a_mask_by_column_comes_before_detectors() -> None:
    made = coverage([PII, CARDS], columns(MAIL, None))
    describe(made, TEXT, TEXT)
    assert shown(made, CARD, CARD) == row(b"************1111", b"********")


@pytest.mark.parametrize("form", ["text", "csv"])
def test_copied_lines_are_covered_by_column(form: str) -> None:
    made = coverage([PII], columns(None, MAIL, copied=CopyForm(form)))
    between = b"\t" if form == "text" else b","
    line = between.join([b"Ada", ADDRESS]) + b"\n"
    covered = copied(made, line, 2)[5:].replace(b'"', b"")
    assert covered == between.join([b"Ada", b"a***@***.example"]) + b"\n"


def test_copied_binary_rows_are_covered_by_column() -> None:
    made = coverage([PII], columns(None, MAIL, copied=CopyForm("binary")))
    head = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    cells = struct.pack(">hi3si", 2, 3, b"Ada", len(ADDRESS)) + ADDRESS
    covered = copied(made, head + cells + struct.pack(">h", -1), 2, binary=1)
    assert ADDRESS not in covered
    assert b"a***@***.example" in covered


def test_data_copied_in_another_form_than_was_asked_for_ends_the_conversation() -> None:
    made = coverage([PII], columns(MAIL, copied=CopyForm("text")))
    with pytest.raises(ProtocolError, match="another form"):
        copied(made, b"x\n", 1, binary=1)


def test_data_in_an_encoding_that_is_not_read_is_not_asked_for() -> None:
    for encoding, readable in (("UTF8", True), ("sjis", False), ("latin1", False)):
        outputs = columns(MAIL, copied=CopyForm("text", encoding=encoding))
        if readable:
            coverage([PII], outputs)
        else:
            with pytest.raises(Unreadable):
                coverage([PII], outputs)


def test_detectors_search_copied_data_of_which_nothing_else_is_known() -> None:
    made = coverage([CARDS])
    assert copied(made, b"a\t" + CARD + b"\n", 2) == m.frame(m.COPY_DATA, b"a\t********\n")
    made = coverage([CARDS])
    head = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    cells = struct.pack(">hi3si", 2, 3, b"Ada", len(CARD)) + CARD
    covered = copied(made, head + cells + struct.pack(">h", -1), 2, binary=1)
    assert CARD not in covered
    assert b"Ada" in covered
    assert made.told() == {"found": {"payment_card": 1}}


def test_a_policys_words_cannot_break_copied_data() -> None:
    for cover in (Cover(CoverKind.FIXED, text="a\tb\n"), Cover(CoverKind.NULL)):
        made = coverage([Mask("cards", cover, detectors=("payment_card",))])
        assert copied(made, b"a\t" + CARD + b"\n", 2) == m.frame(m.COPY_DATA, b"a\t********\n")


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_detectors_search_copied_rows_however_they_are_cut(form: str) -> None:
    for size in (1, 3, 7, 1000):
        made = coverage([PII, CARDS], columns(None, MAIL, copied=CopyForm(form)))
        binary = int(form == "binary")
        head = m.frame(m.COPY_OUT_RESPONSE, struct.pack(">b3H", binary, 2, binary, binary))
        made.copies(head, 0, len(head))
        payload = b"".join(b"pay " + CARD + (b"," if form == "csv" else b"\t") + ADDRESS + b"\n" for _ in range(3))
        if binary:
            cells = struct.pack(">hi", 2, len(CARD)) + CARD + struct.pack(">i", len(ADDRESS)) + ADDRESS
            payload = b"PGCOPY\n\xff\r\n\0" + bytes(8) + cells * 3 + struct.pack(">h", -1)
        shown = b""
        for at in range(0, len(payload), size):
            data = m.frame(m.COPY_DATA, payload[at : at + size])
            covered = made.copied(data, 0, len(data))
            shown += data if covered is None else covered
        made.copied_all()
        assert CARD not in shown
        assert ADDRESS not in shown
        assert made.told()["covered"] == {"c1": "pii"}
        # A binary row that comes in pieces, as no target sends it, may be looked at several times.
        assert made.told()["found"]["payment_card"] >= 3  # type: ignore[index]


def test_texts_of_several_columns_and_runs_are_each_put_back_in_their_place() -> None:
    made = coverage([CARDS, Mask("mails", Cover(CoverKind.NULL), detectors=("email",))])
    describe(made, TEXT, TEXT, INT4)
    for run in range(3):
        rows = [(CARD, b"b%d" % run, b"1"), (b"a", CARD, b"2"), (None, ADDRESS, None), (b"a " + CARD, b"c", b"3")]
        data = b"".join(row(*cells) for cells in rows)
        assert made.rows(data, 0, len(data)) == b"".join(
            [
                row(b"********", b"b%d" % run, b"1"),
                row(b"a", b"********", b"2"),
                row(None, None, None),
                row(b"a ********", b"c", b"3"),
            ]
        )


def test_data_copied_with_marks_of_its_own_is_not_searched_but_refused() -> None:
    unusual = replace(reading(), unusual_copy=True)
    Coverage(unusual, (PII,), Known(), b"key")
    with pytest.raises(Unreadable, match="DELIMITER"):
        Coverage(unusual, (PII, CARDS), Known(), b"key")
