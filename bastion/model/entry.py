"""One line of a recording, and the link that chains it to the one before.

The kinds that every session may hold, and the members of their JSON:

    opened    {session, issuer, subject, name, kind, actor, owner, token, groups, target, protocol, reason, peer,
               client, policy}
    judged    {ticket, verb, access, text, arguments, resources, facts, verdict}
              verdict is {"is": "allow", "rules": […], "masks": […]}, {"is": "deny", "rule", "reason"} or
              {"is": "hold", "demands": [{"rule", "reason", "approvers", "votes"}], "expires": seconds,
              "masks"}
              arguments are null, a string, or {"hex": …} for one in a binary format
    waiting   {ticket, approval, digest}                    follows the `judged` of what is held
    vote      {approval, subject, name, issuer, approves, reason}
    settled   {ticket, approval, state, is, rule, reason}   is: allow or deny; no approval where nobody was asked
    finished  {ticket, …}                                   what the protocol knows of the outcome, such as tag and rows
              covered: the mask that covered each field of the result; found: how often each detector found something
    output    bytes as they went to the client; its protocol's transcript reads them
    closed    {reason}

A protocol may note further kinds of its own. Text that carries a secret is stored with the secret struck out.
"""

import hashlib
import struct
from dataclasses import dataclass

HEAD = struct.Struct(">QqBI")
"""How an entry begins, in the store and under the hash: its number, its time, and the lengths of kind and data."""

GENESIS = b"\0" * 32
"""The link before the first entry of a session."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened in a session."""

    seq: int
    """1 for the first entry of the session, without gaps."""
    at: int
    """Microseconds since the Unix epoch, UTC."""
    kind: str
    """One of the kinds above, or one of a protocol's own."""
    data: bytes
    """JSON in UTF-8 for every kind but `output`, whose bytes its protocol's transcript can read."""

    def link(self, previous: bytes) -> bytes:
        """Return the 32 bytes that chain this entry to `previous`, the link of the entry before it."""
        kind = self.kind.encode()
        head = HEAD.pack(self.seq, self.at, len(kind), len(self.data))
        return hashlib.sha256(previous + head + kind + self.data).digest()
