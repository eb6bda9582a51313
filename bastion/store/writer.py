"""The one writer of the store, in the event loop's thread: appends entries, commits them, makes them durable.

`append` only computes and buffers; `written` commits everything buffered in one transaction; `synced` makes it
durable. After the first failure nothing works any more: every call raises `RecordingError`.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from bastion import private
from bastion.errors import ApprovalError, BastionError, RecordingError
from bastion.model.approval import Approval, ApprovalId, State, Vote
from bastion.model.session import Session, SessionId
from bastion.store.chain import Chain
from bastion.store.checkpoints import Signer, signed_body
from bastion.store.copying import Copier
from bastion.store.database import STORE, connected
from bastion.store.facts import (
    approval_fact,
    ended_fact,
    policy_fact,
    session_fact,
    settlement_fact,
    spent_fact,
    vote_fact,
)
from bastion.store.resuming import counted, resumed
from bastion.store.spans import WORTH_WRITING, waiting
from bastion.store.syncing import Syncer

GATEWAY = SessionId("gateway")
"""The chain of what belongs to no session: logins, refusals, votes, policies, sessions that were opened."""

_OUTPUT_BATCH = 256 * 1024
_OUTPUT_SECONDS = 0.05
_DIRTY_AT_MOST = 4 * 1024 * 1024
"""How much waits in memory for a commit that nobody has asked for yet."""
_CHECKPOINT_SECONDS = 60.0
_CHECKPOINT_AFTER_END = 1.0
_PAGES = 2 * 4096
"""About what a commit adds to the write-ahead log beside its bodies."""
_INSERT = "insert into chunks (id, session, first, count, packing, body, links) values (?, ?, ?, ?, ?, ?, ?)"
_T = TypeVar("_T")


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
        self._cursor = connection.cursor()
        self._lock = lock
        self._now = now
        self._on_failure = on_failure
        self._failed: RecordingError | None = None
        self._loop = asyncio.get_running_loop()
        self._chains: dict[str, Chain] = {}
        self._dirty: dict[str, Chain] = {}
        self._dirty_size = 0
        self._shown: dict[str, Chain] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._urgent = False
        self._changed: dict[str, Chain] = {}
        self._signer = Signer(directory)
        self._signer.check(self._last_checkpoint())
        self._copier = Copier(directory / STORE, directory / f"{STORE}-wal", self._report)
        self._checkpoint_timer = self._loop.call_later(_CHECKPOINT_SECONDS, self._checkpoint_due)
        try:
            self._spans = waiting(connection)
            self._last_chunk: int = connection.execute("select coalesce(max(id), 0) from chunks").fetchone()[0]
            self._chains[GATEWAY] = resumed(connection, GATEWAY)
            self._end_interrupted()
            self._commit()
            self._syncer = Syncer(directory / STORE, directory / f"{STORE}-wal")
            private.settle(directory)
        except BaseException:
            self._checkpoint_timer.cancel()
            raise

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        now: Callable[[], int],
        on_failure: Callable[[RecordingError], None] = lambda error: None,
    ) -> "Recorder":
        """Open the store in `directory`, making it if need be, for the only writer there is.

        Raises `RecordingError` when it cannot be written, `ConfigError` when others can reach it, and `BastionError`
        when another gateway has it.
        """
        private.directory(directory)
        with contextlib.ExitStack() as undo:
            try:
                lock = os.open(directory / "store.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                undo.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                connection = connected(directory)
                undo.callback(connection.close)
                recorder = cls(directory, connection, lock, now, on_failure)
            except BlockingIOError:
                raise BastionError(f"another gateway writes the store in {directory}") from None
            except (sqlite3.Error, OSError) as error:
                raise RecordingError(f"the store in {directory} cannot be opened: {error}") from error
            undo.pop_all()
        return recorder

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
        self._execute(
            "insert into sessions (id, issuer, subject, name, kind, actor, target, protocol, labels, reason, peer, "
            "client, started) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        self._chains[session.id] = Chain()
        self.append(GATEWAY, "fact", session_fact(*row))
        self.audit(orjson.dumps({"what": "session", "by": identity.subject, "session": session.id}))

    def append(self, session: str, kind: str, data: bytes) -> int:
        """Append an entry and return its sequence number; output that came before it stays before it."""
        if self._failed is not None:
            raise self._failed
        self._urgent = True
        chain = self._chains[session]
        self._dirtied(session, chain, chain.append(self._now(), kind, data))
        return chain.seq

    def append_observed(self, session: str, kind: str, data: bytes) -> None:
        """Append what was seen to happen; like output it is committed with the next entry, or within 50 ms.

        What describes an action before it runs is never appended by this.
        """
        if self._failed is not None:
            raise self._failed
        chain = self._chains[session]
        self._dirtied(session, chain, chain.append(self._now(), kind, data))
        if self._timer is None:
            self._timer = self._loop.call_later(_OUTPUT_SECONDS, self._output_due)

    def append_output(self, session: str, data: bytes) -> None:
        """Append what the client is shown; committed with the next entry, or within 50 ms."""
        if self._failed is not None:
            raise self._failed
        chain = self._chains[session]
        chain.show(data)
        if self._timer is None:
            self._timer = self._loop.call_later(_OUTPUT_SECONDS, self._output_due)
        if chain.shown >= _OUTPUT_BATCH:
            self._dirtied(session, chain, chain.append_shown(self._now()))
        else:
            self._shown[session] = chain

    def audit(self, data: bytes) -> None:
        """Append to the chain of what belongs to no session."""
        self.append(GATEWAY, "audit", data)

    def close_session(self, session: str, reason: str) -> None:
        """Note the end of a session; nothing more can be appended to it."""
        if self._failed is not None:
            raise self._failed
        chain = self._chains.pop(session)
        self._shown.pop(session, None)
        if chain.shown:
            self._dirtied(session, chain, chain.append_shown(self._now()))
        counts = chain.counts
        row = (self._now(), reason, chain.seq, counts.statements, counts.denied, counts.held, counts.bytes)
        self._execute(
            "update sessions set ended = ?, end_reason = ?, entries = ?, statements = ?, denied = ?, held = ?, "
            "bytes = ? where id = ?",
            (*row, session),
        )
        self.append(GATEWAY, "fact", ended_fact(session, *row))
        end = {"what": "session ended", "by": "", "session": session, "entries": chain.seq, "link": chain.link.hex()}
        self.audit(orjson.dumps(end))
        self._checkpoint_soon()

    def count_denied(self, session: str) -> None:
        """Count one denial of a session."""
        self._chains[session].counts.denied += 1

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
        self._commit_dirty()
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
        """Keep a vote; raise `ApprovalError` if this identity has voted before."""
        voter, at = vote.voter, _microseconds(vote.at)
        row = (approval.id, voter.issuer, voter.subject, voter.name, int(vote.approves), vote.reason, at)
        done = self._execute(
            "insert into votes (approval, issuer, subject, name, approves, reason, at) select ?, ?, ?, ?, ?, ?, ? "
            "where not exists (select 1 from votes where approval = ? and issuer = ? and subject = ?)",
            (*row, approval.id, voter.issuer, voter.subject),
        )
        if done != 1:
            raise ApprovalError("you have already voted on this request")
        self.append(GATEWAY, "fact", vote_fact(*row))

    def settled(self, approval: ApprovalId, state: State, reason: str, at: datetime) -> None:
        """Keep how a request ended; raise `ApprovalError` if it ended before."""
        self._settled(approval, state, reason, _microseconds(at))

    def _settled(self, approval: ApprovalId, state: State, reason: str, at: int) -> None:
        row = (approval, str(state), reason, at)
        done = self._execute(
            "insert into settlements (approval, state, reason, at) select ?, ?, ?, ? "
            "where not exists (select 1 from settlements where approval = ?)",
            (*row, approval),
        )
        if done != 1:
            raise ApprovalError("the request is settled already")
        self.append(GATEWAY, "fact", settlement_fact(*row))

    def spend(self, approval: ApprovalId, at: datetime) -> bool:
        """Use an approved request up and return True.

        False if it was used before, was never approved, or its session is over: no approval outlives who asked for it.
        """
        row = (approval, _microseconds(at))
        done = self._execute(
            "insert into spent (approval, at) select ?, ? "
            "where not exists (select 1 from spent where approval = ?) "
            "and exists (select 1 from settlements where approval = ? and state = 'approved') "
            "and exists (select 1 from approvals as a join sessions as s on s.id = a.session "
            "where a.id = ? and s.ended is null)",
            (*row, approval, approval, approval),
        )
        if done != 1:
            return False
        self.append(GATEWAY, "fact", spent_fact(*row))
        return True

    def keep_policy(self, version: str, text: str) -> None:
        """Keep the text of a policy that is in force from now on."""
        row = (version, text, self._now())
        statement = (
            "insert into policies (version, text, at) select ?, ?, ? "
            "where not exists (select 1 from policies where version = ?)"
        )
        if self._execute(statement, (*row, version)) == 1:
            self.append(GATEWAY, "fact", policy_fact(*row))

    def checkpoint(self) -> None:
        """Sign where every chain that has changed stands."""
        self._commit_dirty()
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        # Everything is committed by now, so where a chain stands is where it stands in the store.
        heads = {session: [chain.seq, chain.link.hex()] for session, chain in changed.items()}

        def write() -> None:
            at = self._now()
            number, body = signed_body(self._last_checkpoint(), heads, at)
            self._connection.execute(
                "insert into checkpoints (number, at, body, signature) values (?, ?, ?, ?)",
                (number, at, body, self._signer.sign(body)),
            )

        self._guarded(write)

    def close(self) -> None:
        """Commit, sign and sync what there is, and let the store go."""
        for timer in (self._timer, self._checkpoint_timer):
            if timer is not None:
                timer.cancel()
        try:
            if self._failed is None:
                self._take_shown()
                self.checkpoint()
                self._write_spans()
        except RecordingError:
            pass  # it was reported when it failed
        self._copier.close()
        self._syncer.close()
        self._connection.close()
        os.close(self._lock)

    # Inside.

    def _dirtied(self, session: str, chain: Chain, size: int) -> None:
        self._dirty[session] = chain
        self._dirty_size += size
        if self._dirty_size > _DIRTY_AT_MOST:
            self._commit()

    def _take_shown(self) -> None:
        shown, self._shown = self._shown, {}
        at = self._now()
        for session, chain in shown.items():
            if chain.shown:
                self._dirtied(session, chain, chain.append_shown(at))

    def _output_due(self) -> None:
        self._timer = None
        if self._failed is not None:
            return
        try:
            self._take_shown()
            self._commit_dirty()
        except RecordingError:
            return  # reported by `_fail`

    def _commit_dirty(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._dirty or self._connection.in_transaction:
            self._commit()

    def _commit(self) -> None:
        if self._failed is not None:
            raise self._failed
        self._urgent = False
        dirty, self._dirty, self._dirty_size = self._dirty, {}, 0
        rows: list[tuple[Any, ...]] = []
        size = _PAGES
        for session, chain in dirty.items():
            chunk = chain.take()
            self._last_chunk += 1
            self._spans.add(session, chunk.first, self._last_chunk)
            rows.append((self._last_chunk, session, chunk.first, chunk.count, chunk.packing, chunk.body, chunk.links))
            size += len(chunk.body)
            self._changed[session] = chain
        self._guarded(lambda: self._insert(rows))
        if self._spans.size >= WORTH_WRITING:
            self._write_spans()
        self._copier.appended(size)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        cursor, in_transaction = self._cursor, self._connection.in_transaction
        if len(rows) == 1 and not in_transaction:
            cursor.execute(_INSERT, rows[0])
            return
        if not in_transaction:
            cursor.execute("begin immediate")
        if rows:
            cursor.executemany(_INSERT, rows)
        cursor.execute("commit")

    def _write_spans(self) -> None:
        rows = self._spans.take()

        def write() -> None:
            # In one transaction: the floor that the last of them sets must not rise before the others are there.
            self._connection.execute("begin immediate")
            self._connection.executemany("insert into spans (session, first, last, chunks) values (?, ?, ?, ?)", rows)
            self._connection.execute("commit")

        self._guarded(write)

    def _execute(self, statement: str, row: tuple[Any, ...]) -> int:
        """Run a statement in the transaction that the next commit ends; return how many rows it changed."""

        def write() -> int:
            if not self._connection.in_transaction:
                self._connection.execute("begin immediate")
            self._urgent = True
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

    def _report(self, failure: str) -> None:
        """Fail with what another thread met."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the recorder
            self._loop.call_soon_threadsafe(lambda: self._fail(RecordingError(failure)))

    def _last_checkpoint(self) -> tuple[int, str, bytes] | None:
        found: tuple[int, str, bytes] | None = self._connection.execute(
            "select number, body, signature from checkpoints order by number desc limit 1"
        ).fetchone()
        return found

    def _checkpoint_soon(self) -> None:
        due = self._loop.time() + _CHECKPOINT_AFTER_END
        if due < self._checkpoint_timer.when():
            self._checkpoint_timer.cancel()
            self._checkpoint_timer = self._loop.call_at(due, self._checkpoint_due)

    def _checkpoint_due(self) -> None:
        self._checkpoint_timer = self._loop.call_later(_CHECKPOINT_SECONDS, self._checkpoint_due)
        try:
            if missing := self._syncer.missing():
                raise self._fail(RecordingError(missing))
            self.checkpoint()
        except RecordingError:
            return  # reported by `_fail`

    def _end_interrupted(self) -> None:
        """Close what an earlier gateway left open: no session goes on, and no request that waited revives."""
        for (session,) in self._connection.execute("select id from sessions where ended is null").fetchall():
            chain = self._chains[session] = resumed(self._connection, session)
            chain.counts = counted(self._connection, session)
            reason = "the gateway ended without closing it"
            self.append(session, "closed", orjson.dumps({"reason": reason}))
            self.close_session(session, reason)
        undecided = self._connection.execute(
            "select id from approvals where id not in (select approval from settlements)"
        ).fetchall()
        for (approval,) in undecided:
            self._settled(approval, State.WITHDRAWN, "the gateway ended while it waited", self._now())


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
