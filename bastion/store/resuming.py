"""Finds where an earlier gateway left a chain, from what it had committed."""

import contextlib
import sqlite3

from bastion.store.chain import Chain, Counts
from bastion.store.packing import entries, unpacked
from bastion.store.spans import chunks, last_chunk


def resumed(connection: sqlite3.Connection, session: str) -> Chain:
    """Return a session's chain as it stands in the store, to be gone on with; it counts nothing."""
    chunk = last_chunk(connection, session)
    if chunk is None:
        return Chain()
    last, links = connection.execute("select first + count - 1, links from chunks where id = ?", (chunk,)).fetchone()
    return Chain(last, bytes(links[-32:]))


def counted(connection: sqlite3.Connection, session: str) -> Counts:
    """Return what a session's entries come to.

    An entry that cannot be read is not counted. It does not keep the gateway from starting: `verify` names it.
    """
    counts = Counts()
    for chunk in chunks(connection, session):
        packing, body = connection.execute("select packing, body from chunks where id = ?", (chunk,)).fetchone()
        with contextlib.suppress(ValueError):
            for entry in entries(unpacked(packing, body)):
                counts.add(entry)
    return counts
