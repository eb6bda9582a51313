"""A group of commands whose help is known without importing them, so that `--help` answers at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that its module defines: imported when it runs or when its own help is asked for."""

    module: str
    help: str
    """The first line of the command's own help; a test keeps the two the same."""


class LazyGroup(TyperGroup):
    """A group that finds its commands in `catalogue`."""

    catalogue: ClassVar[Mapping[str, Lazy]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Typer suggests what a mistyped name may have meant from the keys of this mapping.
        self.commands: Any = dict.fromkeys(self.catalogue)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order in which people meet them."""
        return list(self.catalogue)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, importing its module, or None if there is none of that name."""
        lazy = self.catalogue.get(cmd_name)
        if lazy is None:
            return None
        loaded = typer.main.get_command(import_module(lazy.module).app)
        command = loaded.commands.get(cmd_name, loaded) if isinstance(loaded, TyperGroup) else loaded
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands from what is known without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self.catalogue.items()])
