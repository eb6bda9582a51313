"""Makes the golden recording of the present version: `python -m tests.store.make_recording DIRECTORY`.

A version that changes what is stored adds a directory to `recordings/`; those that are there stay as they are.
"""

import asyncio
import itertools
import sys
import tempfile
from pathlib import Path

import orjson

from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.database import STORE
from bastion.store.writer import Recorder
from tests.kit import nouns


async def make(directory: Path) -> None:
    """Write a store with one of everything into `directory`."""
    ticks = itertools.count(int(nouns.NOON.timestamp()) * 1_000_000, 1000)
    recorder = Recorder.open(directory, now=lambda: next(ticks))
    recorder.keep_policy("sha256:golden", "rules: []\n")
    session = nouns.session(name="20260504T120000-golden")
    recorder.open_session(session)
    recorder.append(session.id, "opened", orjson.dumps({"session": session.id, "target": session.target.name}))
    for number, verdict in enumerate(("allow", "deny", "hold"), start=1):
        said = {"ticket": number, "text": f"select {number}", "verdict": {"is": verdict}}
        recorder.append(session.id, "judged", orjson.dumps(said))
    recorder.count_denied(session.id)
    request = Approval(ApprovalId("golden"), session, nouns.action(), nouns.hold(), "sha256:golden", "d", nouns.NOON)
    recorder.asked(request, '{"text":"select 3"}')
    recorder.append(session.id, "waiting", b'{"ticket":3,"approval":"golden","digest":"d"}')
    recorder.voted(request, Vote(nouns.identity("bob", "dba"), True, "fine", nouns.NOON))
    recorder.settled(request.id, State.APPROVED, "", nouns.NOON)
    recorder.spend(request.id, nouns.NOON)
    await recorder.synced()
    recorder.append_output(session.id, b"short")
    recorder.append_observed(session.id, "finished", b'{"ticket":3,"tag":"SELECT 1"}')
    recorder.append_output(session.id, b"a line that repeats\n" * 1000)
    recorder.checkpoint()
    recorder.append(session.id, "closed", b'{"reason":"the client left"}')
    recorder.close_session(session.id, "the client left")
    recorder.close()


def main(destination: Path) -> None:
    """Make a store and keep of it what a reader needs."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(make(Path(name)))
        destination.mkdir(parents=True)
        for kept in (STORE, PUBLIC_KEY):
            (destination / kept).write_bytes((Path(name) / kept).read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
