"""The issuer that the configuration names: who vouches for identities."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """The issuer that is trusted, and how its tokens are read."""

    issuer: str
    client_id: str
    audience: str
    scopes: tuple[str, ...] = ("openid", "profile", "groups", "offline_access")
    groups_claim: str = "groups"
    machine_clients: tuple[str, ...] = ()
    keys_survive: timedelta = timedelta(hours=24)
