"""Commands of people who work on a target."""

import sys
from typing import Annotated

import typer

from bastion.cli.reach import Json, Reason, TargetName, TokenFile, reach
from bastion.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def connect(
    target: TargetName,
    program: Annotated[
        str, typer.Option("--client", metavar="PROGRAM", help="Run this native client instead, such as psql.")
    ] = "",
    command: Annotated[
        list[str] | None, typer.Option("--command", "-c", metavar="TEXT", help="Run this and end; may be repeated.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Run what the file holds and end; - is standard input."),
    ] = None,
    unaligned: Annotated[bool, typer.Option("--no-align", "-A", help="Print rows unaligned.")] = False,
    tuples_only: Annotated[bool, typer.Option("--tuples-only", "-t", help="Print rows and nothing else.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print rows as CSV.")] = False,
    stop_on_error: Annotated[
        bool, typer.Option("--stop-on-error", help="End at the first error, with status 3 in a file or pipe.")
    ] = False,
    reason: Reason = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Open a session at a target.

    On a terminal this is a client of the target's own kind, with completion and history. With -c, -f or a pipe it
    runs what it is given and ends, printing and exiting as psql does: 0 when all went well, 1 for an error of its own
    or of the last -c, 2 for a lost connection, 3 for an error in a script that stops on errors.

    What is held for approval says so at once, and waits; Ctrl-C withdraws it.
    """
    from bastion.cli.sessions import open_session, steps

    forms = [name for name, wanted in (("unaligned", unaligned), ("csv", csv), ("json", as_json)) if wanted]
    if len(forms) > 1:
        raise UsageError("expected one of --no-align, --csv and --json")
    given = steps(command or [], file or [], sys.stdin.isatty())
    if program and given and (forms or tuples_only):
        raise UsageError(f"{program} prints in its own way", hint="leave --client out, or the options of printing")
    status = open_session(
        reach(token_file, start=True),
        target,
        reason=reason,
        program=program,
        steps=given,
        form=forms[0] if forms else "aligned",
        tuples_only=tuples_only,
        stop_on_error=stop_on_error,
    )
    raise typer.Exit(status)


@app.command(name="exec")
def execute(
    target: TargetName,
    words: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What to run, after --.")],
    reason: Reason = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Run statements at a target and end.

    Made for scripts and agents: with --json the result says for each statement its columns, rows and tag, or the
    error and, if the policy denied it, the rule and its reason. When a statement is held, the request's ID appears on
    standard error at once.

    Exits with 0 when all went well, 126 when the policy denied, 124 when nobody approved in time, 1 for other errors.
    """
    from bastion.cli.sessions import run_once

    raise typer.Exit(run_once(reach(token_file, start=True), target, " ".join(words), reason=reason, as_json=as_json))


@app.command()
def tunnel(
    target: TargetName,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Where to listen; 0 takes any.")] = 0,
    reason: Reason = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Open a loopback endpoint for any client.

    Prints how to reach it with common clients, and serves until Ctrl-C. Other users of this machine can reach the port
    as well, so it asks for a password that is new for each tunnel. Every connection is a session of its own.
    """
    from bastion.cli.sessions import open_tunnel

    open_tunnel(reach(token_file, start=True), target, port, reason=reason, as_json=as_json)
