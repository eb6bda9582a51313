"""What the gateway writes on the record, as JSON; the members are listed in `bastion.model.entry`. Pure."""

from collections.abc import Iterable, Mapping

import orjson

from bastion.model.action import Action, Argument
from bastion.model.approval import Approval, Vote
from bastion.model.session import Session
from bastion.model.verdict import Allow, Deny, Hold, Ruling, Verdict

_STRUCK = "***"
"""Stands for an argument that may be a secret: nothing is left out without a mark."""


def opened(session: Session, policy: str) -> bytes:
    """Return the first entry of a session."""
    identity, target = session.identity, session.target
    return orjson.dumps(
        {
            "session": session.id,
            "issuer": identity.issuer,
            "subject": identity.subject,
            "name": identity.name,
            "kind": identity.kind,
            "actor": identity.actor,
            "owner": identity.owner,
            "token": identity.token_id,
            "groups": sorted(identity.groups),
            "target": target.name,
            "protocol": target.protocol,
            "reason": session.reason,
            "peer": session.peer,
            "client": session.client,
            "policy": policy,
        }
    )


def judged_form(action: Action, verdict: Verdict) -> bytes:
    """Return the part of a `judged` entry that every execution of one form shares, for `judged` to complete."""
    return orjson.dumps(
        {
            "verb": action.verb,
            "access": action.access.name.lower(),
            "resources": resources(action),
            "verdict": verdict_record(verdict),
        }
    )


def judged(form: bytes, ticket: int, action: Action) -> bytes:
    """Return the entry for one judgement, from what `judged_form` made of its form."""
    head = b'{"ticket":%d,' % ticket + form[1:-1]
    if not action.arguments and not action.facts:
        return head + b',"text":' + orjson.dumps(action.safe_text) + b',"arguments":[],"facts":{}}'
    own = {"text": action.safe_text, "arguments": arguments(action), "facts": dict(action.facts)}
    return head + b"," + orjson.dumps(own)[1:]


def argument(value: Argument) -> object:
    """Return a bound value as JSON: null, a string, or `{"hex": …}` for bytes in a binary format."""
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def arguments(action: Action) -> list[object]:
    """Return an action's arguments as JSON; in place of each, where one may be a secret, a word that says so."""
    return [_STRUCK if action.secret else argument(value) for value in action.arguments]


def resources(action: Action) -> list[dict[str, object]]:
    """Return what an action touches, as JSON."""
    return [
        {"kind": r.kind, "name": r.name, "verb": r.verb, "access": r.access.name.lower(), "facts": dict(r.facts)}
        for r in action.resources
    ]


def verdict_record(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as JSON."""
    match verdict:
        case Allow(rules=rules, masks=masks):
            return {"is": "allow", "rules": list(rules), "masks": [m.name for m in masks]}
        case Deny(rule=rule, reason=reason):
            return {"is": "deny", "rule": rule, "reason": reason}
        case Hold(demands=demands, expires=expires, masks=masks):
            wanted = [
                {"rule": d.rule, "reason": d.reason, "approvers": sorted(d.approvers), "votes": d.votes}
                for d in demands
            ]
            covered = [m.name for m in masks]
            return {"is": "hold", "demands": wanted, "expires": expires.total_seconds(), "masks": covered}


def request(approval: Approval) -> dict[str, object]:
    """Return everything that a vote on a request is about, for the store."""
    action, session = approval.action, approval.session
    return {
        "session": session.id,
        "subject": session.identity.subject,
        "target": session.target.name,
        "verb": action.verb,
        "access": action.access.name.lower(),
        "text": action.safe_text,
        "arguments": arguments(action),
        "resources": resources(action),
        "verdict": verdict_record(approval.hold),
    }


def waiting(ticket: int, approval: Approval) -> bytes:
    """Return the entry that says people are being asked."""
    return orjson.dumps({"ticket": ticket, "approval": approval.id, "digest": approval.digest})


def vote(approval: Approval, cast: Vote) -> bytes:
    """Return the entry for one vote."""
    voter = cast.voter
    return orjson.dumps(
        {
            "approval": approval.id,
            "subject": voter.subject,
            "name": voter.name,
            "issuer": voter.issuer,
            "approves": cast.approves,
            "reason": cast.reason,
        }
    )


def settled(ticket: int, approval: Approval, ruling: Ruling) -> bytes:
    """Return the entry that says how a held action was settled."""
    outcome = verdict_record(ruling)
    state = str(approval.state())
    return orjson.dumps({"ticket": ticket, "approval": approval.id, "state": state, **outcome})


def not_asked(ticket: int, denied: Deny) -> bytes:
    """Return the entry that says that a held action was denied without anybody being asked."""
    return orjson.dumps({"ticket": ticket, "approval": "", "state": "not asked", **verdict_record(denied)})


def noted(detail: Mapping[str, object]) -> bytes:
    """Return an entry of a protocol's own kind."""
    return orjson.dumps(dict(detail))


def closed(reason: str) -> bytes:
    """Return the last entry of a session."""
    return orjson.dumps({"reason": reason})


def audited(what: str, by: str, detail: Mapping[str, object] | Iterable[tuple[str, object]] = ()) -> bytes:
    """Return an entry of the gateway's own record: an act that belongs to no session."""
    return orjson.dumps({"what": what, "by": by, **dict(detail)})
