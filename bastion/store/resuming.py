"""Finds where an earlier gateway left a chain, from what it had committed."""

import contextlib
import sqlite3

from bastion.store.chain import Chain, Counts
from bastion.store.packing import entries, unpacked


def resumed(connection: sqlite3.Connection, session: str) -> Chain:
    """Return a session's chain as it stands in the store, to be gone on with.

    An entry that cannot be read is not counted. It does not keep the gateway from starting: `verify` names it.
    """
    last = connection.execute(
        "select first + count - 1, links from chunks where session = ? order by first desc limit 1", (session,)
    ).fetchone()
    if last is None:
        return Chain()
    counts = Counts()
    rows = connection.execute(
        "select packing, body from chunks where session = ? order by first",
        (session,),
    )
    for packing, body in rows:
        with contextlib.suppress(ValueError):
            for entry in entries(unpacked(packing, body)):
                counts.add(entry)
    return Chain(last[0], bytes(last[1][-32:]), counts)
