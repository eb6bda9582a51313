"""Commands of people who look at what was done."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bastion.cli.output import OUT, when
from bastion.cli.reach import Json, TokenFile, reach
from bastion.errors import UsageError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The session, as `bastion sessions` lists it.")]


@app.command()
def sessions(
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="Only at this target.")] = "",
    subject: Annotated[str, typer.Option("--subject", metavar="NAME", help="Only of this subject.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many to list.")] = 50,
    before: Annotated[str, typer.Option("--before", metavar="ID", help="Only older ones than this session.")] = "",
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """List recorded sessions, newest first.

    You see your own; auditors see everybody's. Looking is recorded too.
    """
    found = reach(token_file).sessions(limit=limit, before=before, target=target, subject=subject)
    if as_json:
        OUT.data({"sessions": found})
        return
    from bastion.cli.requests import person

    OUT.table(
        ("SESSION", "STARTED", "WHO", "TARGET", "RAN", "DENIED", "HELD", "STATE"),
        [
            (
                s.get("id"),
                when(s.get("started")),
                person(s),
                s.get("target"),
                s.get("statements"),
                s.get("denied"),
                s.get("held"),
                "ended" if s.get("ended") else "open",
            )
            for s in found
        ],
        empty="no session is recorded that you may see",
    )


@app.command()
def show(identifier: _Id, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show what was done in a session.

    Each statement with its parameters, the verdict and the rules behind it, who approved, how many rows came back and
    how long it took. Statements that carry secrets were recorded without them.
    """
    from bastion.cli.story import tell

    gateway = reach(token_file)
    session, entries = gateway.session(identifier), gateway.entries(identifier)
    if as_json:
        OUT.data({"session": session, "entries": entries})
    else:
        tell(session, entries)


@app.command()
def export(
    identifier: _Id,
    form: Annotated[str, typer.Option("--format", "-f", metavar="FORM", help="cast (asciicast) or jsonl.")] = "cast",
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; standard output otherwise.")
    ] = None,
    token_file: TokenFile = None,
) -> None:
    """Write a recorded session to a file.

    `cast` plays in asciinema and its players; `jsonl` holds every entry, one JSON object a line. An existing file is
    not overwritten.
    """
    if form not in ("cast", "jsonl"):
        raise UsageError(f"expected the format cast or jsonl, found {form}")
    if file is None and form == "cast" and sys.stdout.isatty():
        raise UsageError("a recording does not belong on a terminal", hint="-o FILE writes it to a file")
    pieces = reach(token_file).export(identifier, form)
    if file is None:
        for piece in pieces:
            OUT.write_bytes(piece)
        return
    from bastion.cli.files import write_new

    OUT.say(f"{write_new(file, pieces)} bytes written to {file}")


@app.command()
def verify(
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DIR", help="The directory of the store; this user's own otherwise."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The public key to trust; the one beside the store otherwise."),
    ] = None,
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Prove this session only.")] = "",
    at_least: Annotated[
        int,
        typer.Option("--at-least", metavar="N", min=0, help="Demand so many checkpoints, as noted elsewhere before."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Prove that the recordings are unaltered.

    Works on a store offline, with a public key and nothing else: every session's chain of hashes and every signed
    checkpoint is checked, and the first entry that does not hold is named; then it exits with 65. Use a key that was
    kept elsewhere: one that lies beside the store proves little. And note the number of checkpoints elsewhere, for
    --at-least: a store that was cut back to an earlier checkpoint is whole as well.
    """
    from bastion.cli.verifying import verify_store

    verify_store(store, key, session, at_least=at_least, as_json=as_json)
