"""Commands about who somebody is and where they may go."""

from typing import Annotated

import typer

from bastion.cli.output import OUT, when
from bastion.cli.reach import Json, TokenFile, reach

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def login(
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser where there is one.", show_default=True)
    ] = True,
    as_json: Json = False,
) -> None:
    """Log in at your identity provider.

    Prints an address and a code (and a QR code on a terminal), to be opened on any device, and waits until you have
    agreed there. The login is kept for this user only and renews itself until the provider ends it.
    """
    from bastion.cli.logging_in import log_in

    gateway = reach(start=True)
    found = log_in(gateway, browser=browser)
    if as_json:
        OUT.data(found)
    else:
        OUT.line(f"logged in as {found['name'] or found['subject']}")


@app.command()
def logout() -> None:
    """Forget the login.

    The tokens kept here are revoked at the provider where it offers that, and deleted in any case.
    """
    from bastion.cli.logging_in import log_out

    if log_out():
        OUT.line("logged out")
    else:
        OUT.say("nobody was logged in")


@app.command()
def whoami(token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show who the gateway sees.

    The gateway verifies the token and says what it reads in it: subject, groups, whether it is a person or a machine,
    and until when it holds.
    """
    found = reach(token_file).whoami()
    if as_json:
        OUT.data(found)
        return
    names = ("name", "subject", "issuer", "groups", "kind", "actor", "expires", "auditor")
    OUT.fields((name, when(found.get(name)) if name == "expires" else found.get(name)) for name in names)


@app.command()
def targets(token_file: TokenFile = None, as_json: Json = False) -> None:
    """List the targets that you may reach.

    The last column says what the policy could answer there: `allow`, or `hold` where some things wait for approval.
    """
    found = reach(token_file).targets()
    if as_json:
        OUT.data({"targets": found})
        return
    OUT.table(
        ("TARGET", "PROTOCOL", "LABELS", "ACCESS"),
        [(t.get("name"), t.get("protocol"), t.get("labels"), t.get("access")) for t in found],
        empty="no target is open to you",
    )
