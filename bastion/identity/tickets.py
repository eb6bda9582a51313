"""Tickets stand for a token at a protocol's listener: random, bound, short-lived, and spent once."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bastion.errors import AccessRefused, AuthenticationFailed
from bastion.model.identity import Identity

LIFETIME = timedelta(seconds=60)
_AT_MOST = 10_000
_PER_IDENTITY = 256


@dataclass(frozen=True, slots=True)
class Ticket:
    """One admission: who, where to, why."""

    identity: Identity
    target: str
    reason: str
    client: str
    expires: datetime
    secret: str = field(default="", repr=False)
    """Only in the ticket that `issue` returns; the gateway itself keeps no secret of it."""


class Tickets:
    """All tickets that are neither spent nor expired, found by the digest of their secret."""

    def __init__(self, *, now: Callable[[], datetime], monotonic: Callable[[], float]) -> None:
        self._now = now
        self._monotonic = monotonic
        self._open: dict[bytes, tuple[float, Ticket]] = {}

    def issue(self, identity: Identity, target: str, reason: str, client: str) -> Ticket:
        """Return a new ticket; raise `AccessRefused` when too many are open."""
        self._drop_expired()
        mine = sum(1 for _, t in self._open.values() if t.identity.key == identity.key)
        if len(self._open) >= _AT_MOST or mine >= _PER_IDENTITY:
            raise AccessRefused("too many tickets are open", hint=f"each ends after {LIFETIME.seconds} seconds")
        now = self._now()
        life = min(LIFETIME, identity.expires - now)
        if life <= timedelta():
            raise AuthenticationFailed("the token has expired", hint="log in again with `bastion login`")
        secret = secrets.token_urlsafe(32)
        ticket = Ticket(identity, target, reason, client, now + life)
        self._open[_digest(secret)] = (self._monotonic() + life.total_seconds(), ticket)
        return Ticket(identity, target, reason, client, now + life, secret)

    def spend(self, secret: str, target: str = "") -> Ticket:
        """Return the ticket of that secret, which opens nothing ever after, whether it is accepted or not.

        Raises `AuthenticationFailed` for one that is unknown, spent, expired, or for another target than `target`.
        """
        # Found by digest: the time that this takes says nothing of how much of a guess was right.
        ends, ticket = self._open.pop(_digest(secret), (float("-inf"), None))
        # The clock that cannot be set back stands still while the machine sleeps, so the other one ends a ticket too.
        is_over = ticket is None or self._monotonic() >= ends or self._now() >= ticket.expires
        if ticket is None or is_over or target not in ("", ticket.target):
            raise AuthenticationFailed(
                "the ticket was not accepted", hint="a ticket works once, for a minute, for one target"
            )
        return ticket

    def void(self) -> None:
        """Forget every ticket, because what they stand for no longer holds."""
        self._open.clear()

    def _drop_expired(self) -> None:
        now = self._monotonic()
        for digest in [d for d, (ends, _) in self._open.items() if ends <= now]:
            del self._open[digest]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
