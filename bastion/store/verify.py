"""Proves a store offline, with the public key of its checkpoints; names the first entry that does not hold.

What it proves: every chain is whole and unaltered up to where the last checkpoint saw it; no session that a checkpoint
or the gateway's chain knows is missing; each approval, vote, settlement, use and policy is the one that was chained.
What nothing in the file can prove is that it was not cut back to an earlier checkpoint together with all checkpoints
after it: for that, compare the number of the last checkpoint with one that was kept elsewhere.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bastion.errors import RecordingBroken
from bastion.model.entry import GENESIS, Entry
from bastion.store import facts
from bastion.store.checkpoints import digest, is_signed, public_key
from bastion.store.packing import entries, unpacked
from bastion.store.reader import Reader
from bastion.store.writer import GATEWAY

_FACTS: dict[str, tuple[str, Callable[..., bytes]]] = {
    "approval": ("select id, session, digest, policy, request, asked from approvals", facts.approval_fact),
    "vote": ("select approval, issuer, subject, name, approves, reason, at from votes", facts.vote_fact),
    "settlement": ("select approval, state, reason, at from settlements", facts.settlement_fact),
    "spent": ("select approval, at from spent", facts.spent_fact),
    "policy": ("select version, text, at from policies", facts.policy_fact),
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved."""

    sessions: int
    entries: int
    checkpoints: int
    last_checkpoint: int
    """Microseconds since the epoch; 0 if there is none."""
    unsigned: int
    """Entries younger than the last checkpoint that covers their chain: chained, but not yet signed for."""


def verify(
    directory: Path, key: Path, *, session: str | None = None, progress: Callable[[int], None] = lambda _: None
) -> Proof:
    """Prove the store in `directory`, or one session of it; raise `RecordingBroken` at the first thing that is not so.

    `progress` is told the number of entries that were read so far.
    """
    with Reader.open(directory) as reader:
        connection = reader._connection
        heads, last, count = _checkpoints(connection, public_key(key))
        if session is not None:
            heads = {name: head for name, head in heads.items() if name in (session, GATEWAY)}
        return _chains(connection, heads, last, count, session, progress)


def _chains(
    connection: sqlite3.Connection,
    heads: dict[str, tuple[int, str]],
    last: int,
    count: int,
    session: str | None,
    progress: Callable[[int], None],
) -> Proof:
    known = {row[0]: row[1] for row in connection.execute("select id, ended from sessions")}
    names = [session] if session is not None else sorted({*known, *heads} - {GATEWAY})
    total = unsigned = 0
    proven: dict[str, str] = {}
    said: list[dict[str, Any]] = []
    for name in [GATEWAY, *names]:
        if name != GATEWAY and name not in known:
            raise RecordingBroken(name, 1, f"session {name} is missing")
        seq, link = 0, GENESIS
        for entry, stored in _linked(connection, name):
            link = entry.link(link)
            seq += 1
            if entry.seq != seq or link != stored:
                raise RecordingBroken(name, seq, f"entry {seq} of session {name} does not follow from those before it")
            if heads.get(name, (0, ""))[0] == seq and heads[name][1] != link.hex():
                raise RecordingBroken(name, seq, f"entry {seq} of session {name} is not the one that was signed for")
            if name == GATEWAY:
                said.append(orjson.loads(entry.data))
            total += 1
            if total % 1000 == 0:
                progress(total)
        signed = heads.get(name, (0, ""))[0]
        if seq < signed:
            raise RecordingBroken(name, seq + 1, f"session {name} ends after entry {seq}; {signed} were signed for")
        unsigned += seq - signed
        proven[name] = link.hex()
    _check_sessions(said, known, proven, set(names))
    _check_facts(connection, said)
    return Proof(len(names), total, count, last, unsigned)


def _linked(connection: sqlite3.Connection, session: str) -> Iterator[tuple[Entry, bytes]]:
    """Yield each entry with the link that is stored for it."""
    rows = connection.execute(
        "select first, count, packing, body, links from chunks where session = ? order by first, id", (session,)
    )
    for first, count, packing, body, links in rows:
        try:
            found = list(entries(unpacked(packing, body)))
        except ValueError as error:
            raise RecordingBroken(session, first, f"entry {first} of session {session}: {error}") from None
        if len(found) != count or len(links) != 32 * count:
            raise RecordingBroken(session, first, f"the chunk of session {session} at entry {first} was changed")
        for index, entry in enumerate(found):
            yield entry, links[32 * index : 32 * index + 32]


def _checkpoints(connection: sqlite3.Connection, key: Ed25519PublicKey) -> tuple[dict[str, tuple[int, str]], int, int]:
    """Return the head that was last signed for of each chain, and the time and number of the last checkpoint."""
    heads: dict[str, tuple[int, str]] = {}
    previous, last, count = "", 0, 0
    for number, body, signature in connection.execute(
        "select number, body, signature from checkpoints order by number"
    ):
        count += 1
        if number != count or not is_signed(key, body, signature):
            raise RecordingBroken(GATEWAY, 0, f"checkpoint {count} is missing or its signature does not hold")
        read = orjson.loads(body)
        if read["number"] != number or read["previous"] != previous:
            raise RecordingBroken(GATEWAY, 0, f"checkpoint {count} does not follow from the one before it")
        previous, last = digest(body, signature), read["at"]
        heads.update({name: (seq, link) for name, (seq, link) in read["heads"].items()})
    return heads, last, count


def _check_sessions(
    said: Iterable[dict[str, Any]], known: dict[str, int | None], proven: dict[str, str], wanted: set[str]
) -> None:
    """Check that no session is missing and that those which ended, ended as the gateway's chain says."""
    for entry in said:
        name = entry.get("session")
        if not isinstance(name, str) or (name not in wanted and name in known):
            continue
        if entry.get("what") == "session" and name not in known:
            raise RecordingBroken(name, 1, f"session {name} is missing")
        if entry.get("what") == "session ended" and name in proven and proven[name] != entry.get("link"):
            raise RecordingBroken(name, 0, f"session {name} does not end as it was recorded to end")


def _check_facts(connection: sqlite3.Connection, said: Iterable[dict[str, Any]]) -> None:
    """Check that the rows of approvals and policies are exactly those that were chained."""
    chained = {(e["row"], e["key"], e["digest"]) for e in said if "row" in e}
    found = set()
    for kind, (statement, fact) in _FACTS.items():
        for row in connection.execute(statement):
            made = orjson.loads(fact(*row))
            item = (kind, made["key"], made["digest"])
            if item not in chained:
                raise RecordingBroken(GATEWAY, 0, f"the {kind} of {row[0]} is not the one that was recorded")
            found.add(item)
    for kind, name, _ in sorted(chained - found):
        raise RecordingBroken(GATEWAY, 0, f"the {kind} of {name} is missing")
