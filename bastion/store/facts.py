"""What proves a row of sessions, approvals and policies: an entry in the gateway's chain with its digest. Pure."""

import hashlib

import orjson


def session_fact(name: str, *row: str | int) -> bytes:
    """Return the entry for a session that was opened: who, where, why and when, in the order of the table."""
    return _fact("session", name, *row)


def ended_fact(name: str, *row: str | int) -> bytes:
    """Return the entry for the end of a session: when, why and how much there was, in the order of the table."""
    return _fact("ended", name, *row)


def approval_fact(name: str, session: str, digest: str, policy: str, request: str, asked: int) -> bytes:
    """Return the entry for a request."""
    return _fact("approval", name, session, digest, policy, request, asked)


def vote_fact(approval: str, issuer: str, subject: str, name: str, approves: int, reason: str, at: int) -> bytes:
    """Return the entry for a vote."""
    return _fact("vote", approval, issuer, subject, name, approves, reason, at)


def settlement_fact(approval: str, state: str, reason: str, at: int) -> bytes:
    """Return the entry for the end of a request."""
    return _fact("settlement", approval, state, reason, at)


def spent_fact(approval: str, at: int) -> bytes:
    """Return the entry for the use of an approval."""
    return _fact("spent", approval, at)


def policy_fact(version: str, text: str, at: int) -> bytes:
    """Return the entry for a policy that came into force."""
    return _fact("policy", version, text, at)


def _fact(kind: str, *row: str | int) -> bytes:
    digest = hashlib.sha256(orjson.dumps([kind, *row])).hexdigest()
    return orjson.dumps({"row": kind, "key": row[0], "digest": digest})
