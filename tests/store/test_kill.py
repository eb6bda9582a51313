"""Whenever the gateway's process is killed, all that it said was written is in the store, and the store is proved."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.reader import Reader
from bastion.store.verify import verify

ROUNDS = 20

# Forks a writer for each line on its standard input, so that a round does not pay for the imports again.
NURSERY = """
import asyncio, os, sys, time

from pathlib import Path
from bastion.model.approval import Approval, ApprovalId, State
from bastion.store.writer import Recorder
from tests.kit import nouns

async def work(name):
    recorder = Recorder.open(Path(sys.argv[1]), now=lambda: time.time_ns() // 1000)
    recorder.open_session(nouns.session(name=name))
    for n in range(1_000_000):
        recorder.append(name, "judged", b'{"n": %d, "verdict": {"is": "allow"}}' % n)
        recorder.append_output(name, b"row %d " % n * (n % 500))
        if n % 7 == 0:
            about = (nouns.session(name=name), nouns.action(), nouns.hold(), "v", "d", nouns.NOON)
            request = Approval(ApprovalId(f"{name}-{n}"), *about)
            recorder.asked(request, "{}")
            if n % 2:
                recorder.settled(request.id, State.APPROVED, "", nouns.NOON)
                assert recorder.spend(request.id, nouns.NOON)
        if n % 3:
            recorder.written()
        else:
            await recorder.synced()
        if n % 20 == 0:
            recorder.checkpoint()
        os.write(1, b"%d\\n" % n)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.write(1, b"pid %d\\n" % os.getpid())
        asyncio.run(work(line.strip()))
    os.waitpid(child, 0)
    os.write(1, b"ended\\n")
"""


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NURSERY, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait(10)


@pytest.mark.slow
def test_what_was_reported_survives_a_kill(tmp_path: Path, nursery: subprocess.Popen[str]) -> None:
    chance = random.Random(4)
    reported: dict[str, int] = {}
    for number in range(ROUNDS):
        name = f"s-{number:02}"
        reported[name] = killed_after(nursery, name, chance.randrange(1, 120))
        verify(tmp_path, tmp_path / PUBLIC_KEY)
        for session, last in reported.items():
            assert stored(tmp_path, session)[: last + 1] == list(range(last + 1)), session
    with Reader.open(tmp_path) as reader:
        rows = reader.sessions(limit=100)
    interrupted = [row for row in rows if row.end_reason == "the gateway ended without closing it"]
    assert len(interrupted) == ROUNDS - 1
    assert all(row.statements >= reported[row.id] + 1 for row in interrupted)


def killed_after(nursery: subprocess.Popen[str], name: str, enough: int) -> int:
    """Start a writer, kill it once it has reported enough, and return the last thing it reported."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{name}\n")
    nursery.stdin.flush()
    pid, last = 0, -1
    for line in nursery.stdout:
        match line.split():
            case ["ended"]:
                break
            case ["pid", number]:
                pid = int(number)
            case [number]:
                last = int(number)
                if last == enough:
                    os.kill(pid, signal.SIGKILL)
    return last


def stored(directory: Path, session: str) -> list[int]:
    with Reader.open(directory) as reader:
        found = [entry.data for entry in reader.entries(session) if entry.kind == "judged"]
    return [int(data[6 : data.index(b",")]) for data in found]
