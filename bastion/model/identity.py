"""Who somebody is, as an issuer vouched for it."""

import enum
from dataclasses import dataclass
from datetime import datetime


class Kind(enum.StrEnum):
    """What stands behind a subject. A machine never approves."""

    HUMAN = "human"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Identity:
    """A subject that an issuer vouched for. The pair (issuer, subject) is the identity; the rest describes it."""

    issuer: str
    subject: str
    name: str
    groups: frozenset[str]
    kind: Kind
    proven: datetime
    """When the token that proves it was issued (aware, UTC)."""
    expires: datetime
    """When that proof ends (aware, UTC)."""
    token_id: str = ""
    """The token's `jti`, or a digest of the token where it has none; for the record."""
    actor: str = ""
    """The agent that acts for this subject, if the token names one."""
    owner: str = ""
    """For a machine: the subject of the person it belongs to, if the token names one."""
    logged_in: datetime | None = None
    """When the person last logged in at the issuer (aware, UTC), if the token says so. A token that was refreshed is
    newer than the login that it goes back to."""

    def __post_init__(self) -> None:
        if not self.issuer or not self.subject:
            raise ValueError("an identity needs an issuer and a subject")

    @property
    def key(self) -> tuple[str, str]:
        """The pair that tells identities apart."""
        return self.issuer, self.subject

    def same_person(self, other: "Identity") -> bool:
        """Tell whether both stand for one person, directly or as the owner of a machine."""
        if self.issuer != other.issuer:
            return False
        mine = {self.subject, self.owner} - {""}
        return not mine.isdisjoint({other.subject, other.owner} - {""})
