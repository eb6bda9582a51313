"""An export is valid to its last line, whatever was recorded, and plays in a player that we did not write."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.entry import Entry
from bastion.protocols.contract import Moment
from bastion.store.export import asciicast, json_lines
from bastion.store.packing import packed_output
from bastion.store.reader import SessionRow

STARTED = 1_777_896_000_000_000
ROW = SessionRow(
    id="s-1", issuer="https://login.example.com", subject="alice", name="Alice", kind="human", actor="",
    target="prod-db", protocol="postgres", labels="{}", reason="", peer="", client="psql", started=STARTED,
    ended=None, end_reason=None, entries=0, statements=0, denied=0, held=0, bytes=0,
)  # fmt: skip


def cast(*moments: Moment, row: SessionRow = ROW) -> list[object]:
    return [json.loads(line) for line in asciicast(row, moments)]


def test_a_cast_has_a_header_and_events() -> None:
    header, *events = cast(Moment(STARTED + 500_000, "one\ntwo\r\n"), Moment(STARTED + 1_250_000, "three"))
    assert header == {
        "version": 2,
        "width": 120,
        "height": 36,
        "timestamp": STARTED // 1_000_000,
        "title": "Alice at prod-db, session s-1",
    }
    assert events == [[0.5, "o", "one\r\ntwo\r\n"], [1.25, "o", "three"]]


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.text(st.characters()))))
def test_any_moments_make_a_valid_cast(moments: list[tuple[int, str]]) -> None:
    last = 0.0
    for event in cast(*(Moment(at, text) for at, text in moments))[1:]:
        assert isinstance(event, list)
        at, code, text = event
        assert at >= last
        assert (code, type(text)) == ("o", str)
        last = at


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_of_json_acts_on_no_terminal_and_loses_nothing(text: str) -> None:
    data = json.dumps({"text": text}, ensure_ascii=False).encode()
    summary, entry = json_lines(dataclasses.replace(ROW, client=text), [Entry(1, STARTED, "judged", data)])
    for line in (summary, entry):
        assert line.removesuffix("\n").isascii()
        assert line.removesuffix("\n").isprintable()
    assert json.loads(summary)["session"]["client"] == text
    assert json.loads(entry)["data"] == {"text": text}


def test_a_name_cannot_act_on_the_player() -> None:

    (header,) = cast(row=dataclasses.replace(ROW, name="\x1b]0;mine\x07\ud800"))
    assert isinstance(header, dict)
    assert str(header["title"]).isprintable()


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(), st.binary())))
def test_any_entries_make_json_lines(entries: list[tuple[int, str, bytes]]) -> None:
    made = (
        Entry(seq, at, kind, packed_output(data) if kind == "output" else data)
        for seq, (at, kind, data) in enumerate(entries, start=1)
    )
    lines = [json.loads(line) for line in json_lines(ROW, made)]
    assert lines[0]["session"]["id"] == "s-1"
    assert [line["seq"] for line in lines[1:]] == list(range(1, len(entries) + 1))


def test_an_export_is_not_collected_first() -> None:
    def endless() -> Iterator[Moment]:
        while True:
            yield Moment(STARTED, "x")

    lines = asciicast(ROW, endless())
    assert [next(lines)[0], next(lines)[0]] == ["{", "["]


def test_asciinema_plays_it(tmp_path: Path) -> None:
    path = tmp_path / "session.cast"
    moments = [Moment(STARTED, "app=> select 1\n"), Moment(STARTED + 1000, "\x1b[1m 1 \x1b[0m\nžluť\n")]
    path.write_text("".join(asciicast(ROW, moments)), encoding="utf-8")
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    # It opens /dev/tty, so it needs a terminal of its own.
    player = pexpect.spawn("asciinema", ["cat", str(path)], env=environment, encoding="utf-8", timeout=30)
    shown = player.read()
    player.close()
    assert player.exitstatus == 0, shown
    assert "app=> select 1" in shown
    assert "žluť" in shown
