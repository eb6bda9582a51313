r"""The backslash commands of scripts: psql's own where they concern the client, pgspecial's for the `\\d` family."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from bastion.protocols.postgres.listing import Rows, harmless

if TYPE_CHECKING:
    from bastion.protocols.postgres.script import Script

_NAME = re.compile(r"\\([A-Za-z?!]+\+?|[^\s\w]\+?)")
_SENDING = {"g", "gx"}
_ON = {"", "on", "true", "yes", "1"}
_COPY_WORD = re.compile(r"\s+|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]|[^\s'\"()]+")


class Quit(Exception):
    """The script asked to end."""


def consumes(command: str) -> bool:
    """Tell whether a command takes the statement that stood unfinished before it."""
    return _split(command)[0] in _SENDING | {"r", "reset"}


def run(script: "Script", command: str, pending: str) -> bool:
    """Run one backslash command; tell whether it went well."""
    name, rest = _split(command)
    if name in _COMMANDS:
        return _COMMANDS[name](script, rest, pending)
    if name.startswith(("d", "l", "s")) or name in ("z", "z+"):
        return _describe(script, command)
    return script.complain(f"invalid command \\{name}")


def _split(command: str) -> tuple[str, str]:
    found = _NAME.match(command)
    if found is None:
        return "", ""
    return found.group(1), command[found.end() :].strip()


def _send(script: "Script", rest: str, pending: str) -> bool:
    if rest:
        return script.complain("\\g takes no file and no pipe here")
    return script.execute(pending) if pending else True


def _send_expanded(script: "Script", rest: str, pending: str) -> bool:
    if rest:
        return script.complain("\\gx takes no file and no pipe here")
    return script.execute(pending, style=replace(script.style, expanded=True)) if pending else True


def _quit(script: "Script", rest: str, pending: str) -> bool:
    raise Quit


def _echo(script: "Script", rest: str, pending: str) -> bool:
    script.printer.write(" ".join(_words(rest)) + "\n")
    return True


def _warn(script: "Script", rest: str, pending: str) -> bool:
    script.printer.say(" ".join(_words(rest)))
    return True


def _include(script: "Script", rest: str, pending: str) -> bool:
    words = _words(rest)
    if len(words) != 1:
        return script.complain("\\i: expected one file")
    try:
        return script.include(words[0])
    except OSError as error:
        return script.complain(f"{words[0]}: {error.strerror}")


def _expanded(script: "Script", rest: str, pending: str) -> bool:
    script.style.expanded = rest.lower() in _ON if rest else not script.style.expanded
    return True


def _timing(script: "Script", rest: str, pending: str) -> bool:
    script.style.timing = rest.lower() in _ON if rest else not script.style.timing
    return True


def _aligned(script: "Script", rest: str, pending: str) -> bool:
    script.style.form = "unaligned" if script.style.form == "aligned" else "aligned"
    return True


def _tuples(script: "Script", rest: str, pending: str) -> bool:
    script.style.tuples_only = rest.lower() in _ON if rest else not script.style.tuples_only
    return True


def _set(script: "Script", rest: str, pending: str) -> bool:
    words = _words(rest)
    match words:
        case ["ON_ERROR_STOP", *value]:
            script.stop_on_error = "".join(value).lower() in _ON
            return True
        case _:
            return script.complain("\\set: only ON_ERROR_STOP can be set; other variables are psql's: --client psql")


def _print_setting(script: "Script", rest: str, pending: str) -> bool:
    match _words(rest):
        case ["format", "aligned" | "unaligned" | "csv" as form]:
            script.style.form = form
        case ["tuples_only" | "t", *value]:
            return _tuples(script, "".join(value), pending)
        case ["expanded" | "x", *value]:
            return _expanded(script, "".join(value), pending)
        case ["pager", "off" | "0"]:
            return True  # a script is never paged
        case _:
            return script.complain("\\pset: expected format, tuples_only, expanded or pager; for others --client psql")
    return True


def _nothing(script: "Script", rest: str, pending: str) -> bool:
    return True


def _connection(script: "Script", rest: str, pending: str) -> bool:
    info = script.conversation.connection.info
    script.printer.write(f'You are connected to target "{harmless(info.dbname)}" through bastion.\n')
    return True


def _describe(script: "Script", command: str) -> bool:
    """Run one of the commands that ask the catalog."""
    from pgspecial.main import CommandNotFound, PGSpecial

    try:
        with script.conversation.connection.cursor() as cursor:
            for title, rows, headers, status in PGSpecial().execute(cursor, command):
                if title:
                    script.printer.write(f"{harmless(str(title))}\n")
                if headers:
                    script.show(_catalog_rows(rows, headers), script.style)
                if status:
                    script.printer.write(f"{harmless(str(status), lines=True)}\n")
    except CommandNotFound:
        return script.complain(f"invalid command {command.split()[0]}")
    except psycopg.Error as error:
        return script.complain(f"ERROR:  {harmless(str(error), lines=True)}")
    return True


def _catalog_rows(rows: Any, headers: Any) -> Rows:
    names = tuple(str(h[0] if isinstance(h, tuple) else getattr(h, "name", h)) for h in headers)
    cells = [[None if cell is None else str(cell) for cell in row] for row in rows]
    return Rows(names, (25,) * len(names), cells)


def _copy(script: "Script", rest: str, pending: str) -> bool:
    r"""Run \copy: COPY between the target and a file on this side."""
    parted = _copy_parts(rest)
    if parted is None:
        return script.complain("\\copy: expected TABLE or (QUERY), then FROM or TO, then a file, stdin or stdout")
    what, direction, where, options = parted
    if direction == "from":
        statement = f"COPY {what} FROM STDIN {options}"
        if where in ("stdin", "pstdin"):
            return script.execute(statement)
        return _copy_file(script, where, lambda path: script.execute(statement, source=lambda: _pieces(path)))
    statement = f"COPY {what} TO STDOUT {options}"
    if where in ("stdout", "pstdout"):
        return script.execute(statement)

    def fill(path: Path) -> bool:
        with path.open("wb") as file:
            return script.execute(statement, sink=lambda data: _write(file, data))

    return _copy_file(script, where, fill)


def _copy_file(script: "Script", quoted: str, act: Callable[[Path], bool]) -> bool:
    name = quoted[1:-1].replace("''", "'") if quoted.startswith("'") else quoted
    try:
        return act(Path(name).expanduser())
    except OSError as error:
        return script.complain(f"{name}: {error.strerror}")


def _copy_parts(rest: str) -> tuple[str, str, str, str] | None:
    """Return what is copied, the direction, the place and the options; None if it can't be told."""
    depth, words = 0, list(_COPY_WORD.finditer(rest))
    for at, word in enumerate(words):
        text = word.group()
        depth += (text == "(") - (text == ")")
        if depth == 0 and text.lower() in ("from", "to"):
            place = next((w for w in words[at + 1 :] if not w.group().isspace()), None)
            if place is None or place.group().lower() == "program" or place.group() == "(":
                return None
            where = place.group() if place.group().startswith("'") else place.group().lower()
            known = where.startswith("'") or where in ("stdin", "stdout", "pstdin", "pstdout")
            return rest[: word.start()], text.lower(), where if known else place.group(), rest[place.end() :]
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(65536):
            yield piece


def _write(file: Any, data: bytes) -> None:
    file.write(data)


def _words(rest: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


_COMMANDS: dict[str, Callable[["Script", str, str], bool]] = {
    "g": _send,
    "gx": _send_expanded,
    "q": _quit,
    "quit": _quit,
    "echo": _echo,
    "qecho": _echo,
    "warn": _warn,
    "i": _include,
    "include": _include,
    "x": _expanded,
    "timing": _timing,
    "a": _aligned,
    "t": _tuples,
    "set": _set,
    "pset": _print_setting,
    "r": _nothing,
    "reset": _nothing,
    "conninfo": _connection,
    "copy": _copy,
}
