"""What the target calls by name, its prepared statements and its portals, and which of that is certain yet.

A name means what the target's answers say, never what the client wished. Between a message and its answer a change is
*pending*. A later message of the same run up to a Sync may rely on it all the same, because the target skips that
message if the change failed: what is judged is then what runs if it runs. Any other reliance on a pending change is
uncertain, and where two meanings are possible, the caller waits for the answer.

A name may be in these maps that is gone at the target, which then answers with an error. The reverse is what must not
happen: a name that means something else there than here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from bastion.model.action import Access, Action, Argument, Resource
from bastion.protocols.postgres.sql.reading import Reading

_LONGEST_NAME: Final = 63
"""NAMEDATALEN - 1: the target's tables of statements and portals compare no more bytes of a name than this."""

UNKNOWN: Final = Reading(
    Action("postgres", "unknown", "", (Resource("statement", "", "unknown", Access.UNKNOWN),)), statements=1
)
"""The reading of what we cannot tell."""


@dataclass(slots=True, eq=False)
class Statement:
    """A prepared statement."""

    text: bytes | None
    """As Parse sent it; None if SQL's PREPARE made it, whose text we do not have apart."""
    reading: Reading
    generation: int
    """Of the reading: statements are read again when paths or catalog have changed, as the target plans them again."""
    types: tuple[int, ...] = ()
    facts: dict[tuple[int, ...], dict[str, object]] = field(default_factory=dict)
    """The facts of an execution, by parameter formats."""

    def means(self, other: "Statement | Portal") -> bool:
        """Tell whether both do the same."""
        return isinstance(other, Statement) and self.reading is other.reading and self.types == other.types


@dataclass(slots=True, eq=False)
class Portal:
    """A statement with its arguments, ready to run. Keeps the reading it was bound with."""

    reading: Reading
    arguments: tuple[Argument, ...] = ()
    facts: dict[str, object] | None = None
    holdable: bool = False
    allowed: bool = False
    """Whether its first execution was judged already, when it was bound."""
    approved: bool = False
    """Whether people approved its execution."""
    ticket: int = 0
    """Of its latest judgement."""
    suspended: bool = False
    """Whether the target has answered that there are more rows of the same execution."""

    def means(self, other: "Statement | Portal") -> bool:
        """Tell whether both are one."""
        return self is other


V = TypeVar("V", Statement, Portal)


def key(name: bytes | str) -> bytes:
    """Return a name as the target's tables compare it."""
    return (name.encode() if isinstance(name, str) else name)[:_LONGEST_NAME]


@dataclass(slots=True, eq=False)
class Change(Generic[V]):
    """What one message does to one name, or to all names, if the target goes along."""

    names: "Names[V]"
    name: bytes | None
    """None for every name."""
    value: V | None
    """None if the name is gone afterwards."""
    run: int
    """The run of messages up to a Sync that it belongs to; 0 if nothing else depends on its success."""
    spares_holdable: bool = False

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
        self._pending: list[Change[V]] = []

    def change(self, name: bytes | None, value: V | None, run: int, *, spares_holdable: bool = False) -> Change[V]:
        """Return a change that is pending until it `happened` or `failed`."""
        change = Change(self, name, value, run, spares_holdable)
        self._pending.append(change)
        return change

    def meanings(self, name: bytes, run: int) -> list[V]:
        """Return what `name` may mean to a message of `run`: none, one, or several that differ."""
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
            self._settled[name] = self._unknown

    def end_transaction(self) -> None:
        """Forget what does not outlive a transaction."""
        if self._settled:
            self._settled = {n: v for n, v in self._settled.items() if isinstance(v, Portal) and v.holdable}

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
            self._settled[change.name] = change.value

    def _drop(self, change: Change[V]) -> None:
        pending = self._pending
        if pending[0] is change:
            del pending[0]
        else:
            pending.remove(change)

    def _blur(self, change: Change[V]) -> None:
        self._drop(change)
        if change.name is not None and change.value is not None:
            old = self._settled.get(change.name)
            same = old is None or old.means(change.value)
            self._settled[change.name] = change.value if same else self._unknown


def _add(found: list[V], value: V) -> None:
    if not any(value.means(other) for other in found):
        found.append(value)


UNKNOWN_STATEMENT: Final = Statement(None, UNKNOWN, 0)
UNKNOWN_PORTAL: Final = Portal(UNKNOWN, holdable=True)
"""What nobody knows does not end with its transaction either, as far as anybody knows."""
