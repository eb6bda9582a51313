"""Writes manual pages: text with `code` in backticks becomes roff for man(7), and nothing in it can be a macro."""

import re
from collections.abc import Iterable

from bastion import __version__

_RELEASED = "2026-11-24"
"""The day of the release that the pages describe, which changes with its number."""


class Page:
    """One page, written from top to bottom."""

    def __init__(self, name: str, section: int, summary: str, *, title: str = "") -> None:
        """Begin the page of `name`; `title` is what its first section calls it where that differs."""
        self.file = f"{name}.{section}"
        self._lines = [f'.TH "{name.upper()}" "{section}" "{_RELEASED}" "bastion {__version__}" "bastion"']
        self.section("NAME")
        self._lines.append(f"{_escaped(title or name)} \\- {formatted(summary)}")

    def section(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f'.SH "{title}"')

    def subsection(self, title: str) -> None:
        """Begin a part of a section."""
        self._lines.append(f'.SS "{_escaped(title)}"')

    def text(self, text: str) -> None:
        """Write paragraphs, which empty lines part in `text`."""
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
            if number:
                self._lines.append(".PP")
            self._lines.append(_safe(formatted(" ".join(paragraph.split()))))

    def paragraph(self, text: str) -> None:
        """Write paragraphs that begin below what was there."""
        self._lines.append(".PP")
        self.text(text)

    def line(self, words: str) -> None:
        """Write a line of roff as it is: its author has escaped it."""
        self._lines.append(words)

    def entries(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Write terms, each with what it means below it."""
        for term, meaning in pairs:
            self._lines += [".TP", _safe(formatted(term))]
            first, *rest = re.split(r"\n\s*\n", meaning.strip())
            self._lines.append(_safe(formatted(" ".join(first.split()))))
            for paragraph in rest:
                self._lines += [".IP", _safe(formatted(" ".join(paragraph.split())))]

    def example(self, text: str) -> None:
        """Write lines as they are."""
        self._lines += [".RS 4", ".nf"]
        self._lines += [_safe(_escaped(line)) for line in text.strip("\n").splitlines()]
        self._lines += [".fi", ".RE"]

    def finished(self) -> str:
        """Return the whole page."""
        return "\n".join(self._lines) + "\n"


def formatted(text: str) -> str:
    """Return text with what stands in backticks made bold, and what stands in asterisks underlined."""
    parts = re.split(r"(`[^`]+`|\*[^*\s][^*]*\*)", text)
    return "".join(map(_part, parts))


def _part(part: str) -> str:
    if len(part) > 2 and part[0] == part[-1] == "`":
        return f"\\fB{_escaped(part[1:-1])}\\fR"
    if len(part) > 2 and part[0] == part[-1] == "*":
        return f"\\fI{_escaped(part[1:-1])}\\fR"
    return _escaped(part)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")


def _safe(line: str) -> str:
    """Return a line that is not taken for a request because of how it begins."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
