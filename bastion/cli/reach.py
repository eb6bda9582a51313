"""What commands that talk to the gateway share: their options, and the way to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bastion.cli.output import OUT
from bastion.client.gateway import Gateway
from bastion.client.token import source
from bastion.paths import config_file, runtime_dir, state_dir


def _speak_json(value: bool) -> bool:
    OUT.speaks_json = value
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs; errors too.", callback=_speak_json)]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Take the token from a file instead of the login. The variable BASTION_TOKEN may hold one as well.",
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Say why, for approvers and the recording.")]
TargetName = Annotated[str, typer.Argument(metavar="TARGET", help="The target's name, as `bastion targets` lists it.")]


def reach(token_file: Path | None = None, *, start: bool = False) -> Gateway:
    """Return the gateway's control API as the identity of this login; with `start`, see to it that one runs."""
    gateway = Gateway(runtime_dir(), source(token_file, _login()))
    if start:
        # A gateway that others run needs no configuration here, so the file matters only when none answers.
        from bastion.client.starting import ensure_running

        ensure_running(gateway, config_file(), OUT.say)
    return gateway


def _login() -> Callable[[], str]:
    def token() -> str:
        from bastion.client.login import access_token

        return access_token(state_dir())

    return token
