"""The one writer of the store, in the event loop's thread: appends entries, commits them, makes them durable.

`append` only computes and buffers; `written` commits everything buffered in one transaction; `synced` makes it
durable. After the first failure nothing works any more: every call raises `RecordingError`.
"""

import asyncio
import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlite_utils import Database

from bastion.errors import BastionError, RecordingError
from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.model.entry import GENESIS
from bastion.model.session import Session, SessionId
from bastion.store.checkpoints import Signer, signed_body
from bastion.store.facts import approval_fact, policy_fact, settlement_fact, spent_fact, vote_fact
from bastion.store.migrations import migrations
from bastion.store.packing import laid, packed, packed_output
from bastion.store.syncing import Syncer

STORE = "store.db"
GATEWAY = SessionId("gateway")
"""The chain of what belongs to no session: logins, refusals, votes, policies, sessions that were opened."""

_OUTPUT_BATCH = 64 * 1024
_OUTPUT_SECONDS = 0.05
_CHECKPOINT_SECONDS = 60.0
_WAL_WORTH_COPYING = 4 * 1024 * 1024
_T = TypeVar("_T")


class _Chain:
    """One session's entries that are not committed yet, and where its chain stands."""

    __slots__ = ("body", "counts", "first", "link", "links", "output", "output_size", "seq", "sizes")

    def __init__(self, seq: int = 0, link: bytes = GENESIS) -> None:
        self.seq = seq
        self.link = link
        self.first = seq + 1
        self.body: list[bytes] = []
        self.links: list[bytes] = []
        self.output: list[bytes] = []
        self.output_size = 0
        self.counts = {"statements": 0, "denied": 0, "held": 0, "bytes": 0}


class Recorder:
    """Writes recordings. Made by `open`; one a store, which a lock ensures."""

    def __init__(
        self,
        directory: Path,
        connection: sqlite3.Connection,
        lock: int,
        now: Callable[[], int],
        on_failure: Callable[[RecordingError], None],
    ) -> None:
        self._directory = directory
        self._connection = connection
        self._lock = lock
        self._now = now
        self._on_failure = on_failure
        self._failed: RecordingError | None = None
        self._loop = asyncio.get_running_loop()
        self._chains: dict[str, _Chain] = {}
        self._dirty: dict[str, _Chain] = {}
        self._outputs: dict[str, _Chain] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._urgent = False
        self._changed: dict[str, tuple[int, str]] = {}
        self._copied = 0
        self._copying: threading.Thread | None = None
        self._signer = Signer(directory)
        self._chains[GATEWAY] = self._resume(GATEWAY)
        self._interrupted()
        self._commit()
        self._syncer = Syncer(directory / f"{STORE}-wal")
        _sync_directory(directory)
        self._checkpoint_timer = self._loop.call_later(_CHECKPOINT_SECONDS, self._checkpoint_now_and_then)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        now: Callable[[], int],
        on_failure: Callable[[RecordingError], None] = lambda error: None,
    ) -> "Recorder":
        """Open the store in `directory`, making it if need be, for the only writer there is.

        Raises `RecordingError` when it cannot be written, and `BastionError` when another gateway has it.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "store.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BastionError(f"another gateway writes the store in {directory}") from None
        try:
            return cls(directory, _connected(directory / STORE), lock, now, on_failure)
        except (sqlite3.Error, OSError) as error:
            os.close(lock)
            raise RecordingError(f"the store in {directory} cannot be opened: {error}") from error

    # What sessions do.

    def open_session(self, session: Session) -> None:
        """Make room for a session's recording."""
        identity, target = session.identity, session.target
        row = (
            session.id,
            identity.issuer,
            identity.subject,
            identity.name,
            str(identity.kind),
            identity.actor,
            target.name,
            target.protocol,
            orjson.dumps(dict(target.labels)).decode(),
            session.reason,
            session.peer,
            session.client,
            _microseconds(session.started),
        )
        self._chains[session.id] = _Chain()
        self._execute(
            "insert into sessions (id, issuer, subject, name, kind, actor, target, protocol, labels, reason, peer, "
            "client, started) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self.audit(orjson.dumps({"what": "session", "by": identity.subject, "session": session.id}))

    def append(self, session: str, kind: str, data: bytes) -> int:
        """Append an entry and return its sequence number; output that came before it stays before it."""
        if self._failed is not None:
            raise self._failed
        chain = self._chains[session]
        if chain.output:
            self._take_output(session, chain)
        if kind == "judged":
            chain.counts["statements"] += 1
        elif kind == "waiting":
            chain.counts["held"] += 1
        self._urgent = True
        return self._emit(session, chain, kind, data)

    def append_observed(self, session: str, kind: str, data: bytes) -> None:
        """Append what was seen to happen; like output it is committed with the next entry, or within 50 ms.

        What describes an action before it runs is never appended by this.
        """
        if self._failed is not None:
            raise self._failed
        chain = self._chains[session]
        if chain.output:
            self._take_output(session, chain)
        self._emit(session, chain, kind, data)
        if self._timer is None:
            self._timer = self._loop.call_later(_OUTPUT_SECONDS, self._flush_outputs)

    def append_output(self, session: str, data: bytes) -> None:
        """Append what the client is shown; committed with the next entry, or within 50 ms."""
        if self._failed is not None:
            raise self._failed
        chain = self._chains[session]
        chain.output.append(data)
        chain.output_size += len(data)
        if chain.output_size >= _OUTPUT_BATCH:
            self._take_output(session, chain)
        elif session not in self._outputs:
            self._outputs[session] = chain
            if self._timer is None:
                self._timer = self._loop.call_later(_OUTPUT_SECONDS, self._flush_outputs)

    def audit(self, data: bytes) -> None:
        """Append to the chain of what belongs to no session."""
        self.append(GATEWAY, "audit", data)

    def close_session(self, session: str, reason: str) -> None:
        """Note the end of a session; nothing more can be appended to it."""
        if self._failed is not None:
            raise self._failed
        chain = self._chains.pop(session)
        if chain.output:
            self._take_output(session, chain)
        self._outputs.pop(session, None)
        self._commit()
        counts = chain.counts
        self._execute(
            "update sessions set ended = ?, end_reason = ?, entries = ?, statements = ?, denied = ?, held = ?, "
            "bytes = ? where id = ?",
            (
                self._now(),
                reason,
                chain.seq,
                counts["statements"],
                counts["denied"],
                counts["held"],
                counts["bytes"],
                session,
            ),
        )
        self.audit(orjson.dumps({"what": "session ended", "by": "", "session": session, "link": chain.link.hex()}))

    def count_denied(self, session: str) -> None:
        """Count one denial of a session."""
        self._chains[session].counts["denied"] += 1

    def written(self) -> None:
        """Commit everything that was appended, unless it is only output and observations, which may still wait.

        Raises `RecordingError` when that cannot be done.
        """
        if self._failed is not None:
            raise self._failed
        if self._urgent:
            self._commit()

    async def synced(self) -> None:
        """Return when everything that was appended before the call is durable; raise `RecordingError` otherwise."""
        if self._dirty:
            self._commit()
        try:
            await self._syncer.synced()
        except RecordingError as error:
            raise self._fail(error) from error

    # Approvals and policies: rows that can be asked for, and a fact in the gateway's chain that proves each.

    def asked(self, approval: Approval, request: str) -> None:
        """Keep a request, as JSON."""
        row = (approval.id, approval.session.id, approval.digest, approval.policy_version, request)
        self._execute(
            "insert into approvals (id, session, digest, policy, request, asked) values (?, ?, ?, ?, ?, ?)",
            (*row, _microseconds(approval.asked)),
        )
        self.append(GATEWAY, "fact", approval_fact(*row, _microseconds(approval.asked)))

    def voted(self, approval: Approval, vote: Vote) -> None:
        """Keep a vote."""
        voter = vote.voter
        row = (approval.id, voter.issuer, voter.subject, voter.name, int(vote.approves), vote.reason)
        self._execute(
            "insert into votes (approval, issuer, subject, name, approves, reason, at) values (?, ?, ?, ?, ?, ?, ?)",
            (*row, _microseconds(vote.at)),
        )
        self.append(GATEWAY, "fact", vote_fact(*row, _microseconds(vote.at)))

    def settled(self, approval: ApprovalId, state: State, reason: str, at: datetime) -> None:
        """Keep how a request ended."""
        self._settled(approval, state, reason, _microseconds(at))

    def _settled(self, approval: ApprovalId, state: State, reason: str, at: int) -> None:
        row = (approval, str(state), reason, at)
        self._execute("insert into settlements (approval, state, reason, at) values (?, ?, ?, ?)", row)
        self.append(GATEWAY, "fact", settlement_fact(*row))

    def spend(self, approval: ApprovalId, at: datetime) -> bool:
        """Use an approved request up and return True; False if it was used before or was never approved."""
        row = (approval, _microseconds(at))
        done = self._execute(
            "insert or ignore into spent (approval, at) select ?, ? where exists "
            "(select 1 from settlements where approval = ? and state = 'approved')",
            (*row, approval),
        )
        if done != 1:
            return False
        self.append(GATEWAY, "fact", spent_fact(*row))
        return True

    def keep_policy(self, version: str, text: str) -> None:
        """Keep the text of a policy that is in force from now on."""
        row = (version, text, self._now())
        if self._execute("insert or ignore into policies (version, text, at) values (?, ?, ?)", row) == 1:
            self.append(GATEWAY, "fact", policy_fact(*row))

    def checkpoint(self) -> None:
        """Sign where every chain that has changed stands."""
        if self._dirty:
            self._commit()
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        heads = {session: [seq, link] for session, (seq, link) in changed.items()}

        def write() -> None:
            last = self._connection.execute(
                "select number, body, signature from checkpoints order by number desc limit 1"
            ).fetchone()
            number, body = signed_body(last, heads, self._now())
            self._connection.execute(
                "insert into checkpoints (number, at, body, signature) values (?, ?, ?, ?)",
                (number, self._now(), body, self._signer.sign(body)),
            )

        self._guarded(write)

    def close(self) -> None:
        """Commit, sign and sync what there is, and let the store go."""
        for timer in (self._timer, self._checkpoint_timer):
            if timer is not None:
                timer.cancel()
        try:
            if self._failed is None:
                self._flush_outputs()
                self.checkpoint()
        except RecordingError:
            pass  # it was reported when it failed
        self._syncer.close()
        if self._copying is not None:
            self._copying.join()
        self._connection.close()
        os.close(self._lock)

    # Inside.

    def _emit(self, session: str, chain: _Chain, kind: str, data: bytes) -> int:
        seq = chain.seq = chain.seq + 1
        entry = laid(seq, self._now(), kind.encode(), data)
        link = chain.link = hashlib.sha256(chain.link + entry).digest()
        chain.body.append(entry)
        chain.links.append(link)
        self._dirty[session] = chain
        return seq

    def _take_output(self, session: str, chain: _Chain) -> None:
        data = chain.output[0] if len(chain.output) == 1 else b"".join(chain.output)
        chain.output = []
        chain.output_size = 0
        chain.counts["bytes"] += len(data)
        self._emit(session, chain, "output", packed_output(data))

    def _flush_outputs(self) -> None:
        self._timer = None
        outputs, self._outputs = self._outputs, {}
        for session, chain in outputs.items():
            if chain.output:
                self._take_output(session, chain)
        try:
            if self._dirty:
                self._commit()
        except RecordingError:
            return  # reported by `_fail`

    def _commit(self) -> None:
        if self._failed is not None:
            raise self._failed
        self._urgent = False
        dirty, self._dirty = self._dirty, {}
        rows = []
        for session, chain in dirty.items():
            packing, body = packed(b"".join(chain.body))
            rows.append((session, chain.first, len(chain.links), packing, body, b"".join(chain.links)))
            chain.first = chain.seq + 1
            chain.body = []
            chain.links = []
            self._changed[session] = (chain.seq, chain.link.hex())
        self._guarded(lambda: self._insert(rows))
        self._copied += sum(len(row[4]) + 4096 for row in rows)
        if self._copied > _WAL_WORTH_COPYING and (self._copying is None or not self._copying.is_alive()):
            self._copied = 0
            self._copying = threading.Thread(target=_copy_wal, args=(self._directory / STORE,), daemon=True)
            self._copying.start()

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        statement = "insert into chunks (session, first, count, packing, body, links) values (?, ?, ?, ?, ?, ?)"
        if len(rows) == 1 and not self._connection.in_transaction:
            self._connection.execute(statement, rows[0])
            return
        if not self._connection.in_transaction:
            self._connection.execute("begin immediate")
        self._connection.executemany(statement, rows)
        self._connection.execute("commit")

    def _execute(self, statement: str, row: tuple[Any, ...]) -> int:
        """Run a statement in the transaction that the next commit ends; return how many rows it changed."""

        def write() -> int:
            if not self._connection.in_transaction:
                self._connection.execute("begin immediate")
            return self._connection.execute(statement, row).rowcount

        return self._guarded(write)

    def _guarded(self, write: Callable[[], _T]) -> _T:
        if self._failed is not None:
            raise self._failed
        try:
            return write()
        except (sqlite3.Error, OSError) as error:
            raise self._fail(RecordingError(f"the recording cannot be written: {error}")) from error

    def _fail(self, error: RecordingError) -> RecordingError:
        """Remember the first failure for good, and report it once."""
        if self._failed is None:
            self._failed = error
            self._loop.call_soon(self._on_failure, error)
        return self._failed

    def _checkpoint_now_and_then(self) -> None:
        self._checkpoint_timer = self._loop.call_later(_CHECKPOINT_SECONDS, self._checkpoint_now_and_then)
        try:
            self.checkpoint()
        except RecordingError:
            return  # reported by `_fail`

    def _resume(self, session: str) -> _Chain:
        """Return a chain as an earlier gateway left it."""
        row = self._connection.execute(
            "select first + count - 1, links from chunks where session = ? order by first desc limit 1", (session,)
        ).fetchone()
        return _Chain(row[0], bytes(row[1][-32:])) if row else _Chain()

    def _interrupted(self) -> None:
        """Close what an earlier gateway left open: no session goes on, and no request that waited revives."""
        left = self._connection.execute("select id from sessions where ended is null").fetchall()
        for (session,) in left:
            self._chains[session] = self._resume(session)
            reason = "the gateway ended without closing it"
            self.append(session, "closed", orjson.dumps({"reason": reason}))
            self.close_session(session, reason)
        waiting = self._connection.execute(
            "select id from approvals where id not in (select approval from settlements)"
        ).fetchall()
        for (approval,) in waiting:
            self._settled(approval, State.WITHDRAWN, "the gateway ended while it waited", self._now())
        if self._connection.in_transaction and not self._dirty:
            self._connection.execute("commit")


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection for the writer, to a store whose tables are current."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    migrations.apply(Database(connection))
    if connection.in_transaction:
        connection.execute("commit")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma wal_autocheckpoint = 0")
    return connection


def _copy_wal(path: Path) -> None:
    """Copy the write-ahead log into the database, beside the writer and without stopping it."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        try:
            connection.execute("pragma wal_checkpoint(passive)")
        finally:
            connection.close()
    except sqlite3.Error:
        return  # the log only grows; what the writer cannot write is the writer's to report


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
