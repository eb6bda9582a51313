"""The command that shows everything at work."""

from typing import Annotated

import typer

from bastion.cli.output import OUT

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Walk the tour with nobody there; exit 0 if every step did its part.")
    ] = False,
) -> None:
    """Try everything out on a sample database.

    Starts, on this machine alone, an identity provider with three accounts, a PostgreSQL with an invented web shop
    (this machine's, else an embedded one) and a gateway in front of it. Then it walks you through a tour: a login, a
    read, a DELETE that waits until somebody approves it, a DROP that is blocked, and the recording of it all.
    Everything lives in a temporary directory and is gone afterwards; Ctrl-C ends it at any time.
    """
    from bastion.demo import show

    if check:
        show.check(OUT)
    else:
        show.play(OUT)
