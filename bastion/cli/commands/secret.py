"""Commands of an operator about the encrypted store of credentials."""

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bastion.cli.output import OUT, people_are_here
from bastion.cli.reach import Json
from bastion.errors import UsageError

if TYPE_CHECKING:
    from bastion.vault.secrets import SecretStore

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The name that a target's `credential: {secret: NAME}` has.")
]


@app.callback()
def secret() -> None:
    """Keep credentials of targets in the encrypted store.

    The store belongs to the user who runs the gateway, and so do these commands. A secret is fetched anew for each
    connection to its target, so changing one needs no reload.
    """


@app.command(name="set")
def keep(name: _Name) -> None:
    """Keep a secret under a name, replacing what was there.

    Asks for it on a terminal without showing it; otherwise reads standard input, of which one line end at the end is
    not part of the secret. It is never taken from the command line, where every user of the machine could read it.
    """
    _store().put(name, _asked(name))
    OUT.line(f"{name} is kept")


@app.command(name="list")
def names(as_json: Json = False) -> None:
    """List the names of the secrets, never the secrets."""
    found = _store().names()
    if as_json:
        OUT.data({"secrets": found})
        return
    OUT.table(("NAME",), [(name,) for name in found], empty="no secret is kept")


@app.command()
def remove(name: _Name) -> None:
    """Forget a secret."""
    if not _store().remove(name):
        raise UsageError(f"there is no secret named {name}", hint="`bastion secret list` lists them")
    OUT.line(f"{name} is forgotten")


def _asked(name: str) -> bytes:
    if people_are_here():
        first = getpass.getpass(f"Secret {name}: ")
        if first != getpass.getpass("Once more: "):
            raise UsageError("the two were not the same; nothing was changed")
        return first.encode()
    return sys.stdin.buffer.read(1_000_000).removesuffix(b"\n").removesuffix(b"\r")


def _store() -> "SecretStore":
    from bastion.paths import state_dir
    from bastion.vault.secrets import SecretStore

    return SecretStore(state_dir() / "secrets")
