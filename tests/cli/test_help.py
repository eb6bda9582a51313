"""The help that is shown without importing a command is the command's own, and everything has help."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from bastion.cli.app import Commands, app

ROOT = typer.main.get_command(app)
CONTEXT: Any = typer.Context(ROOT)


def every_command(command: Any = ROOT, path: str = "bastion") -> Iterator[tuple[str, Any]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name in command.list_commands(CONTEXT):
            yield from every_command(command.get_command(CONTEXT, name), f"{path} {name}")


COMMANDS = dict(every_command())


@pytest.mark.parametrize("name", Commands.catalogue)
def test_static_help_is_the_first_line_of_the_command(name: str) -> None:
    assert COMMANDS[f"bastion {name}"].help.splitlines()[0] == Commands.catalogue[name].help


@pytest.mark.parametrize("path", COMMANDS)
def test_everything_has_help(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    assert command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        if not getattr(parameter, "hidden", False) and parameter.name != "help":
            assert parameter.help, f"{path}: {parameter.name}"


def test_what_is_not_built_is_not_offered() -> None:
    assert not {"replay", "tail", "kill", "search", "run", "mcp", "init", "target"} & set(Commands.catalogue)
