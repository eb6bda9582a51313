"""The only place that prints. Text from outside reaches a terminal through `visible`, whole and harmless.

Data goes to standard output, everything else to standard error.
"""

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, TextIO

from bastion.errors import BastionError
from bastion.model.text import visible

_INDENT = "    "
_NARROWEST = 12
"""A column is not wrapped below this width."""
_BOLD, _RED, _GREEN, _YELLOW, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_COLOURS = {
    "allow": _GREEN,
    "approved": _GREEN,
    "deny": _RED,
    "denied": _RED,
    "expired": _RED,
    "hold": _YELLOW,
    "waiting": _YELLOW,
}


class Output:
    """Where one run of the command line prints to."""

    def __init__(self) -> None:
        self.speaks_json = False
        """Whether errors are printed for a program as well."""

    @property
    def terminal(self) -> bool:
        """Whether a person reads standard output."""
        return sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Write data as it is; whoever calls this has made it fit for a terminal."""
        _put(sys.stdout, text)

    def write_bytes(self, data: bytes) -> None:
        """Write raw data to standard output."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def say(self, text: str = "") -> None:
        """Tell the person something, at once and beside the data."""
        sys.stdout.flush()
        shown = visible(text, lines=True)
        # Backslashes alone are harmless; they are doubled only where an escape has to be told from one.
        _put(sys.stderr, (text if shown.replace("\\\\", "\\") == text else shown) + "\n")

    def line(self, text: str = "") -> None:
        """Print one line, made harmless; on a terminal what does not fit goes on indented below it."""
        shown = visible(text)
        if not self.terminal or _width(shown) <= _columns():
            _put(sys.stdout, shown + "\n")
            return
        # Wrapped by the terminal it would go on at the left edge, and could pass for a line of its own.
        indent = " " * (len(shown) - len(shown.lstrip(" ")))
        first = _wrapped(shown, _columns())[0]
        _put(sys.stdout, first + "\n")
        self._set_off(shown[len(first) :], indent + _INDENT)

    def command(self, text: str) -> None:
        """Print a command line of our own making, to be copied: whole, and in one line."""
        _put(sys.stdout, _INDENT + visible(text) + "\n")

    def data(self, value: object) -> None:
        """Print a value as JSON that hides nothing: every character beyond ASCII is an escape."""
        _put(sys.stdout, _json(value, indent=2) + "\n")

    def event(self, value: object) -> None:
        """Tell a program something beside the data: one line of JSON on standard error."""
        _put(sys.stderr, _json(value) + "\n")

    def drawing(self, text: str) -> None:
        """Show a drawing of our own making on the terminal, as it is."""
        _put(sys.stderr, text)

    def heading(self, text: str) -> None:
        """Print a line that begins a part."""
        _put(sys.stdout, _painted(visible(text), _BOLD, sys.stdout) + "\n")

    def fields(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print named values, one a line; what is empty is left out, and what is long goes on below itself."""
        shown = [(visible(name), visible(text)) for name, value in pairs if (text := _text(value))]
        margin = max((_width(name) for name, _ in shown), default=0) + 2
        for name, text in shown:
            lines = _wrapped(text, max(_NARROWEST, _columns() - margin)) if self.terminal else [text]
            first = _painted(lines[0], _COLOURS.get(lines[0], ""), sys.stdout)
            _put(sys.stdout, _padded(name, margin) + first + "\n")
            for line in lines[1:]:
                _put(sys.stdout, " " * margin + line + "\n")

    def statement(self, text: str) -> None:
        """Print a statement whole, in the shape its author gave it, set off from everything that we say."""
        for line in visible(text, lines=True).split("\n"):
            if self.terminal:
                # No tab and no wrapping of the terminal's may bring its text to where only we write.
                self._set_off(line.expandtabs(), _INDENT)
            else:
                _put(sys.stdout, f"{_INDENT}{line}\n")

    def _set_off(self, text: str, indent: str) -> None:
        for part in _wrapped(text, max(_NARROWEST, _columns() - len(indent))):
            _put(sys.stdout, f"{indent}{part}\n")

    def table(self, names: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        """Print rows below their names; on a terminal too narrow for them cells wrap, nothing is cut."""
        cells = [[visible(_text(value)) for value in row] for row in rows]
        if not cells:
            self.say(empty)
            return
        widths = [max(map(_width, column)) for column in zip(names, *cells, strict=True)]
        if self.terminal:
            widths = _fitted(widths, names, _columns())
        self._row(names, widths, _BOLD)
        for row in cells:
            self._row(row, widths, "")

    def _row(self, cells: Sequence[str], widths: Sequence[int], paint: str) -> None:
        parts = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, parts))):
            line = [part[number] if number < len(part) else "" for part in parts]
            padded = [
                _painted(_padded(text, width), paint or _COLOURS.get(text, ""), sys.stdout)
                for text, width in zip(line[:-1], widths[:-1], strict=True)
            ]
            last = _painted(line[-1], paint or _COLOURS.get(line[-1], ""), sys.stdout)
            _put(sys.stdout, "  ".join([*padded, last]).rstrip() + "\n")

    def progress(self, done: int, what: str = "entries") -> None:
        """Show on a terminal how far long work is, in place of what was shown before."""
        if sys.stderr.isatty():
            _put(sys.stderr, f"\r{done} {visible(what)}\x1b[K")

    def progress_ended(self) -> None:
        """Clear what `progress` shows."""
        if sys.stderr.isatty():
            _put(sys.stderr, "\r\x1b[K")

    def confirmed(self, question: str) -> bool:
        """Ask on the terminal; anything but yes is no."""
        _put(sys.stderr, f"{visible(question)} [y/N] ")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def error(self, error: BastionError) -> None:
        """Print what went wrong and what to do about it; for a program, with its code."""
        sys.stdout.flush()
        if self.speaks_json:
            said = {"code": error.code, "message": error.message, "hint": error.hint, "exit_status": error.exit_status}
            _put(sys.stderr, _json({"error": said}) + "\n")
            return
        _put(sys.stderr, f"{_painted('bastion:', _RED, sys.stderr)} {visible(error.message)}\n")
        if error.hint:
            _put(sys.stderr, f"  {visible(error.hint)}\n")


OUT = Output()


def when(moment: object) -> str:
    """Return a moment in ISO 8601 as people read it: to the second, in UTC."""
    try:
        return f"{datetime.fromisoformat(str(moment)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return str(moment or "")


def people_are_here() -> bool:
    """Tell whether somebody can be asked: both ends of the conversation are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _json(value: object, indent: int | None = None) -> str:
    # json leaves DEL as it is, the one character of ASCII that would act and that it does not escape.
    return json.dumps(value, indent=indent, default=str).replace("\x7f", "\\u007f")


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case Mapping():
            return ", ".join(f"{key}={_text(item)}" for key, item in value.items())
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(_text, value))
        case _:
            return str(value)


def _put(stream: TextIO | IO[Any], text: str) -> None:
    stream.write(text)
    stream.flush()


def _painted(text: str, paint: str, stream: TextIO) -> str:
    wanted = paint and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"{paint}{text}{_PLAIN}" if wanted else text


def _columns() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _fitted(widths: Sequence[int], names: Sequence[str], columns: int) -> list[int]:
    """Return widths that together fit `columns`, taken from the widest columns first, as far as that goes."""
    fitted = list(widths)
    excess = sum(fitted) + 2 * (len(fitted) - 1) - columns
    least = [max(_NARROWEST, _width(name)) for name in names]
    while excess > 0:
        widest = max(range(len(fitted)), key=lambda at: fitted[at] - least[at])
        if fitted[widest] <= least[widest]:
            break
        fitted[widest] -= 1
        excess -= 1
    return fitted


def _wrapped(text: str, width: int) -> list[str]:
    """Return `text` in lines of at most `width`, broken at spaces where there are some; joined they are the text."""
    lines, line, used, space = [], "", 0, 0
    for char in text:
        size = _width(char)
        if used + size > width and line:
            rest = ""
            if space:
                line, rest = line[:space], line[space:]
            lines.append(line)
            line, used, space = rest, _width(rest), 0
        line += char
        used += size
        if char == " ":
            space = len(line)
    return [*lines, line]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Return how many columns `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
