"""What the recorder says is written is in the store, what it says is synced survives, and a failure is for good."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bastion.errors import BastionError, RecordingError
from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.database import STORE
from bastion.store.reader import Reader, shown
from bastion.store.verify import verify
from bastion.store.writer import GATEWAY, Recorder
from tests.kit import nouns


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    opened = Recorder.open(tmp_path, now=lambda: 1_000_000)
    yield opened
    opened.close()


def entries(directory: Path, session: str) -> list[tuple[str, bytes]]:
    with Reader.open(directory) as reader:
        return [(e.kind, shown(e).data) for e in reader.entries(session)]


async def test_what_is_written_is_in_the_store_in_order(recorder: Recorder, tmp_path: Path) -> None:
    recorder.open_session(nouns.session())
    recorder.append("s-1", "opened", b"{}")
    recorder.append_output("s-1", b"one ")
    recorder.append_output("s-1", b"two")
    recorder.append("s-1", "finished", b"{}")
    recorder.written()
    assert entries(tmp_path, "s-1") == [("opened", b"{}"), ("output", b"one two"), ("finished", b"{}")]


async def test_output_alone_is_committed_soon(recorder: Recorder, tmp_path: Path) -> None:
    recorder.open_session(nouns.session())
    recorder.written()
    recorder.append_output("s-1", b"shown")
    recorder.written()
    assert entries(tmp_path, "s-1") == []
    timer = recorder._timer
    assert timer is not None
    assert timer.when() - asyncio.get_running_loop().time() <= 0.05
    timer.cancel()
    recorder._output_due()
    assert entries(tmp_path, "s-1") == [("output", b"shown")]


async def test_large_output_is_stored_small_and_comes_back_whole(recorder: Recorder, tmp_path: Path) -> None:
    recorder.open_session(nouns.session())
    shown_bytes = b"a line that repeats\n" * 100_000
    recorder.append_output("s-1", shown_bytes)
    recorder.append("s-1", "finished", b"{}")
    recorder.written()
    assert entries(tmp_path, "s-1")[0] == ("output", shown_bytes)
    size = sqlite3.connect(tmp_path / STORE).execute("select sum(length(body)) from chunks").fetchone()[0]
    assert size < len(shown_bytes) / 10


async def test_a_store_has_one_writer(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(BastionError, match="another gateway"):
        Recorder.open(tmp_path, now=lambda: 1_000_000)


async def test_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        directory = tmp_path / "state"
        opened = Recorder.open(directory, now=lambda: 1_000_000)
        await opened.synced()
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in [directory, *directory.iterdir()]}
        opened.close()
    finally:
        os.umask(before)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.parametrize("table", ["chunks", "approvals", "votes", "settlements", "spent", "policies", "checkpoints"])
async def test_what_was_written_cannot_be_changed_in_place(recorder: Recorder, tmp_path: Path, table: str) -> None:
    recorder.open_session(nouns.session())
    approve(recorder)
    recorder.keep_policy("v1", "text")
    recorder.checkpoint()
    recorder.written()
    connection = sqlite3.connect(tmp_path / STORE)
    for statement in (f"delete from {table}", f"update {table} set rowid = rowid + 1"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)


def approve(recorder: Recorder) -> Approval:
    session = nouns.session(name="s-9")
    recorder.open_session(session)
    approval = Approval(ApprovalId("abc123"), session, nouns.action(), nouns.hold(), "v1", "digest", nouns.NOON)
    vote = Vote(nouns.identity("bob", "dba"), True, "fine", nouns.NOON)
    recorder.asked(approval, "{}")
    recorder.voted(approval, vote)
    recorder.settled(approval.id, State.APPROVED, "", nouns.NOON)
    assert recorder.spend(approval.id, nouns.NOON)
    return approval


async def test_an_approval_is_spent_once(recorder: Recorder) -> None:
    approval = approve(recorder)
    assert not recorder.spend(approval.id, nouns.NOON)


async def test_what_was_not_approved_cannot_be_spent(recorder: Recorder) -> None:
    approval = Approval(ApprovalId("x"), nouns.session(), nouns.action(), nouns.hold(), "v1", "d", nouns.NOON)
    recorder.asked(approval, "{}")
    assert not recorder.spend(approval.id, nouns.NOON)
    recorder.settled(approval.id, State.EXPIRED, "", nouns.NOON)
    assert not recorder.spend(approval.id, nouns.NOON)


async def test_nothing_revives_after_a_restart(tmp_path: Path) -> None:
    first = Recorder.open(tmp_path, now=lambda: 1_000_000)
    first.open_session(nouns.session())
    first.append("s-1", "opened", b"{}")
    first.asked(Approval(ApprovalId("x"), nouns.session(), nouns.action(), nouns.hold(), "v", "d", nouns.NOON), "{}")
    first.close()
    second = Recorder.open(tmp_path, now=lambda: 1_000_000)
    assert not second.spend(ApprovalId("x"), nouns.NOON)
    second.close()
    assert entries(tmp_path, "s-1")[-1][0] == "closed"
    with Reader.open(tmp_path) as reader:
        row = reader.session("s-1")
    assert row is not None
    assert row.end_reason == "the gateway ended without closing it"
    verify(tmp_path, tmp_path / PUBLIC_KEY)


async def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[RecordingError] = []
    opened = Recorder.open(tmp_path, now=lambda: 1_000_000, on_failure=failures.append)
    calls: list[int] = []

    def fails(fd: int) -> None:
        calls.append(fd)
        raise OSError(5, "Input/output error")

    opened._syncer._fdatasync = fails
    opened.audit(b"{}")
    with pytest.raises(RecordingError, match="Input/output error"):
        await opened.synced()
    for again in (
        lambda: opened.append(GATEWAY, "audit", b"{}"),
        opened.written,
        lambda: opened.append_output("x", b""),
    ):
        with pytest.raises(RecordingError):
            again()
    with pytest.raises(RecordingError):
        await opened.synced()
    await asyncio.sleep(0)
    assert (len(calls), len(failures)) == (1, 1)
    opened.close()


def fill(recorder: Recorder) -> None:
    for _ in range(1000):
        recorder.audit(os.urandom(5000))
        recorder.written()


async def test_a_full_disk_is_final(tmp_path: Path) -> None:
    failures: list[RecordingError] = []
    opened = Recorder.open(tmp_path, now=lambda: 1_000_000, on_failure=failures.append)
    opened._connection.execute("pragma max_page_count = 40")
    with pytest.raises(RecordingError, match="full"):
        fill(opened)
    with pytest.raises(RecordingError):
        opened.audit(b"{}")
    await asyncio.sleep(0)
    assert len(failures) == 1
    opened.close()


def test_the_names_of_files_are_stable() -> None:
    assert (STORE, PUBLIC_KEY) == ("store.db", "checkpoint.pub")
