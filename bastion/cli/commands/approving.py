"""Commands of people who approve: they show a request whole before anything is decided about it."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bastion.cli.output import OUT, people_are_here
from bastion.cli.reach import Json, TokenFile, reach
from bastion.cli.requests import ROW_NAMES, row, show
from bastion.client.gateway import Gateway
from bastion.errors import ApprovalError, UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The request, as `bastion approvals` lists it.")]
_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; needed where no terminal is.")]


@app.command()
def approvals(
    everything: Annotated[bool, typer.Option("--all", help="List settled requests as well.")] = False,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List the requests that wait for approval.

    Shows what you may decide about and what you asked yourself. `bastion approve ID` shows one of them whole.
    """
    found = reach(token_file).approvals(everything=everything)
    if as_json:
        OUT.data({"approvals": found})
        return
    OUT.table(ROW_NAMES, map(row, found), empty="nothing waits for approval")


@app.command()
def approve(
    identifier: _Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Say why, for the recording.")] = "",
    yes: _Yes = False,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Approve a request, after looking at it.

    Shows the statement with its parameters, who asks, where, why it is held and what it would touch; then asks. The
    approval is for exactly what was shown, once. You can't approve your own request.
    """
    _decide(identifier, approves=True, reason=reason, yes=yes, gateway=reach(token_file), as_json=as_json)


@app.command()
def deny(
    identifier: _Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Say why; whoever asked reads it.")],
    yes: _Yes = False,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Deny a request.

    Shows it as `bastion approve` does, then asks. One denial settles it, however many approvals it has.
    """
    _decide(identifier, approves=False, reason=reason, yes=yes, gateway=reach(token_file), as_json=as_json)


def _decide(identifier: str, *, approves: bool, reason: str, yes: bool, gateway: Gateway, as_json: bool) -> None:
    act = "approve" if approves else "deny"
    if not yes and not people_are_here():
        raise UsageError(f"`{act}` asks on a terminal and there is none", hint="--yes decides without asking")
    request = gateway.approval(identifier)
    if not as_json:
        show(request)
    if request.get("state") != "waiting":
        raise ApprovalError(_settled(request))
    if not yes and not OUT.confirmed(f"{act.capitalize()} this?"):
        raise typer.Exit(1)
    after = gateway.vote(identifier, approves=approves, digest=str(request["digest"]), reason=reason)
    if as_json:
        OUT.data(after)
    else:
        OUT.line(_outcome(after, approves=approves))


def _outcome(request: Mapping[str, Any], *, approves: bool) -> str:
    """Return what became of the request by this vote."""
    name, state = request.get("id"), request.get("state")
    if state == "waiting" and approves:
        return f"{name}: your approval counts; still missing: {missing(request)}"
    return f"{name}: {state}"


def missing(request: Mapping[str, Any]) -> str:
    """Return which approvals a request still wants."""
    wanted = [d for d in request.get("demands", ()) if d.get("missing")]
    return ", ".join(f"{d['missing']} of {' or '.join(d.get('approvers', ()))}" for d in wanted) or "none"


def _settled(request: Mapping[str, Any]) -> str:
    """Return why nothing is left to decide."""
    name, votes = request.get("id"), request.get("votes", ())
    match request.get("state"):
        case "approved":
            return f"{name} is approved already, by {', '.join(str(v.get('voter')) for v in votes)}"
        case "denied":
            against = [str(v.get("voter")) for v in votes if not v.get("approves")]
            return f"{name} was denied by {', '.join(against)}"
        case "expired":
            return f"{name} has expired; whoever asked has to ask again"
        case "withdrawn":
            return f"{name} was withdrawn by whoever asked"
        case state:
            return f"{name} is {state}"
