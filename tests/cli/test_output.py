import io
import json
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.cli import output
from bastion.cli.output import Output
from bastion.cli.requests import described
from bastion.model.text import decode

ROWS = [
    ("ap-1", "waiting", "delete from orders where id = 1 and this goes on for quite a while, longer than a line is")
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, columns: int | None, rows: Sequence[Sequence[object]] = ROWS) -> list[str]:
    stream = Terminal() if columns else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(columns or 80))
    monkeypatch.setenv("NO_COLOR", "1")
    Output().table(("ID", "STATE", "WHAT"), rows, empty="nothing")
    return stream.getvalue().splitlines()


def test_a_table_fits_the_terminal_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 80)
    assert max(map(len, lines)) <= 80
    assert "".join(line[15:].rstrip().ljust(1) for line in lines[1:]).replace(" ", "") == ROWS[0][2].replace(" ", "")


def test_in_a_pipe_a_row_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, None)
    assert len(lines) == 2
    assert lines[1] == "ap-1  waiting  " + ROWS[0][2]


def test_no_row_is_said_beside_the_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("A",), [], empty="nothing waits")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "nothing waits\n")


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    Output().table(("STATE", "ID"), [("denied", "1")], empty="")
    assert "\x1b[31mdenied" in stream.getvalue()
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    Output().table(("STATE", "ID"), [("denied", "1")], empty="")
    assert "\x1b" not in stream.getvalue()


@given(st.text(), st.integers(1, 40))
def test_wrapping_loses_nothing_and_keeps_the_width(text: str, width: int) -> None:
    lines = output._wrapped(text, width)
    assert "".join(lines) == text
    assert all(output._width(line) <= max(width, 2) for line in lines)


@given(st.text())
def test_whatever_is_printed_acts_on_no_terminal(text: str) -> None:
    stream, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", errors)
        out = Output()
        out.line(text)
        out.fields([("name", text)])
        out.table(("A", "B"), [(text, text)], empty="")
        out.statement(text)
        out.data({"text": text})
        out.say(text)
    for said in (stream.getvalue(), errors.getvalue()):
        assert all(c == "\n" or c == "\t" or c.isprintable() for c in said)


@given(st.text(st.characters(exclude_characters="\n")))
def test_a_statement_can_be_read_back(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream := io.StringIO())
        Output().statement(text)
    assert decode(stream.getvalue().removeprefix("    ").removesuffix("\n")) == text


@given(st.text(), st.integers(20, 60))
def test_a_statement_never_begins_a_line_of_ours(text: str, columns: int) -> None:
    """A line long enough to be wrapped by the terminal would go on at its left edge, where only we write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream := Terminal())
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("NO_COLOR", "1")
        Output().statement(text)
    lines = stream.getvalue().split("\n")[:-1]
    assert all(line.startswith("    ") and output._width(line) <= columns and "\t" not in line for line in lines)


def test_a_forged_heading_stays_within_its_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    Output().statement("delete from people /*" + " " * 55 + "impact, as the target estimates it now" + " */")
    drawn = [line[at : at + 80] for line in stream.getvalue().splitlines() for at in range(0, len(line), 80)]
    assert not any(line.startswith("impact") for line in drawn)


def test_what_somebody_wrote_into_a_line_goes_on_indented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    Output().line("    denied by Bob: " + "x" * 21 + "held by nobody at all")
    assert {line[:8].strip() for line in stream.getvalue().splitlines()[1:]} == {""}


def test_a_line_that_is_to_be_copied_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    Output().command("PGPASSWORD=x psql " + "-h 127.0.0.1 " * 9)
    assert stream.getvalue().count("\n") == 1


@given(st.text())
def test_json_is_what_it_was(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream := io.StringIO())
        Output().data(text)
    assert json.loads(stream.getvalue()) == text
    assert stream.getvalue().isascii()


def test_what_a_resource_is_used_for_reads_as_words() -> None:
    facts = {
        "columns": ["name", "ssn"],
        "uses": {"public.users.email": [], "public.users.ssn": ["output", "predicate"]},
        "because": {"public.users.ssn": "it is sorted by (ORDER BY)"},
        "through": "",
        "selective": False,
    }
    resource = {"verb": "select", "kind": "relation", "name": "public.users", "access": "read", "facts": facts}
    assert described(resource) == (
        "select relation public.users (read) [columns: name, ssn; uses: public.users.ssn (output, predicate); "
        "because: public.users.ssn (it is sorted by (ORDER BY)); selective: no]"
    )
