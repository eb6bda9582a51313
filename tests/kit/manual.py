"""Reads what the manual says from where it is true: the commands, the configuration's models, the errors."""

import ast
import enum
import inspect
import textwrap
import types
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.core import TyperGroup

from bastion.cli.app import app

ROOT: Any = typer.main.get_command(app)
CONTEXT: Any = typer.Context(ROOT)
Command = Any


def subcommands(group: Command) -> Iterator[tuple[str, Command]]:
    """Yield the commands of a group, by name; none for what is no group."""
    if isinstance(group, TyperGroup):
        for name in group.list_commands(CONTEXT):
            yield name, group.get_command(CONTEXT, name)


def options(command: Command) -> list[tuple[str, str]]:
    """Return the options of a command as they are typed, each with its help."""
    return [
        (_typed(p), f"{p.help}{_default(p)}")
        for p in command.params
        if p.param_type_name == "option" and not p.hidden and p.name != "help"
    ]


def arguments(command: Command) -> list[tuple[str, str]]:
    """Return the arguments of a command."""
    return [(f"*{p.metavar}*", p.help) for p in command.params if p.param_type_name == "argument"]


def usage(command: Command) -> str:
    """Return what follows a command's name, in roff."""
    words = ["[\\fIoptions\\fR]"] if options(command) else []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = f"\\fI{parameter.metavar}\\fR"
            words.append(name if parameter.required else f"[{name}]")
    if isinstance(command, TyperGroup):
        words.append("\\fIcommand\\fR" if not command.invoke_without_command else "[\\fIcommand\\fR]")
    return " ".join(words)


def first_line(command: Command) -> str:
    """Return a command's help in one line, as NAME sections have it."""
    line = str(command.help).splitlines()[0].rstrip(".")
    return line[0].lower() + line[1:]


def rest(command: Command) -> str:
    """Return a command's help below its first line."""
    return "\n".join(str(command.help).splitlines()[1:]).strip()


def fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield a model's fields in order, each with the docstring under it."""
    said: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            said |= _docstrings(kind)
    for name, info in model.model_fields.items():
        yield name, info, said.get(name, "")


def described(info: FieldInfo) -> str:
    """Return what may stand at a key, and what holds where it is left out."""
    words = [kind(info.annotation)]
    default = info.get_default(call_default_factory=False)
    if info.is_required():
        words.append("needed")
    elif _tellable(default):
        words.append(f"`{_value(default)}` unless given")
    return "; ".join(words)


def kind(annotation: Any) -> str:
    """Return in words what values an annotation takes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(part) for part in inner if part is not type(None))
    if origin is Literal:
        return " or ".join(f"`{_value(value)}`" for value in inner)
    if origin is tuple or annotation is tuple:
        return f"a list of: {kind(inner[0])}" if get_origin(inner[0]) is Literal else "a list"
    if origin is dict:
        return "a mapping"
    if isinstance(annotation, type):
        return _named(annotation)
    # Annotated, within a union.
    return kind(inner[0])


def nested(info: FieldInfo) -> type[BaseModel] | None:
    """Return the model that describes what stands below a key, if one does."""
    for part in (info.annotation, *get_args(info.annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _named(annotation: type) -> str:
    if issubclass(annotation, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if issubclass(annotation, BaseModel):
        return "a mapping"
    names: dict[type, str] = {
        bool: "yes or no",
        int: "a number",
        str: "text",
        timedelta: "a duration such as `90s`, `15m`, `2h` or `1d`",
        Path: "a path",
    }
    return names[annotation]


def _tellable(default: Any) -> bool:
    return default is not PydanticUndefined and default not in (None, "", ()) and not isinstance(default, BaseModel)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case enum.Enum():
            return str(value.value)
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case timedelta():
            seconds = int(value.total_seconds())
            unit = next((u, n) for u, n in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)) if seconds % n == 0)
            return f"{seconds // unit[1]}{unit[0]}"
        case _:
            return str(value)


def _typed(option: Any) -> str:
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: name.startswith("--"))
    value = "" if option.is_flag else f" *{option.metavar or option.name.upper()}*"
    return ", ".join(f"`{name}`{value}" for name in names)


def _default(option: Any) -> str:
    if option.is_flag or option.default in (None, "", -1) or callable(option.default):
        return ""
    return f" The default is `{option.default}`."


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the strings that stand under the fields of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    found[statement.target.id] = inspect.cleandoc(text)
    return found
