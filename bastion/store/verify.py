"""Proves a store offline, with the public key of its checkpoints; names the first entry that does not hold.

What it proves: every chain is whole and unaltered up to where the last checkpoint saw it, or up to the end that the
gateway's own chain noted for it; no session that a checkpoint or the gateway's chain knows is missing, and none was
slipped in; each session's description, approval, vote, settlement, use and policy is the one that was chained.

What nothing in the file can prove: entries younger than the last checkpoint (`Proof.unsigned` counts them), which
whoever has the file can cut off or make anew; and that the file was not cut back to an earlier checkpoint together with
all checkpoints after it. For that, compare the number of the last checkpoint with one that was kept elsewhere. Who has
the private key can sign anything.
"""

import hashlib
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
from bastion.store.spans import floor
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
    directory: Path,
    key: Path,
    *,
    session: str | None = None,
    at_least: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Proof:
    """Prove the store in `directory`, or one session of it; raise `RecordingBroken` at the first thing that is not so.

    `at_least` is how many checkpoints there were when somebody noted it elsewhere: fewer show a store that was cut
    back. `progress` is told the number of entries that were read so far. Raises `RecordingError` if there is no such
    session.
    """
    trusted = public_key(key)
    with Reader.open(directory) as reader:
        try:
            with reader.snapshot() as connection:
                proof = _proof(connection, trusted, session, progress)
        except sqlite3.Error as error:
            raise RecordingBroken(GATEWAY, 0, f"the store's file is damaged: {error}") from error
    if proof.checkpoints < at_least:
        raise RecordingBroken(GATEWAY, 0, f"expected at least {at_least} checkpoints, found {proof.checkpoints}")
    return proof


def _proof(
    connection: sqlite3.Connection, key: Ed25519PublicKey, session: str | None, progress: Callable[[int], None]
) -> Proof:
    heads, last, count = _checkpoints(connection, key)
    signed_for = heads.pop(GATEWAY, {})
    signed = max(signed_for, default=0)
    walk, said = _Walk(connection, progress), _Said()
    gateway = _Chain(GATEWAY, signed_for)
    walk.follow({GATEWAY: gateway}, said.read)
    unsigned = gateway.seq - signed
    names = _names(connection, {*heads, *said.opened}, session)
    chains = {name: _expected(name, heads.get(name, {}), said.ends.get(name)) for name in names}
    walk.follow(chains, whole=session is None)
    for name, chain in chains.items():
        end = said.ends.get(name)
        proven = end.entries if end is not None and end.seq <= signed else max(heads.get(name, {}), default=0)
        unsigned += chain.seq - proven
    _check_spans(connection, {GATEWAY: gateway, **chains}, walk.floor)
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


@dataclass(slots=True)
class _Chain:
    """One chain as far as it was followed."""

    name: str
    known: Mapping[int, str]
    """Links of some entries that are known from elsewhere; the chain goes at least up to the last."""
    end: int | None = None
    """The last entry there may be."""
    seq: int = 0
    link: bytes = GENESIS
    places: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    """Over the numbers of its chunks, as far as spans hold them."""

    def take(self, entry: Entry, stored: bytes) -> None:
        """Follow the chain by one entry."""
        name = self.name
        self.seq, self.link = self.seq + 1, entry.link(self.link)
        if entry.seq != self.seq or self.link != stored:
            raise RecordingBroken(name, self.seq, f"entry {self.seq} of session {name} does not follow from the others")
        if self.end is not None and self.seq > self.end:
            raise RecordingBroken(name, self.seq, f"session {name} goes on after its end")
        if self.seq in self.known and self.known[self.seq] != self.link.hex():
            raise RecordingBroken(name, self.seq, f"entry {self.seq} of session {name} is not the one signed for")

    def close(self) -> None:
        """Check that nothing is missing."""
        if self.seq < (wanted := max(self.known, default=0)):
            words = f"session {self.name} ends after entry {self.seq}; {wanted} were signed for"
            raise RecordingBroken(self.name, self.seq + 1, words)


class _Walk:
    """Goes through the chunks in the order in which they were written, following many chains at once."""

    def __init__(self, connection: sqlite3.Connection, progress: Callable[[int], None]) -> None:
        self._connection = connection
        self._progress = progress
        self.floor = floor(connection)
        self.entries = 0

    def follow(
        self, chains: Mapping[str, _Chain], read: Callable[[Entry], None] = lambda _: None, *, whole: bool = False
    ) -> None:
        """Follow these chains to their ends; with `whole`, there must be no others but the gateway's."""
        for number, name, first, count, packing, body, links in self._connection.execute(
            "select id, session, first, count, packing, body, links from chunks order by id"
        ):
            chain = chains.get(name)
            if chain is None:
                if whole and name != GATEWAY:
                    raise RecordingBroken(name, 1, f"session {name} is missing")
                continue
            if first != chain.seq + 1:
                raise RecordingBroken(name, chain.seq + 1, f"entry {chain.seq + 1} of session {name} is missing")
            if number <= self.floor:
                chain.places.update(number.to_bytes(8, "big"))
            for entry, stored in _linked(name, first, count, packing, body, links):
                chain.take(entry, stored)
                read(entry)
                self.entries += 1
                if self.entries % 1000 == 0:
                    self._progress(self.entries)
        for chain in chains.values():
            chain.close()


def _expected(name: str, signed_for: dict[int, str], end: _End | None) -> _Chain:
    if end is None:
        return _Chain(name, signed_for)
    known = {end.entries: end.link, **signed_for}
    if known[end.entries] != end.link:
        raise RecordingBroken(name, end.entries, f"session {name} does not end as it was recorded to end")
    return _Chain(name, known, end.entries)


def _check_spans(connection: sqlite3.Connection, chains: Mapping[str, _Chain], last: int) -> None:
    """Check that readers are led to all chunks of each session, in order, and to no others."""
    found = {name: hashlib.sha256() for name in chains}
    for name, packed in connection.execute("select session, chunks from spans order by session, first"):
        if name in found:
            found[name].update(packed)
    for name, chain in chains.items():
        if chain.places.digest() != found[name].digest():
            raise RecordingBroken(name, 0, f"where the chunks of session {name} lie was changed, up to chunk {last}")


def _names(connection: sqlite3.Connection, elsewhere: set[str], wanted: str | None) -> list[str]:
    """Return the sessions to prove; raise `RecordingBroken` if one is missing that is known from elsewhere."""
    described = {row[0] for row in connection.execute("select id from sessions")}
    for name in sorted(elsewhere):
        if name not in described and wanted in (None, name):
            raise RecordingBroken(name, 1, f"session {name} is missing")
    if wanted is not None and wanted not in described:
        raise RecordingError(f"the store holds no session {wanted}")
    return sorted(described) if wanted is None else [wanted]


def _linked(
    session: str, first: int, count: int, packing: int, body: bytes, links: bytes
) -> Iterator[tuple[Entry, bytes]]:
    """Yield each entry of a chunk with the link that is stored for it."""
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
