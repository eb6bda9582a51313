"""The commands of bastion, by name; what they do is in `bastion.cli.commands`."""

from typing import Annotated

import typer

from bastion.cli.lazy import Lazy, LazyGroup

_HERE = "bastion.cli.commands"


class Commands(LazyGroup):
    """Every command, engineers' first."""

    catalogue = {  # noqa: RUF012  (declared a ClassVar by LazyGroup)
        "login": Lazy(f"{_HERE}.access", "Log in at your identity provider."),
        "logout": Lazy(f"{_HERE}.access", "Forget the login."),
        "whoami": Lazy(f"{_HERE}.access", "Show who the gateway sees."),
        "targets": Lazy(f"{_HERE}.access", "List the targets that you may reach."),
        "connect": Lazy(f"{_HERE}.work", "Open a session at a target."),
        "exec": Lazy(f"{_HERE}.work", "Run statements at a target and end."),
        "tunnel": Lazy(f"{_HERE}.work", "Open a loopback endpoint for any client."),
        "approvals": Lazy(f"{_HERE}.approving", "List the requests that wait for approval."),
        "approve": Lazy(f"{_HERE}.approving", "Approve a request, after looking at it."),
        "deny": Lazy(f"{_HERE}.approving", "Deny a request."),
        "sessions": Lazy(f"{_HERE}.auditing", "List recorded sessions, newest first."),
        "show": Lazy(f"{_HERE}.auditing", "Show what was done in a session."),
        "export": Lazy(f"{_HERE}.auditing", "Write a recorded session to a file."),
        "verify": Lazy(f"{_HERE}.auditing", "Prove that the recordings are unaltered."),
        "gateway": Lazy(f"{_HERE}.gateway", "Run the gateway, or look after the one that runs."),
        "secret": Lazy(f"{_HERE}.secret", "Keep credentials of targets in the encrypted store."),
        "policy": Lazy(f"{_HERE}.policy", "Check the policy and explain its verdicts."),
        "doctor": Lazy(f"{_HERE}.doctor", "Look after the set-up, and test that masks hold."),
        "demo": Lazy(f"{_HERE}.demo", "Try everything out on a sample database."),
    }


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def bastion(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    """Work on production systems through a gateway that records, holds and blocks.

    The gateway holds the credentials of its targets, judges every statement by a policy, asks other people where
    the policy says so, and records what was done. Nobody but it ever sees a credential.
    """
    if version:
        # Only reached when the option stands beside others; alone it is answered before anything is imported.
        from bastion import __version__
        from bastion.cli.output import OUT

        OUT.line(f"bastion {__version__}")
        raise typer.Exit
