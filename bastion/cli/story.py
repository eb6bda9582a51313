"""A recorded session told in order: what was asked, what the policy said, who decided, what came of it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from bastion.cli.output import OUT, when
from bastion.cli.requests import argument, person

Json = Mapping[str, Any]
_QUIET = ("output", "opened")


def tell(session: Json, entries: Iterable[Json]) -> None:
    """Print a session and what happened in it."""
    OUT.fields(
        [
            ("session", session.get("id")),
            ("who", person(session)),
            ("target", f"{session.get('target')} ({session.get('protocol')})"),
            ("why", session.get("reason")),
            ("from", session.get("peer")),
            ("client", session.get("client")),
            ("started", when(session.get("started"))),
            ("ended", when(session.get("ended")) or "still open"),
            ("end", session.get("end_reason")),
            ("statements", _counts(session)),
        ]
    )
    for entry in entries:
        if entry.get("kind") not in _QUIET:
            _entry(entry)


_TOLD_APART = frozenset({"ticket", "covered", "found"})


def _entry(entry: Json) -> None:
    data = entry.get("data")
    data = data if isinstance(data, Mapping) else {}
    at = moment(entry.get("at"))
    match entry.get("kind"):
        case "judged":
            OUT.line()
            OUT.heading(f"{at}  {_verdict(data.get('verdict', {}))}")
            OUT.statement(str(data.get("text", "")))
            OUT.fields((f"    ${n}", argument(value)) for n, value in enumerate(data.get("arguments", ()), start=1))
        case "waiting":
            OUT.line(f"  {at}  waits for approval as {data.get('approval')}")
        case "vote":
            did = "approved" if data.get("approves") else "denied"
            OUT.line(f"  {at}  {did} by {person(data)}{_because(data)}")
        case "settled":
            rule = f" ({data['rule']})" if data.get("rule") else ""
            OUT.line(f"  {at}  {data.get('state')}: {data.get('is')}{rule}{_because(data)}")
        case "finished":
            OUT.line(f"  {at}  {_outcome(data)}")
            if data.get("covered"):
                OUT.line(f"  {at}  covered: {', '.join(f'{c} by {m}' for c, m in data['covered'].items())}")
            if data.get("found"):
                OUT.line(f"  {at}  found and covered: {', '.join(f'{k} ({n})' for k, n in data['found'].items())}")
        case "closed":
            OUT.line()
            OUT.line(f"{at}  closed: {data.get('reason')}")
        case kind:
            rest = ", ".join(f"{name} {_plain(value)}" for name, value in data.items())
            OUT.line(f"  {at}  {kind}{': ' if rest else ''}{rest}")


def moment(at: object) -> str:
    """Return the time of day, UTC and to the millisecond, of a moment in ISO 8601."""
    try:
        return datetime.fromisoformat(str(at)).astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return str(at)


def _verdict(verdict: Json) -> str:
    match verdict.get("is"):
        case "allow":
            return f"allowed by {', '.join(verdict.get('rules', ()))}{_masks(verdict)}"
        case "deny":
            return f"denied by {verdict.get('rule')}: {verdict.get('reason')}"
        case "hold":
            return f"held by {', '.join(str(d.get('rule')) for d in verdict.get('demands', ()))}{_masks(verdict)}"
        case other:
            return str(other)


def _masks(verdict: Json) -> str:
    return f", masked by {', '.join(verdict['masks'])}" if verdict.get("masks") else ""


def _outcome(data: Json) -> str:
    """Return what came of a statement, as its protocol noted it."""
    if data.get("sqlstate"):
        return f"failed ({data['sqlstate']})"
    shown = {name: value for name, value in data.items() if name not in _TOLD_APART and value not in ("", None)}
    return ", ".join(f"{name} {_plain(value)}" for name, value in shown.items()) or "done"


def _because(data: Json) -> str:
    return f": {data['reason']}" if data.get("reason") else ""


def _counts(session: Json) -> str:
    return f"{session.get('statements', 0)}, {session.get('denied', 0)} denied, {session.get('held', 0)} held"


def _plain(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else repr(value)
