"""What the target calls by name, its prepared statements and its portals, and which of that is certain yet.

A name means what the target's answers say, never what the client wished. Between a message and its answer a change is
*pending*. A later message of the same run up to a Sync may rely on it all the same, because the target skips that
message if the change failed: what is judged is then what runs if it runs. Any other reliance on a pending change is
uncertain, and where two meanings are possible, the caller waits for the answer.

A name may be in these maps that is gone at the target, which then answers with an error. The reverse is what must not
happen: a name that means something else there than here.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from bastion.errors import LimitExceeded
from bastion.protocols.postgres.binding import Portal, Statement

_LONGEST_NAME: Final = 63
"""NAMEDATALEN - 1: the target's tables of statements and portals compare no more bytes of a name than this."""

KEPT_AT_MOST: Final = 64 * 1024 * 1024
"""Bytes of all that one session has prepared, and as many of all that it has bound."""
_OVERHEAD: Final = 512

V = TypeVar("V", Statement, Portal)


def key(name: bytes | str) -> bytes:
    """Return a name as the target's tables compare it."""
    return (name.encode() if isinstance(name, str) else name)[:_LONGEST_NAME]


class Change(Generic[V]):
    """What one message does to one name, or to all names, if the target goes along."""

    spares_holdable = False
    """Whether it leaves cursors alone that outlive their transaction."""

    def __init__(self, names: "Names[V]", name: bytes | None, value: V | None, run: int) -> None:
        self.names: Names[V] = names
        self.name = name
        """None for every name."""
        self.value: V | None = value
        """None if the name is gone afterwards."""
        self.run = run
        """The run of messages up to a Sync that it belongs to; 0 if nothing else depends on its success."""

    def happened(self) -> None:
        """Take it as a fact."""
        self.names._settle(self)

    def failed(self) -> None:
        """Take it as not having happened."""
        self.names._drop(self)

    def unclear(self) -> None:
        """Take it as one of the things that may have happened, but need not."""
        self.names._blur(self)


class Names(Generic[V]):
    """One of the target's two tables of names."""

    def __init__(self, unknown: V) -> None:
        self._unknown: V = unknown
        self._settled: dict[bytes, V] = {}
        self._some_hold = False
        self._pending: deque[Change[V]] = deque()
        self._size = 0
        """Bytes that are kept, or more: what is gone since they were counted is in it."""

    def change(self, name: bytes | None, value: V | None, run: int) -> Change[V]:
        """Return a change that is pending until it `happened` or `failed`."""
        change = Change(self, name, value, run)
        if value is not None:
            self._size += _size(value)
            if self._size > KEPT_AT_MOST:
                self._count()
        self._pending.append(change)
        return change

    def ends(self, run: int) -> Change[V]:
        """Return the end of a transaction as a change."""
        change = self.change(None, None, run)
        change.spares_holdable = True
        return change

    def known(self, name: bytes) -> V | None:
        """Return what `name` means, where that is certain and no change is pending; else None."""
        return None if self._pending else self._settled.get(name)

    def meanings(self, name: bytes, run: int) -> list[V]:
        """Return what `name` may mean to a message of `run`: none, one, or several that differ."""
        pending = self._pending
        if not pending or (pending[-1].name == name and pending[-1].run == run):
            # The common path: nothing is pending, or this very run has just said what the name means.
            value = pending[-1].value if pending else self._settled.get(name)
            return [] if value is None else [value]
        found: list[V] = []
        for change in reversed(self._pending):
            if change.name == name or (change.name is None and not change.spares_holdable):
                if change.value is not None:
                    _add(found, change.value)
                if change.run == run:
                    return found
        if (settled := self._settled.get(name)) is not None:
            _add(found, settled)
        return found

    def doubt(self) -> None:
        """Know of no name any more what it means: something ran that could have changed them all."""
        for name in self._settled:
            self._keep(name, self._unknown)

    def end_transaction(self) -> None:
        """Forget what does not outlive a transaction."""
        if not self._some_hold:
            self._settled.clear()
            return
        self._settled = {n: v for n, v in self._settled.items() if isinstance(v, Portal) and v.holdable}
        self._some_hold = bool(self._settled)

    def settled(self) -> Iterator[tuple[bytes, V]]:
        """Yield the names that the target has confirmed, with their meaning."""
        yield from self._settled.items()

    def _settle(self, change: Change[V]) -> None:
        self._drop(change)
        if change.name is None:
            if change.spares_holdable:
                self.end_transaction()
            else:
                self._settled.clear()
        elif change.value is None:
            self._settled.pop(change.name, None)
        else:
            self._keep(change.name, change.value)

    def _keep(self, name: bytes, value: V) -> None:
        self._settled[name] = value
        if isinstance(value, Portal) and value.holdable:
            self._some_hold = True

    def _drop(self, change: Change[V]) -> None:
        pending = self._pending
        if pending[0] is change:
            pending.popleft()
        else:
            pending.remove(change)

    def _blur(self, change: Change[V]) -> None:
        self._drop(change)
        if change.name is not None and change.value is not None:
            old = self._settled.get(change.name)
            same = old is None or old.means(change.value)
            self._keep(change.name, change.value if same else self._unknown)

    def _count(self) -> None:
        kept = (change.value for change in self._pending if change.value is not None)
        self._size = sum(map(_size, self._settled.values())) + sum(map(_size, kept))
        if self._size > KEPT_AT_MOST:
            raise LimitExceeded(f"the session's statements and cursors take more than the {KEPT_AT_MOST} bytes we keep")


def _size(value: Statement | Portal) -> int:
    """Return about how many bytes a meaning takes: a portal its arguments, a statement its text and what was read."""
    if isinstance(value, Portal):
        return _OVERHEAD + sum([len(argument) for argument in value.arguments if argument is not None])
    return _OVERHEAD + 4 * len(value.reading.action.text)


def _add(found: list[V], value: V) -> None:
    if not any(value.means(other) for other in found):
        found.append(value)
