"""A recording of every version that there ever was still opens, is proved, and reads the same."""

import shutil
from pathlib import Path

import pytest

from bastion.errors import RecordingError
from bastion.model.entry import Entry
from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.database import STORE, connected
from bastion.store.export import json_lines
from bastion.store.reader import Reader, SessionRow, shown
from bastion.store.verify import verify
from tests.store.make_recording import make

RECORDINGS = sorted(path for path in (Path(__file__).parent / "recordings").iterdir() if path.is_dir())


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.name)
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for path in request.param.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
        (tmp_path / path.name).chmod(0o600)
    return tmp_path


def test_a_golden_recording_is_proved(recording: Path) -> None:
    proof = verify(recording, recording / PUBLIC_KEY)
    assert (proof.sessions, proof.unsigned) == (1, 0)
    assert proof.checkpoints >= 2


def test_a_golden_recording_reads_as_it_was_written(recording: Path) -> None:
    with Reader.open(recording) as reader:
        (row,) = reader.sessions(limit=10)
        entries = list(reader.entries(row.id))
        assert reader.policy("sha256:golden") == "rules: []\n"
        lines = list(json_lines(row, reader.entries(row.id)))
    assert [(entry.seq, entry.kind) for entry in entries] == list(
        enumerate(
            ["opened", "judged", "judged", "judged", "waiting", "output", "finished", "output", "closed"], start=1
        )
    )
    assert shown(entries[5]).data == b"short"
    assert shown(entries[7]).data == b"a line that repeats\n" * 1000
    assert (row.statements, row.denied, row.held, row.bytes) == (3, 1, 1, 20_005)
    assert (row.subject, row.target, row.end_reason) == ("alice", "prod-db", "the client left")
    assert len(lines) == 1 + len(entries)


def test_a_golden_recording_can_be_written_to_after_its_tables_were_brought_up_to_date(recording: Path) -> None:
    connection = connected(recording)
    assert connection.execute("select count(*) from sessions").fetchone() == (1,)
    connection.close()
    verify(recording, recording / PUBLIC_KEY)


@pytest.mark.slow
def test_no_damage_to_the_file_goes_unnoticed_or_ends_in_anything_but_our_errors(recording: Path) -> None:
    def told() -> object:
        verify(recording, recording / PUBLIC_KEY)
        with Reader.open(recording) as reader:
            (row,) = reader.sessions(limit=10)
            return row, list(reader.entries(row.id)), reader.policy("sha256:golden")

    whole, before = (recording / STORE).read_bytes(), told()
    noticed = 0
    for at in range(0, len(whole), 211):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        (recording / STORE).write_bytes(damaged)
        try:
            assert told() == before, at
        except RecordingError:
            noticed += 1
    assert noticed > 10


async def test_the_newest_golden_recording_is_what_is_written_today(tmp_path: Path) -> None:
    await make(tmp_path)
    told: list[tuple[SessionRow, list[Entry]]] = []
    for directory in (tmp_path, RECORDINGS[-1]):
        copy = tmp_path / f"copy-{len(told)}"
        copy.mkdir()
        shutil.copyfile(directory / STORE, copy / STORE)
        with Reader.open(copy) as reader:
            (row,) = reader.sessions(limit=10)
            told.append((row, list(reader.entries(row.id))))
    assert told[0] == told[1]
