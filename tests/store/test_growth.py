"""The write-ahead log stays small, what waits in memory is bounded, and readers see whole entries meanwhile."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.copying import Copier
from bastion.store.database import STORE
from bastion.store.reader import Reader, shown
from bastion.store.verify import verify
from bastion.store.writer import Recorder
from tests.kit import nouns

MEGABYTE = 1024 * 1024


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    opened = Recorder.open(tmp_path, now=lambda: 1_000_000)
    opened.open_session(nouns.session())
    yield opened
    opened.close()


@pytest.mark.slow
async def test_the_log_stays_small_under_a_steady_load(recorder: Recorder, tmp_path: Path) -> None:
    piece = os.urandom(64 * 1024)
    largest = 0
    for _ in range(2000):
        recorder.append_output("s-1", piece)
        recorder.append("s-1", "judged", b"{}")
        recorder.written()
        largest = max(largest, (tmp_path / f"{STORE}-wal").stat().st_size)
    recorder.close_session("s-1", "done")
    await recorder.synced()
    assert largest < 64 * MEGABYTE
    verify(tmp_path, tmp_path / PUBLIC_KEY)


async def test_output_that_nobody_commits_does_not_pile_up(recorder: Recorder, tmp_path: Path) -> None:
    piece = os.urandom(256 * 1024)
    for _ in range(50):
        recorder.append_output("s-1", piece)
    with Reader.open(tmp_path) as reader:
        assert sum(len(shown(entry).data) for entry in reader.entries("s-1")) > 8 * MEGABYTE


@pytest.mark.slow
async def test_a_reader_meanwhile_sees_whole_entries_in_order(recorder: Recorder, tmp_path: Path) -> None:
    ended = threading.Event()
    lengths: list[int] = []

    def read() -> None:
        while not ended.is_set():
            with Reader.open(tmp_path) as reader:
                found = [(entry.seq, entry.data) for entry in reader.entries("s-1")]
            assert found == [(n, b'{"n": %d}' % n) for n in range(1, len(found) + 1)]
            lengths.append(len(found))

    reading = asyncio.get_running_loop().run_in_executor(None, read)
    for n in range(1, 2001):
        recorder.append("s-1", "judged", b'{"n": %d}' % n)
        recorder.written()
        if n % 100 == 0:
            await recorder.synced()
    ended.set()
    await reading
    assert lengths == sorted(lengths)
    assert lengths


async def test_a_reader_that_pauses_does_not_keep_the_log(recorder: Recorder, tmp_path: Path) -> None:
    for _ in range(3):
        recorder.append("s-1", "judged", b"{}")
        recorder.written()
    with Reader.open(tmp_path) as reader:
        reading = reader.entries("s-1")
        next(reading)
        (busy, _, _) = recorder._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        assert not busy
        recorder.append("s-1", "judged", b"{}")
        recorder.written()
        assert len(list(reading)) == 2
        assert len(list(reader.entries("s-1"))) == 4
    await recorder.synced()  # the log is the same file after it was emptied


async def test_a_page_of_entries_begins_and_ends_where_it_was_asked_to(recorder: Recorder, tmp_path: Path) -> None:
    for chunk in range(4):
        for _ in range(chunk + 1):
            recorder.append("s-1", "judged", b"{}")
        recorder.written()
    with Reader.open(tmp_path) as reader:
        for after in range(11):
            for limit in (1, 3, 100):
                found = [entry.seq for entry in reader.entries("s-1", after=after, limit=limit)]
                assert found == list(range(after + 1, 11))[:limit]


def test_a_copy_that_fails_is_reported(tmp_path: Path) -> None:
    broken = tmp_path / STORE
    broken.write_bytes(b"not a database, but long enough to be looked at as one" * 100)
    (tmp_path / "wal").write_bytes(b"")
    reported: list[str] = []
    copier = Copier(broken, tmp_path / "wal", reported.append)
    copier.appended(100 * MEGABYTE)
    copier.close()
    assert len(reported) == 1
