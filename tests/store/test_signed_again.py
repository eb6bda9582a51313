"""A history that was rewritten while the gateway was away stays found, also when it signs what comes after."""

import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bastion.errors import RecordingBroken
from bastion.model.entry import GENESIS, Entry
from bastion.store.database import STORE
from bastion.store.packing import PLAIN, entries, laid, unpacked
from bastion.store.writer import GATEWAY, Recorder
from tests.kit import nouns
from tests.store.test_verify import change, proof


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    recorder = opened(tmp_path)
    recorder.open_session(nouns.session(name="s-1"))
    for n in range(1, 6):
        recorder.append("s-1", "judged", b'{"n": %d}' % n)
    recorder.close_session("s-1", "done")
    recorder.audit(b'{"what":"vote","by":"mallory","refused":"nobody approves their own request"}')
    recorder.close()
    return tmp_path


def opened(directory: Path) -> Recorder:
    return Recorder.open(directory, now=lambda: 1_000_000)


def made_anew(directory: Path, session: str, keep: Callable[[Entry], bool]) -> None:
    """Make a chain anew from the entries to be kept, as somebody who knows the format would."""
    connection = sqlite3.connect(directory / STORE)
    rows = connection.execute("select packing, body from chunks where session = ? order by id", (session,))
    kept = [e for packing, body in rows for e in entries(unpacked(packing, body)) if keep(e)]
    connection.execute("delete from chunks where session = ?", (session,))
    link = GENESIS
    for seq, old in enumerate(kept, start=1):
        entry = Entry(seq, old.at, old.kind, old.data)
        link = entry.link(link)
        body = laid(seq, entry.at, entry.kind.encode(), entry.data)
        connection.execute(
            "insert into chunks (session, first, count, packing, body, links) values (?, ?, 1, ?, ?, ?)",
            (session, seq, PLAIN, body, link),
        )
    lie = [id for (id,) in connection.execute("select id from chunks where session = ? order by id", (session,))]
    connection.execute("delete from spans where session = ?", (session,))
    connection.execute(
        "insert into spans (session, first, last, chunks) values (?, 1, ?, ?)",
        (session, lie[-1], struct.pack(f">{len(lie)}q", *lie)),
    )
    connection.commit()
    connection.close()


async def test_what_the_gateway_noted_cannot_be_dropped_before_it_starts_again(store: Path) -> None:
    change(store)
    made_anew(store, GATEWAY, lambda entry: b"mallory" not in entry.data)
    recorder = opened(store)
    recorder.audit(b'{"what":"started","by":""}')
    recorder.close()
    with pytest.raises(RecordingBroken, match="gateway"):
        proof(store)


async def test_a_session_that_was_over_cannot_be_opened_again_to_be_signed_anew(store: Path) -> None:
    change(store, "update sessions set ended = null, end_reason = null, entries = 0 where id = 's-1'")
    made_anew(store, "s-1", lambda entry: b'"n": 3' not in entry.data)
    made_anew(store, GATEWAY, lambda entry: b"ended" not in entry.data)
    opened(store).close()
    with pytest.raises(RecordingBroken):
        proof(store)


async def test_a_chain_that_lost_its_end_is_found_after_it_was_gone_on_with(store: Path) -> None:
    change(store)
    made_anew(store, GATEWAY, lambda entry: entry.seq < 3)
    recorder = opened(store)
    for n in range(20):
        recorder.audit(b'{"what":"started","by":"%d"}' % n)
    recorder.close()
    with pytest.raises(RecordingBroken):
        proof(store)
