"""Proves a store offline, with the public key of its checkpoints; names the first entry that does not hold.

What it proves: every chain is whole and unaltered up to where the last checkpoint saw it, or up to the end that the
gateway's own chain noted for it; no session that a checkpoint or the gateway's chain knows is missing, and none was
slipped in; each session's description, approval, vote, settlement, use and policy is the one that was chained.

What nothing in the file can prove: entries younger than the last checkpoint (`Proof.unsigned` counts them), which
whoever has the file can cut off or make anew; and that the file was not cut back to an earlier checkpoint together with
all checkpoints after it. For that, compare the number of the last checkpoint with one that was kept elsewhere. Who has
the private key can sign anything.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bastion.errors import RecordingBroken, RecordingError
from bastion.model.entry import GENESIS, Entry
from bastion.store import facts
from bastion.store.checkpoints import digest, is_signed, public_key
from bastion.store.packing import entries, unpacked
from bastion.store.reader import Reader
from bastion.store.writer import GATEWAY

_FACTS: dict[str, tuple[str, Callable[..., bytes]]] = {
    "session": (
        "select id, issuer, subject, name, kind, actor, target, protocol, labels, reason, peer, client, started "
        "from sessions",
        facts.session_fact,
    ),
    "ended": (
        "select id, ended, end_reason, entries, statements, denied, held, bytes from sessions where ended is not null",
        facts.ended_fact,
    ),
    "approval": ("select id, session, digest, policy, request, asked from approvals", facts.approval_fact),
    "vote": ("select approval, issuer, subject, name, approves, reason, at from votes", facts.vote_fact),
    "settlement": ("select approval, state, reason, at from settlements", facts.settlement_fact),
    "spent": ("select approval, at from spent", facts.spent_fact),
    "policy": ("select version, text, at from policies", facts.policy_fact),
}


_WORDS = {
    "session": "description of session",
    "ended": "end of session",
    "approval": "request",
    "vote": "vote on",
    "settlement": "settlement of",
    "spent": "use of",
    "policy": "policy",
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

    `progress` is told the number of entries that were read so far. Raises `RecordingError` if there is no such session.
    """
    trusted = public_key(key)
    with Reader.open(directory) as reader, reader.snapshot() as connection:
        heads, last, count = _checkpoints(connection, trusted)
        signed_for = heads.pop(GATEWAY, {})
        signed = max(signed_for, default=0)
        walk, said = _Walk(connection, progress), _Said()
        length = walk.follow(GATEWAY, signed_for, said.read)
        unsigned = length - signed
        names = _names(connection, {*heads, *said.opened}, session)
        for name in names:
            known = heads.get(name, {})
            last_signed = max(known, default=0)
            end = said.ends.get(name)
            if end is not None and known.setdefault(end.entries, end.link) != end.link:
                raise RecordingBroken(name, end.entries, f"session {name} does not end as it was recorded to end")
            length = walk.follow(name, known)
            if end is not None and length > end.entries:
                raise RecordingBroken(name, end.entries + 1, f"session {name} goes on after its end")
            proven = end.entries if end is not None and end.seq <= signed else last_signed
            unsigned += length - proven
        _check_rows(connection, said.rows)
    return Proof(len(names), walk.entries, count, last, unsigned)


@dataclass(frozen=True, slots=True)
class _End:
    seq: int
    """The entry of the gateway's chain that notes it."""
    entries: int
    link: str


@dataclass(slots=True)
class _Said:
    """What the gateway's chain says of sessions, and of rows in other tables."""

    opened: set[str] = field(default_factory=set)
    ends: dict[str, _End] = field(default_factory=dict)
    rows: set[tuple[str, str, str]] = field(default_factory=set)

    def read(self, entry: Entry) -> None:
        """Take in one entry."""
        try:
            said = orjson.loads(entry.data)
            if entry.kind == "fact":
                self.rows.add((said["row"], said["key"], said["digest"]))
            elif said["what"] == "session":
                self.opened.add(said["session"])
            elif said["what"] == "session ended":
                self.ends[said["session"]] = _End(entry.seq, said["entries"], said["link"])
        except (ValueError, LookupError, TypeError):
            raise RecordingBroken(
                GATEWAY, entry.seq, f"entry {entry.seq} of the gateway is not one of its own"
            ) from None


class _Walk:
    """Follows chains from their first entry to their last."""

    def __init__(self, connection: sqlite3.Connection, progress: Callable[[int], None]) -> None:
        self._connection = connection
        self._progress = progress
        self.entries = 0

    def follow(self, name: str, known: Mapping[int, str], read: Callable[[Entry], None] = lambda _: None) -> int:
        """Return the length of a chain that is whole; `known` tells the links of some entries from elsewhere."""
        seq, link = 0, GENESIS
        for entry, stored in _linked(self._connection, name):
            seq, link = seq + 1, entry.link(link)
            if entry.seq != seq or link != stored:
                raise RecordingBroken(name, seq, f"entry {seq} of session {name} does not follow from those before it")
            if seq in known and known[seq] != link.hex():
                raise RecordingBroken(name, seq, f"entry {seq} of session {name} is not the one that was signed for")
            read(entry)
            self.entries += 1
            if self.entries % 1000 == 0:
                self._progress(self.entries)
        if seq < (wanted := max(known, default=0)):
            raise RecordingBroken(name, seq + 1, f"session {name} ends after entry {seq}; {wanted} were signed for")
        return seq


def _names(connection: sqlite3.Connection, elsewhere: set[str], wanted: str | None) -> list[str]:
    """Return the sessions to prove; raise `RecordingBroken` if one is missing that is known from elsewhere."""
    stored = {row[0] for row in connection.execute("select distinct session from chunks")} - {GATEWAY}
    described = {row[0] for row in connection.execute("select id from sessions")}
    for name in sorted(elsewhere | stored):
        if name not in described and wanted in (None, name):
            raise RecordingBroken(name, 1, f"session {name} is missing")
    if wanted is not None and wanted not in described:
        raise RecordingError(f"the store holds no session {wanted}")
    return sorted(described) if wanted is None else [wanted]


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


def _checkpoints(connection: sqlite3.Connection, key: Ed25519PublicKey) -> tuple[dict[str, dict[int, str]], int, int]:
    """Return every head that was signed for of each chain, and the time and number of the last checkpoint.

    The last head alone would not do: a gateway that is started on a chain made anew goes on with it, and signs.
    """
    heads: dict[str, dict[int, str]] = {}
    previous, last, count = "", 0, 0
    for number, at, body, signature in connection.execute(
        "select number, at, body, signature from checkpoints order by number"
    ):
        count += 1
        if number != count or not is_signed(key, body, signature):
            raise RecordingBroken(GATEWAY, 0, f"checkpoint {count} is missing or its signature does not hold")
        read = orjson.loads(body)
        if read["number"] != number or read["previous"] != previous or read["at"] != at:
            raise RecordingBroken(GATEWAY, 0, f"checkpoint {count} does not follow from the one before it")
        previous, last = digest(body, signature), at
        for name, (seq, link) in read["heads"].items():
            if heads.setdefault(name, {}).setdefault(seq, link) != link:
                raise RecordingBroken(name, seq, f"entry {seq} of session {name} was signed for twice, as two others")
    return heads, last, count


def _check_rows(connection: sqlite3.Connection, chained: set[tuple[str, str, str]]) -> None:
    """Check that the rows of sessions, approvals and policies are exactly those that were chained."""
    found = set()
    for kind, (statement, fact) in _FACTS.items():
        for row in connection.execute(statement):
            made = orjson.loads(fact(*row))
            item = (kind, made["key"], made["digest"])
            if item not in chained:
                raise RecordingBroken(_whose(kind, row[0]), 0, f"the {_WORDS[kind]} {row[0]} is not as recorded")
            found.add(item)
    for kind, name, _ in sorted(chained - found):
        raise RecordingBroken(_whose(kind, name), 0, f"the {_WORDS.get(kind, kind)} {name} is missing")


def _whose(kind: str, name: str) -> str:
    return name if kind in ("session", "ended") else GATEWAY
