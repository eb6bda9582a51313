"""What an interceptor asks of the endpoint, besides what needs no saying."""

from dataclasses import dataclass

from bastion.protocols.postgres.sql.reading import Analyst, SearchPath


@dataclass(frozen=True, slots=True)
class ReadText:
    """The question to `Ask("read", …)`: what does this text mean? Answered with a `Reading`."""

    analyst: Analyst
    text: bytes
    paths: frozenset[SearchPath]
    types: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenCatalog:
    """The question to `Ask("view", …)`: what does what the session sees come to? Answered with an `Analyst`."""

    analyst: Analyst
    """One for the same database and role."""
    rows: tuple[tuple[bytes, bytes], ...]
    """As the target gave them: to decode them all takes too long for the event loop."""
    as_of: int
    """How many changes of the catalog had been counted before it was asked for."""
