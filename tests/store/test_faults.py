"""When the store fails or is not ours, nothing goes on: every call says so from then on, and it is reported once."""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bastion.errors import ApprovalError, BastionError, ConfigError, RecordingError
from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.store.checkpoints import PRIVATE_KEY, PUBLIC_KEY
from bastion.store.database import STORE
from bastion.store.reader import Reader
from bastion.store.verify import verify
from bastion.store.writer import Recorder
from tests.kit import nouns


def opened(directory: Path, failures: list[RecordingError] | None = None) -> Recorder:
    report = (lambda _: None) if failures is None else failures.append
    return Recorder.open(directory, now=lambda: 1_000_000, on_failure=report)


async def made(directory: Path) -> None:
    recorder = opened(directory)
    recorder.open_session(nouns.session())
    recorder.append("s-1", "judged", b'{"verdict": {"is": "deny"}}')
    recorder.close_session("s-1", "done")
    recorder.close()


# What the machine does to us.

LIMITED = """
import asyncio, json, os, resource, signal, sys
from pathlib import Path
from bastion.errors import RecordingError
from bastion.store.writer import Recorder
from tests.kit import nouns

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    failures = []
    recorder = Recorder.open(Path(sys.argv[1]), now=lambda: 1, on_failure=lambda e: failures.append(e.code))
    recorder.open_session(nouns.session())
    await recorder.synced()
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    told, refused = -1, []
    try:
        for n in range(10_000):
            recorder.append("s-1", "judged", b"%d " % n + os.urandom(1000))
            recorder.written()
            told = n
    except RecordingError as error:
        refused.append(error.code)
    for again in (
        recorder.written,
        lambda: recorder.append("s-1", "judged", b""),
        lambda: recorder.append_observed("s-1", "finished", b""),
        lambda: recorder.append_output("s-1", b""),
        lambda: recorder.close_session("s-1", ""),
        recorder.checkpoint,
        lambda: recorder.keep_policy("v", "t"),
        lambda: recorder.open_session(nouns.session(name="s-2")),
    ):
        try:
            again()
        except RecordingError as error:
            refused.append(error.code)
    try:
        await recorder.synced()
    except RecordingError as error:
        refused.append(error.code)
    await asyncio.sleep(0)
    print(json.dumps({"told": told, "refused": len(refused), "failures": len(failures)}))
    sys.stdout.flush()
    recorder.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_write_that_the_disk_refuses_is_final(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, timeout=60, check=True)
    said = json.loads(done.stdout)
    assert said["told"] > 0
    assert (said["refused"], said["failures"]) == (10, 1)
    with Reader.open(tmp_path) as reader:
        found = [int(entry.data.split()[0]) for entry in reader.entries("s-1")]
    assert found[: said["told"] + 1] == list(range(said["told"] + 1))
    verify(tmp_path, tmp_path / PUBLIC_KEY)


async def test_one_sync_serves_all_who_wait(tmp_path: Path) -> None:
    recorder = opened(tmp_path)
    calls: list[int] = []
    release = threading.Event()

    def slow(fd: int) -> None:
        calls.append(fd)
        release.wait(10)

    recorder._syncer._fdatasync = slow
    waiting = []
    for _ in range(50):
        recorder.audit(b'{"what": "x"}')
        waiting.append(asyncio.ensure_future(recorder.synced()))
        await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    release.set()
    await asyncio.gather(*waiting)
    assert len(calls) <= 3
    recorder.close()


async def test_a_log_that_was_replaced_is_not_called_durable(tmp_path: Path) -> None:
    recorder = opened(tmp_path)
    wal = tmp_path / f"{STORE}-wal"
    shutil.copy(wal, tmp_path / "other")
    (tmp_path / "other").replace(wal)
    recorder.audit(b'{"what": "x"}')
    with pytest.raises(RecordingError, match="replaced"):
        await recorder.synced()
    recorder.close()


def moved_away(directory: Path) -> None:
    (directory / STORE).rename(directory / "elsewhere")


def exchanged(directory: Path) -> None:
    shutil.copy(directory / STORE, directory / "other")
    (directory / "other").replace(directory / STORE)


def log_removed(directory: Path) -> None:
    (directory / f"{STORE}-wal").unlink()


@pytest.mark.parametrize("spoil", [moved_away, exchanged, log_removed])
async def test_a_store_that_is_taken_away_while_it_is_written_ends_everything(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    failures: list[RecordingError] = []
    recorder = opened(tmp_path, failures)
    recorder.audit(b'{"what": "x"}')
    await recorder.synced()
    spoil(tmp_path)
    recorder.audit(b'{"what": "y"}')
    with pytest.raises(RecordingError):
        await recorder.synced()
    await asyncio.sleep(0)
    assert len(failures) == 1
    recorder.close()


async def test_a_store_that_is_taken_away_is_noticed_also_while_nothing_is_synced(tmp_path: Path) -> None:
    failures: list[RecordingError] = []
    recorder = opened(tmp_path, failures)
    moved_away(tmp_path)
    recorder._checkpoint_due()
    await asyncio.sleep(0)
    assert len(failures) == 1
    recorder.close()


async def test_a_failure_of_another_thread_ends_the_recorder(tmp_path: Path) -> None:
    failures: list[RecordingError] = []
    recorder = opened(tmp_path, failures)
    await asyncio.to_thread(recorder._report, "the log cannot be copied")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(RecordingError, match="cannot be copied"):
        recorder.audit(b"{}")
    assert len(failures) == 1
    recorder.close()


async def test_what_changed_no_row_leaves_no_transaction_open(tmp_path: Path) -> None:
    recorder = opened(tmp_path)
    assert not recorder.spend(ApprovalId("unknown"), nouns.NOON)
    recorder.written()
    assert not recorder._connection.in_transaction
    recorder.close()


# What people do to it.


async def test_two_votes_of_one_identity_count_once_and_break_nothing(tmp_path: Path) -> None:
    recorder = opened(tmp_path)
    recorder.open_session(nouns.session())
    request = Approval(ApprovalId("a"), nouns.session(), nouns.action(), nouns.hold(), "v", "d", nouns.NOON)
    vote = Vote(nouns.identity("bob", "dba"), True, "", nouns.NOON)
    recorder.asked(request, "{}")
    recorder.voted(request, vote)
    with pytest.raises(ApprovalError):
        recorder.voted(request, vote)
    recorder.settled(request.id, State.DENIED, "", nouns.NOON)
    with pytest.raises(ApprovalError):
        recorder.settled(request.id, State.APPROVED, "", nouns.NOON)
    assert not recorder.spend(request.id, nouns.NOON)
    await recorder.synced()
    recorder.close()
    verify(tmp_path, tmp_path / PUBLIC_KEY)


async def test_an_approval_ends_with_its_session(tmp_path: Path) -> None:
    recorder = opened(tmp_path)
    recorder.open_session(nouns.session())
    request = Approval(ApprovalId("a"), nouns.session(), nouns.action(), nouns.hold(), "v", "d", nouns.NOON)
    recorder.asked(request, "{}")
    recorder.settled(request.id, State.APPROVED, "", nouns.NOON)
    recorder.close_session("s-1", "the client hung up")
    assert not recorder.spend(request.id, nouns.NOON)
    recorder.close()


async def test_an_approval_does_not_survive_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.open_session(nouns.session())
    request = Approval(ApprovalId("a"), nouns.session(), nouns.action(), nouns.hold(), "v", "d", nouns.NOON)
    first.asked(request, "{}")
    first.settled(request.id, State.APPROVED, "", nouns.NOON)
    first.close()
    second = opened(tmp_path)
    assert not second.spend(request.id, nouns.NOON)
    second.close()


async def test_a_session_that_was_interrupted_keeps_its_counts(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.open_session(nouns.session())
    first.append("s-1", "judged", b'{"verdict": {"is": "deny"}}')
    first.append("s-1", "judged", b'{"verdict": {"is": "hold"}}')
    first.append("s-1", "waiting", b"{}")
    first.append_output("s-1", b"12345")
    first.close()
    opened(tmp_path).close()
    with Reader.open(tmp_path) as reader:
        row = reader.session("s-1")
    assert row is not None
    assert (row.statements, row.denied, row.held, row.bytes, row.entries) == (2, 1, 1, 5, 5)


def symlinked(directory: Path) -> None:
    (directory / STORE).rename(directory / "elsewhere.db")
    (directory / STORE).symlink_to("elsewhere.db")


def linked(directory: Path) -> None:
    os.link(directory / STORE, directory / "second name")


def readable(directory: Path) -> None:
    (directory / STORE).chmod(0o640)


def open_to_others(directory: Path) -> None:
    directory.chmod(0o755)


def readable_key(directory: Path) -> None:
    (directory / PRIVATE_KEY).chmod(0o644)


def symlinked_key(directory: Path) -> None:
    (directory / PRIVATE_KEY).rename(directory / "elsewhere")
    (directory / PRIVATE_KEY).symlink_to("elsewhere")


def lost_key(directory: Path) -> None:
    (directory / PRIVATE_KEY).unlink()


def lost_keys(directory: Path) -> None:
    (directory / PRIVATE_KEY).unlink()
    (directory / PUBLIC_KEY).unlink()


def exchanged_public_key(directory: Path) -> None:
    from bastion.store.checkpoints import Signer

    other = directory / "other"
    other.mkdir(mode=0o700)
    Signer(other)
    (other / PUBLIC_KEY).replace(directory / PUBLIC_KEY)


def broken_key(directory: Path) -> None:
    (directory / PRIVATE_KEY).write_bytes(b"")


def not_a_database(directory: Path) -> None:
    (directory / STORE).write_bytes(b"not a database " * 1000)


def from_the_future(directory: Path) -> None:
    connection = sqlite3.connect(directory / STORE)
    connection.execute(
        "insert into _sqlite_migrations (migration_set, name, applied_at) values ('bastion', 'm999_later', '')"
    )
    connection.commit()
    connection.close()


def linked_lock(directory: Path) -> None:
    (directory / "store.lock").unlink()
    (directory / "store.lock").symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        symlinked,
        linked,
        readable,
        open_to_others,
        readable_key,
        symlinked_key,
        lost_key,
        lost_keys,
        exchanged_public_key,
        broken_key,
        not_a_database,
        from_the_future,
        linked_lock,
    ],
)
async def test_a_store_that_is_not_as_we_left_it_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    await made(tmp_path)
    spoil(tmp_path)
    for _ in range(2):  # and the refusal leaves no lock behind
        with pytest.raises(BastionError) as caught:
            opened(tmp_path)
        assert isinstance(caught.value, RecordingError | ConfigError), caught.value


async def test_a_missing_public_key_is_written_again(tmp_path: Path) -> None:
    await made(tmp_path)
    before = (tmp_path / PUBLIC_KEY).read_bytes()
    (tmp_path / PUBLIC_KEY).unlink()
    await made_again(tmp_path)
    assert (tmp_path / PUBLIC_KEY).read_bytes() == before


async def made_again(directory: Path) -> None:
    opened(directory).close()


@pytest.mark.parametrize(
    "statement",
    [
        "insert or replace into chunks select id, session, first, count, 0, x'', links from chunks",
        "insert or replace into spans select null, session, first, last, x'' from spans",
        "insert or replace into sessions (id, issuer, subject, name, kind, actor, target, protocol, labels, reason, "
        "peer, client, started) select id, issuer, 'bob', name, kind, actor, target, protocol, labels, reason, peer, "
        "client, started from sessions",
        "insert or replace into checkpoints select number, at, '{}', signature from checkpoints",
        "delete from sessions",
        "update sessions set ended = null",
    ],
)
async def test_no_row_is_replaced(tmp_path: Path, statement: str) -> None:
    await made(tmp_path)
    connection = sqlite3.connect(tmp_path / STORE)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


async def test_an_open_session_stays_as_it_was_opened(tmp_path: Path) -> None:
    recorder = opened(tmp_path)
    recorder.open_session(nouns.session())
    recorder.written()
    connection = sqlite3.connect(tmp_path / STORE)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("update sessions set subject = 'bob'")
    connection.close()
    recorder.close()


@contextlib.contextmanager
def read_only_copy(directory: Path) -> Iterator[Path]:
    """Copy a store to where the one who reads it cannot write: not even root is, while it lasts."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        shutil.copytree(directory, copy)
        for path in (*copy.iterdir(), copy, Path(name)):
            path.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield copy
        finally:
            os.seteuid(user)
            for path in (Path(name), copy):
                path.chmod(0o755)


async def test_a_copy_that_cannot_be_written_is_proved_all_the_same(tmp_path: Path) -> None:
    await made(tmp_path)
    with read_only_copy(tmp_path) as copy:
        proof = verify(copy, copy / PUBLIC_KEY)
    assert (proof.sessions, proof.unsigned) == (1, 0)


def test_where_there_is_no_store_nothing_is_read_or_made(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        Reader.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_session_that_nobody_knows_is_no_broken_recording(tmp_path: Path) -> None:
    await made(tmp_path)
    with pytest.raises(RecordingError, match="holds no session") as caught:
        verify(tmp_path, tmp_path / PUBLIC_KEY, session="s-404")
    assert caught.value.code == "recording"
