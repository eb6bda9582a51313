"""How a request for approval looks: what would run, whole; who asks, where and why; what is known of its impact."""

from collections.abc import Mapping
from typing import Any

from bastion.cli.output import OUT, when

ROW_NAMES = ("ID", "STATE", "LEFT", "WHO", "TARGET", "WHAT")
Json = Mapping[str, Any]


def row(request: Json) -> tuple[object, ...]:
    """Return one request as a row of the list."""
    action = request.get("action", {})
    return (
        request.get("id"),
        request.get("state"),
        left(request.get("remaining_seconds")) if request.get("state") == "waiting" else "",
        person(request.get("requester", {})),
        request.get("target"),
        action.get("text"),
    )


def show(request: Json) -> None:
    """Print one request whole."""
    action = request.get("action", {})
    OUT.fields(
        [
            ("request", request.get("id")),
            ("state", request.get("state")),
            ("who", person(request.get("requester", {}))),
            ("where", _place(request)),
            ("why", request.get("reason") or "(no reason was given)"),
            ("session", request.get("session")),
            ("asked", when(request.get("asked"))),
            ("left", left(request.get("remaining_seconds")) if request.get("state") == "waiting" else ""),
        ]
    )
    OUT.line()
    OUT.heading("would run")
    OUT.statement(str(action.get("text", "")))
    if arguments := action.get("arguments"):
        # Below a line that no statement can draw: within it a forged parameter would look like one.
        OUT.heading("with the parameters")
    for number, value in enumerate(arguments or (), start=1):
        OUT.fields([(f"    ${number}", argument(value))])
    OUT.line()
    OUT.heading(f"would {action.get('verb', '')} ({action.get('access', '')})")
    for resource in action.get("resources", ()):
        OUT.line(f"    {described(resource)}")
    OUT.line()
    OUT.heading("held by")
    for demand in request.get("demands", ()):
        OUT.line(f"    {_demand(demand)}")
    for vote in request.get("votes", ()):
        OUT.line(f"    {_vote(vote)}")
    _impact(request.get("preview"))
    OUT.line()
    OUT.fields([("digest", request.get("digest"))])
    OUT.line()


def person(who: Json) -> str:
    """Return somebody as people name them, with the subject that tells them apart."""
    name, subject = str(who.get("name") or ""), str(who.get("subject") or "")
    shown = f"{name} ({subject})" if name and name != subject else subject
    if who.get("kind") == "machine":
        shown += ", a machine"
    if who.get("actor"):
        shown += f", through {who['actor']}"
    return shown


def left(seconds: object) -> str:
    """Return a time that is left in words as short as it is."""
    if not isinstance(seconds, int | float):
        return ""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _place(request: Json) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in (request.get("labels") or {}).items())
    return f"{request.get('target')} ({request.get('protocol')})" + (f", {labels}" if labels else "")


def argument(value: object) -> str:
    """Return a bound value so that null, text and bytes can't be taken for one another."""
    match value:
        case None:
            return "null"
        case {"hex": digits}:
            return f"\\x{digits} (binary)"
        case _:
            return f"'{value}'"


def described(resource: Json) -> str:
    """Return what is done to what, in one line."""
    told = {key: _fact(value) for key, value in (resource.get("facts") or {}).items()}
    facts = "; ".join(f"{key}: {value}" for key, value in told.items() if value)
    said = f"{resource.get('verb')} {resource.get('kind')} {resource.get('name')} ({resource.get('access')})"
    return f"{said} [{facts}]" if facts else said


def _fact(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value))
        case Mapping():
            parts = {key: _fact(part) for key, part in value.items()}
            return ", ".join(f"{key} ({part})" for key, part in parts.items() if part)
        case _:
            return str(value)


def _demand(demand: Json) -> str:
    approvers = " or ".join(demand.get("approvers", ()))
    wants = f"{demand.get('votes')} of {approvers}, {demand.get('missing')} missing"
    reason = f": {demand['reason']}" if demand.get("reason") else ""
    return f"{demand.get('rule')}{reason} (wants {wants})"


def _vote(vote: Json) -> str:
    did = "approved" if vote.get("approves") else "denied"
    reason = f": {vote['reason']}" if vote.get("reason") else ""
    return f"{did} by {vote.get('voter')} at {when(vote.get('at'))}{reason}"


def _impact(preview: object) -> None:
    if not isinstance(preview, Mapping) or not preview:
        return
    OUT.line()
    OUT.heading("impact, as the target estimates it now")
    OUT.fields((f"    {str(name).replace('_', ' ')}", value) for name, value in preview.items())
