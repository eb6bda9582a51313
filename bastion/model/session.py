"""One identity at one target, from admission to hang-up."""

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from bastion.model.identity import Identity
from bastion.model.target import Target

SessionId = NewType("SessionId", str)


@dataclass(frozen=True, slots=True)
class Session:
    """An admitted conversation. Everything recorded and approved belongs to one."""

    id: SessionId
    identity: Identity
    target: Target
    started: datetime
    reason: str = ""
    """Why the person opened it, in their own words."""
    peer: str = ""
    """Where the client connects from, as the listener saw it."""
    client: str = ""
    """What the client calls itself; untrusted text."""
