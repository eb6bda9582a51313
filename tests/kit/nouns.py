"""Plain values that many tests need, each with a default that is as ordinary as possible."""

from datetime import UTC, datetime, timedelta

from bastion.model.action import Access, Action, Resource
from bastion.model.identity import Identity, Kind
from bastion.model.session import Session, SessionId
from bastion.model.target import CredentialSource, Target
from bastion.model.verdict import Demand, Hold

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ISSUER = "https://login.example.com"


def identity(
    subject: str = "alice", *groups: str, kind: Kind = Kind.HUMAN, owner: str = "", actor: str = ""
) -> Identity:
    return Identity(
        issuer=ISSUER,
        subject=subject,
        name=subject.title(),
        groups=frozenset(groups or {"engineers"}),
        kind=kind,
        proven=NOON,
        expires=NOON + timedelta(hours=1),
        token_id=f"token-of-{subject}",
        actor=actor,
        owner=owner,
    )


def target(name: str = "prod-db", **labels: str) -> Target:
    return Target(
        name=name,
        protocol="postgres",
        host="db.internal",
        port=5432,
        user="app_rw",
        credential=CredentialSource("none"),
        labels=labels or {"env": "prod"},
        options={"database": "app"},
    )


def session(who: Identity | None = None, name: str = "s-1") -> Session:
    return Session(SessionId(name), who or identity(), target(), NOON, reason="looking into a ticket")


def action(text: str = "select 1", access: Access = Access.READ, verb: str = "select") -> Action:
    return Action("postgres", verb, text, (Resource("statement", verb, verb, access),))


def hold(*groups: str, votes: int = 1, expires: timedelta = timedelta(minutes=15), owner: bool = False) -> Hold:
    demand = Demand("writes-need-a-dba", "", frozenset(groups or {"dba"}), votes, owner_may_approve=owner)
    return Hold((demand,), expires)
