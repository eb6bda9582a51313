"""Cuts a script into statements and backslash commands, where psql cuts it.

Decides nothing: whatever is cut is judged by the gateway as the target will read it. Kept to psql's rules
(`src/fe_utils/psqlscan.l`): a semicolon ends a statement outside of quotes, comments, parentheses and the
`BEGIN ATOMIC … END` of a function; a backslash outside of quotes and comments begins a command that ends with its
line. Text is read line by line, so that a long script is never searched twice.
"""

import re
from dataclasses import dataclass

_DOLLAR = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$")
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_ROUTINES = {"function", "procedure"}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, as the target will read it."""

    text: str
    line: int
    """The line of the script on which it ends."""


@dataclass(frozen=True, slots=True)
class Command:
    """One backslash command, and the statement that stood unfinished before it."""

    text: str
    line: int
    pending: str


class Splitter:
    """Takes a script line by line."""

    def __init__(self) -> None:
        self._line = 0
        self._begin()

    def _begin(self) -> None:
        self._pieces: list[str] = []
        self._inside = ""
        """What has been opened: a quote, `--`, a dollar tag, or `/*`; empty in plain text."""
        self._escapes = False
        self._comments = 0
        self._parentheses = 0
        self._blocks = 0
        self._words: list[str] = []

    def feed(self, line: str) -> list[Statement | Command]:
        """Return what `line`, with its line end, completes."""
        self._line += 1
        found: list[Statement | Command] = []
        at = start = 0
        while at < len(line):
            if self._inside:
                at = self._pass_inside(line, at)
                continue
            char = line[at]
            if char == ";" and not self._parentheses and not self._blocks:
                self._pieces.append(line[start : at + 1])
                text = "".join(self._pieces).strip()
                if text != ";":
                    found.append(Statement(text, self._line))
                self._begin()
                at = start = at + 1
            elif char == "\\":
                self._pieces.append(line[start:at])
                found.append(Command(line[at:].strip(), self._line, self.pending))
                self._pieces.append("\n")
                return found
            else:
                at = self._pass_plain(line, at)
        self._pieces.append(line[start:])
        if self._inside == "--":
            self._inside = ""
        return found

    @property
    def pending(self) -> str:
        """The statement that is not finished yet."""
        return "".join(self._pieces).strip()

    def forget(self) -> None:
        """Drop the unfinished statement."""
        self._begin()

    def finish(self) -> Statement | None:
        """Return what is left when the script has ended: psql sends a last statement without its semicolon."""
        text = self.pending
        empty = not text or (self._inside == "" and not self._words and _only_comments(text))
        self._begin()
        return None if empty else Statement(text, self._line)

    def _pass_plain(self, line: str, at: int) -> int:
        """Return where reading goes on after the token that begins at `at` outside of any quote."""
        char = line[at]
        if char in "'\"":
            self._inside, self._escapes = char, char == "'" and _escape_string(line, at)
            return at + 1
        if line.startswith("--", at):
            self._inside = "--"
            return at + 2
        if line.startswith("/*", at):
            self._inside, self._comments = "/*", 1
            return at + 2
        if char == "$" and (tag := _DOLLAR.match(line, at)):
            self._inside = tag.group()
            return tag.end()
        if word := _WORD.match(line, at):
            self._word(word.group().lower())
            return word.end()
        if char.isdigit():
            # A dollar sign behind a digit belongs to a parameter or is junk, never a quote.
            return _end_of_number(line, at)
        if char == "(":
            self._parentheses += 1
        elif char == ")":
            self._parentheses = max(0, self._parentheses - 1)
        return at + 1

    def _pass_inside(self, line: str, at: int) -> int:
        match self._inside:
            case "--":
                return len(line)
            case "/*":
                return self._pass_comment(line, at)
            case "'" | '"' as quote:
                return self._pass_quoted(line, at, quote)
            case tag:
                end = line.find(tag, at)
                if end < 0:
                    return len(line)
                self._inside = ""
                return end + len(tag)

    def _pass_quoted(self, line: str, at: int, quote: str) -> int:
        while at < len(line):
            if self._escapes and line[at] == "\\":
                at += 2
            elif line[at] == quote:
                if line.startswith(quote, at + 1):
                    at += 2
                    continue
                self._inside = ""
                return at + 1
            else:
                at += 1
        return len(line)

    def _pass_comment(self, line: str, at: int) -> int:
        while at < len(line):
            if line.startswith("/*", at):
                self._comments += 1
                at += 2
            elif line.startswith("*/", at):
                self._comments -= 1
                at += 2
                if not self._comments:
                    self._inside = ""
                    return at
            else:
                at += 1
        return at

    def _word(self, word: str) -> None:
        """Follow `BEGIN ATOMIC … END` in the definition of a routine, where semicolons belong to the body."""
        if len(self._words) < 4:
            self._words.append(word)
        head = self._words
        defines = head[:1] == ["create"] and (
            (len(head) > 1 and head[1] in _ROUTINES)
            or (len(head) > 3 and head[1:3] == ["or", "replace"] and head[3] in _ROUTINES)
        )
        if not defines or self._parentheses:
            return
        if word == "begin" or (word == "case" and self._blocks):
            self._blocks += 1
        elif word == "end" and self._blocks:
            self._blocks -= 1


def _escape_string(line: str, quote: int) -> bool:
    """Tell whether the quote at `quote` opens an E'…' string, in which backslashes escape."""
    before = line[quote - 1] if quote else ""
    earlier = line[quote - 2] if quote > 1 else " "
    return before in ("e", "E") and not (earlier.isalnum() or earlier in "_$" or ord(earlier) > 0x7F)


def _end_of_number(line: str, at: int) -> int:
    while at < len(line) and (line[at].isalnum() or line[at] in "_$."):
        at += 1
    return at


def _only_comments(text: str) -> bool:
    """Tell whether a text without words consists of comments; one with digits or signs alone is a statement."""
    rest = re.sub(r"--[^\n]*", "", text)
    return not re.sub(r"/\*.*?\*/", "", rest, flags=re.DOTALL).strip()
