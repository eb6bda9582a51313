"""Whatever is done to a store behind its back, `verify` finds it and names the first entry that does not hold."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from bastion.errors import RecordingBroken
from bastion.store.checkpoints import PUBLIC_KEY
from bastion.store.database import STORE
from bastion.store.packing import PLAIN
from bastion.store.verify import Proof, verify
from bastion.store.writer import Recorder
from tests.kit import nouns
from tests.store.test_recorder import approve


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    recorder = Recorder.open(tmp_path, now=lambda: 1_000_000)
    for name in ("s-1", "s-2"):
        recorder.open_session(nouns.session(name=name))
        for n in range(1, 6):
            recorder.append(name, "judged", b'{"n": %d}' % n)
            recorder.written()
        recorder.close_session(name, "done")
        recorder.checkpoint()
    recorder.keep_policy("v1", "the policy")
    approve(recorder)
    recorder.close()
    return tmp_path


def proof(directory: Path) -> Proof:
    return verify(directory, directory / PUBLIC_KEY)


def change(directory: Path, *statements: str) -> None:
    connection = sqlite3.connect(directory / STORE)
    for (name,) in connection.execute("select name from sqlite_master where type = 'trigger'").fetchall():
        connection.execute(f"drop trigger {name}")
    connection.execute("drop index spans_by_session")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0, statement
    connection.commit()
    connection.close()


def test_an_untouched_store_is_proved(store: Path) -> None:
    found = proof(store)
    assert (found.sessions, found.unsigned) == (3, 0)
    assert found.entries > 10


@pytest.mark.parametrize(
    ("statement", "session", "entry"),
    [
        ("update chunks set body = replace(body, '\"n\": 3', '\"n\": 9') where session = 's-1'", "s-1", 3),
        ("delete from chunks where session = 's-1' and first = 3", "s-1", 3),
        ("delete from chunks where session = 's-1' and first >= 4", "s-1", 4),
        ("delete from chunks where session = 's-2'", "s-2", 1),
        ("update chunks set first = 7 - first where session = 's-1' and first in (3, 4)", "s-1", 3),
        ("update chunks set links = zeroblob(32) where session = 's-1' and first = 2", "s-1", 2),
        ("update chunks set session = 's-1' where session = 's-2' and first = 3", "s-1", 6),
        ("delete from sessions where id = 's-1'", "s-1", 1),
        ("update votes set approves = 0", "gateway", 0),
        ("update votes set subject = 'mallory'", "gateway", 0),
        ("delete from votes", "gateway", 0),
        ("delete from spent", "gateway", 0),
        ("update policies set text = 'another'", "gateway", 0),
        ("update sessions set subject = 'bob' where id = 's-1'", "s-1", 0),
        ("update sessions set target = 'staging' where id = 's-9'", "s-9", 0),
        ("update sessions set denied = 7 where id = 's-2'", "s-2", 0),
        ("update sessions set ended = null where id = 's-2'", "s-2", 0),
        (
            "insert into sessions select 's-8', issuer, subject, name, kind, actor, target, protocol, labels, reason, "
            "peer, client, started, null, null, 0, 0, 0, 0, 0 from sessions where id = 's-1'",
            "s-8",
            0,
        ),
        (
            "insert into chunks (session, first, count, packing, body, links) "
            "select 's-7', first, count, packing, body, links from chunks where session = 's-1'",
            "s-7",
            1,
        ),
        ("delete from checkpoints where number = 1", "gateway", 0),
        ("update checkpoints set at = at + 1", "gateway", 0),
        ("update checkpoints set signature = zeroblob(64)", "gateway", 0),
        ("update chunks set packing = 1 where session = 's-2' and first = 2", "s-2", 2),
        ("update chunks set count = 2 where session = 's-2' and first = 2", "s-2", 2),
        ("delete from settlements", "gateway", 0),
        ("delete from spans where session = 's-1'", "s-1", 0),
        ("update spans set chunks = substr(chunks, 9) where session = 's-2'", "s-2", 0),
        (
            "update spans set chunks = cast(substr(chunks, 9, 8) || substr(chunks, 1, 8) as blob) "
            "where session = 's-1'",
            "s-1",
            0,
        ),
        ("update spans set session = 's-2' where session = 's-1'", "s-1", 0),
        ("update spent set at = at + 1", "gateway", 0),
        ("update approvals set request = '[]'", "gateway", 0),
        ("update settlements set state = 'denied'", "gateway", 0),
        ("update checkpoints set body = replace(body, '\"number\":1', '\"number\":1 ')", "gateway", 0),
        (
            "insert into votes (approval, issuer, subject, name, approves, reason, at) "
            "values ('abc123', 'i', 's', 'n', 1, '', 0)",
            "gateway",
            0,
        ),
    ],
)
def test_tampering_is_found(store: Path, statement: str, session: str, entry: int) -> None:
    if 'replace(body, \'"n"' in statement:
        statement = (
            "update chunks set body = cast(replace(cast(body as text), '\"n\": 3', '\"n\": 9') as blob) "
            "where session = 's-1' and first = 3"
        )
    change(store, statement)
    with pytest.raises(RecordingBroken) as caught:
        proof(store)
    assert (caught.value.session, caught.value.entry) == (session, entry)


def rewritten(directory: Path) -> None:
    """Rewrite a session's chain so that it is consistent in itself, as somebody who knows the format would."""
    from bastion.model.entry import GENESIS, Entry
    from bastion.store.packing import laid

    connection = sqlite3.connect(directory / STORE)
    link = GENESIS
    rows = connection.execute("select id from chunks where session = 's-1' order by first").fetchall()
    for seq, (row,) in enumerate(rows, start=1):
        entry = Entry(seq, 1, "judged", b"nothing happened")
        link = entry.link(link)
        connection.execute(
            "update chunks set packing = ?, count = 1, first = ?, body = ?, links = ? where id = ?",
            (PLAIN, seq, laid(seq, 1, b"judged", entry.data), link, row),
        )
    connection.commit()


def flipped(directory: Path) -> None:
    connection = sqlite3.connect(directory / STORE)
    row, body = connection.execute("select id, body from chunks where session = 's-2' and first = 2").fetchone()
    connection.execute("update chunks set body = ? where id = ?", (body[:-1] + bytes([body[-1] ^ 1]), row))
    connection.commit()


@pytest.mark.parametrize("how", [rewritten, flipped])
def test_a_chain_made_anew_does_not_match_what_was_signed(store: Path, how: Callable[[Path], None]) -> None:
    change(store)
    how(store)
    with pytest.raises(RecordingBroken):
        proof(store)


def test_another_key_proves_nothing(store: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    from bastion.store.checkpoints import Signer

    other = tmp_path_factory.mktemp("other")
    Signer(other)
    with pytest.raises(RecordingBroken, match="signature"):
        verify(store, other / PUBLIC_KEY)


def test_a_store_cut_back_with_its_checkpoints_is_found_by_a_number_that_was_noted(store: Path) -> None:
    noted = proof(store).checkpoints
    assert noted > 0
    verify(store, store / PUBLIC_KEY, at_least=noted)
    with pytest.raises(RecordingBroken, match=f"at least {noted + 1} checkpoints, found {noted}"):
        verify(store, store / PUBLIC_KEY, at_least=noted + 1)


def test_verification_changes_nothing(store: Path) -> None:
    before = {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in store.iterdir() if p.suffix == ".db"}
    proof(store)
    assert before == {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in store.iterdir() if p.suffix == ".db"}
    assert os.listdir(store)
