"""The command that runs the gateway, and those that look after the one that runs."""

from pathlib import Path
from typing import Annotated

import typer

from bastion.cli.output import OUT, when
from bastion.cli.reach import Json, reach

app = typer.Typer(add_completion=False, rich_markup_mode=None, invoke_without_command=True)


@app.callback()
def gateway(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The configuration; BASTION_CONFIG or bastion.yaml otherwise."),
    ] = None,
    ready_fd: Annotated[int, typer.Option("--ready-fd", hidden=True)] = -1,
) -> None:
    """Run the gateway, or look after the one that runs.

    Without a command it runs in the foreground until SIGTERM or Ctrl-C, logging to standard error. SIGHUP has it read
    its configuration and policy again; when they hold a mistake it keeps what it has and says so.
    """
    if context.invoked_subcommand is not None:
        return
    from bastion.gateway.daemon import run
    from bastion.gateway.state import State
    from bastion.paths import config_file

    run(State.load(config.absolute() if config else config_file()), ready=ready_fd if ready_fd >= 0 else None)


@app.command()
def status(as_json: Json = False) -> None:
    """Show whether a gateway runs, and what it says of itself."""
    found = reach().status()
    if as_json:
        OUT.data(found)
        return
    names = (
        "version",
        "pid",
        "started",
        "loaded",
        "directory",
        "config",
        "policy_version",
        "policy_error",
        "sessions",
    )
    found |= {name: when(found.get(name)) for name in ("started", "loaded")}
    OUT.fields((name.replace("_", " "), found.get(name)) for name in names)


@app.command()
def stop() -> None:
    """End the gateway that runs; its sessions end with it."""
    from bastion.client import starting

    OUT.line(f"the gateway (process {starting.stop(reach())}) has ended")


@app.command()
def reload(as_json: Json = False) -> None:
    """Have the gateway read its configuration and policy again, and say what came of it."""
    from bastion.client import starting

    found = starting.reload(reach())
    if as_json:
        OUT.data(found)
    elif found.get("policy_error"):
        OUT.say(f"it keeps the policy that it has, {found.get('policy_version')}: {found['policy_error']}")
        raise typer.Exit(78)
    else:
        OUT.line(f"the policy is now {found.get('policy_version')}")
