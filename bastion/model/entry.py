"""One line of a recording, and the link that chains it to the one before."""

import hashlib
from dataclasses import dataclass

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
    """`opened`, `judged`, `settled`, `output`, `finished`, `noted`, `closed` …"""
    data: bytes
    """JSON in UTF-8 for every kind but `output`, whose bytes its protocol's transcript can read."""

    def link(self, previous: bytes) -> bytes:
        """Return the 32 bytes that chain this entry to `previous`, the link of the entry before it."""
        head = f"{self.seq}\n{self.at}\n{self.kind}\n{len(self.data)}\n".encode()
        return hashlib.sha256(previous + head + self.data).digest()
