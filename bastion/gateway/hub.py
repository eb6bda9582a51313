"""Flushes what conversations owe their two ends, once per turn of the event loop and never before it is recorded.

All conversations that became dirty in one turn share one commit of the recording. What can change something waits,
with everything behind it, until the recording is synced; then too, one sync serves everybody who waits.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bastion.errors import RecordingError


class Written(Protocol):
    """As much of the recorder as the hub needs."""

    def written(self) -> None:
        """Commit everything that was appended; raise `RecordingError` when that cannot be done."""
        ...

    async def synced(self) -> None:
        """Return when everything that was appended before the call is durable; raise `RecordingError` otherwise."""
        ...


class Debtor(Protocol):
    """A conversation that owes bytes to its ends."""

    needs_sync: bool
    syncing: bool

    def deliver(self) -> None:
        """Write everything that is owed to both transports."""
        ...

    def stall(self) -> None:
        """Stop reading while a sync is under way, if much is owed already."""
        ...


class Hub:
    """Knows which conversations owe something, and pays in the right order."""

    def __init__(self, recorder: Written, broken: Callable[[RecordingError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._recorder = recorder
        self._broken = broken
        self._dirty: dict[Debtor, None] = {}
        self._scheduled = False
        self._syncing: asyncio.Task[None] | None = None

    def owe(self, debtor: Debtor) -> None:
        """Have `debtor` paid at the end of this turn."""
        self._dirty[debtor] = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pay)

    def forget(self, debtor: Debtor) -> None:
        """Owe nothing to `debtor` any more."""
        self._dirty.pop(debtor, None)

    def _pay(self) -> None:
        self._scheduled = False
        dirty, self._dirty = self._dirty, {}
        try:
            self._recorder.written()
        except RecordingError as error:
            self._broken(error)
            return
        wants_sync = False
        for debtor in dirty:
            if debtor.syncing:
                debtor.stall()
            elif debtor.needs_sync:
                self._dirty[debtor] = None
                wants_sync = True
                debtor.stall()
            else:
                debtor.deliver()
        if wants_sync and self._syncing is None:
            self._start_sync()

    def _start_sync(self) -> None:
        waiting = [d for d in self._dirty if d.needs_sync]
        for debtor in waiting:
            del self._dirty[debtor]
            debtor.needs_sync = False
            debtor.syncing = True
        self._syncing = self._loop.create_task(self._sync(waiting))

    async def _sync(self, waiting: list[Debtor]) -> None:
        try:
            await self._recorder.synced()
            # What was judged between the sync and this moment owes its bytes already, and is not written yet.
            self._recorder.written()
        except RecordingError as error:
            self._syncing = None
            self._broken(error)
            return
        self._syncing = None
        for debtor in waiting:
            debtor.syncing = False
            if debtor.needs_sync:
                self._dirty[debtor] = None
            else:
                debtor.deliver()
        if any(d.needs_sync for d in self._dirty):
            self._start_sync()
