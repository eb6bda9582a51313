"""Regular expressions over bytes, by an engine that takes time in proportion to the text, whatever the two are.

Refuses what would make an expression of a policy unsafe to run over what targets send: one that can match nothing at
all, that is too large, or that takes characters apart.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import re2

Span = tuple[int, int]
"""Where something begins and ends, in bytes."""

LONGEST_PATTERN: Final = 1000
"""Characters of an expression in a policy."""

_LARGEST_PROGRAM: Final = 20_000
_SET_MEMORY: Final = 32 << 20
_SENTINEL: Final = b"\x00bastion\x00"


def built_in(pattern: bytes) -> Any:
    """Compile an expression of our own, which sees bytes: text that is no UTF-8 is searched all the same."""
    return re2.compile(pattern, _options(re2.Options.Encoding.LATIN1))


def custom(pattern: str) -> Any:
    """Compile an expression of a policy, which sees the characters of UTF-8."""
    return re2.compile(pattern, _options(re2.Options.Encoding.UTF8))


def search(pattern: Any, text: bytes, at: int, *, group: int = 0, end: int | None = None) -> Span | None:
    """Return where the first match at or behind `at` is; what stands before `at` still counts as its neighbour."""
    match = pattern.search(text, at, end)
    return match.span(group) if match is not None else None


class Hints:
    """Many expressions at once: which of them a text matches somewhere, in one pass.

    Raises ValueError for more than fits into the memory that one pass may use: the engine would then quietly find
    nothing, and what is not found is not covered.
    """

    def __init__(self, hints: Sequence[bytes | str]) -> None:
        characters = any(isinstance(hint, str) for hint in hints)
        encoding = re2.Options.Encoding.UTF8 if characters else re2.Options.Encoding.LATIN1
        self._set = re2.Set.SearchSet(_options(encoding, _SET_MEMORY))
        try:
            for hint in hints:
                self._set.Add(hint)
            sentinel = self._set.Add(re2.escape(_SENTINEL))
            self._set.Compile()
        except re2.error as error:
            raise ValueError("the patterns are too large to be searched for together") from error
        self.within: Callable[[bytes | memoryview], list[int] | None] = self._set.Match
        """Returns which of the expressions match, by their places, or None where none does.

        One place more than there are expressions stands for the text by which the set was tried out.
        """
        if sentinel not in (self.within(_SENTINEL) or ()):
            raise ValueError("the patterns are too large to be searched for together")


def check_pattern(text: str) -> str:
    """Return an expression that a policy may use; raises ValueError, in words for its author, for any other."""
    if not text:
        raise ValueError("an empty pattern matches everywhere")
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"a pattern of {len(text)} characters, more than {LONGEST_PATTERN}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a pattern that is not valid Unicode") from error
    pieces = list(_pieces(text))
    if r"\C" in pieces:
        raise ValueError(r"\C takes characters apart; write . instead")
    try:
        compiled, bare = custom(text), custom(without_anchors(text))
    except re2.error as error:
        raise ValueError(f"not a pattern of RE2 ({_reason(error)})") from error
    if bare.fullmatch(b"") is not None:
        raise ValueError("the pattern also matches where there is nothing; let it match at least one character")
    if max(compiled.programsize, bare.programsize) > _LARGEST_PROGRAM:
        raise ValueError("the pattern is too large; repeat less in it")
    return text


def without_anchors(text: str) -> str:
    r"""Return an expression with `^ $ \A \z \b \B` taken out, which matches wherever `text` does, and more.

    A cell that stands in the middle of a message has other neighbours there than by itself.
    """
    return "".join("(?:)" if piece in _ANCHORS else piece for piece in _pieces(text))


_ANCHORS: Final = frozenset({"^", "$", r"\A", r"\z", r"\b", r"\B"})


def _pieces(text: str) -> Iterator[str]:
    """Cut an expression at its joints: an escape, a class or a quotation is one piece, so is any other character."""
    at = 0
    while at < len(text):
        end = _end_of_piece(text, at)
        yield text[at:end]
        at = end


def _end_of_piece(text: str, at: int) -> int:
    if text.startswith(r"\Q", at):
        end = text.find(r"\E", at + 2)
        return len(text) if end < 0 else end + 2
    if text[at] == "\\":
        return _end_of_escape(text, at)
    if text[at] != "[":
        return at + 1
    at += 2 if text.startswith("[^", at) else 1
    first = True
    while at < len(text) and (text[at] != "]" or first):
        first = False
        if text[at] == "\\":
            at = _end_of_escape(text, at)
        elif text.startswith("[:", at) and (end := text.find(":]", at + 2)) >= 0:
            at = end + 2
        else:
            at += 1
    return at + 1


def _end_of_escape(text: str, at: int) -> int:
    if text[at + 1 : at + 3] in {"p{", "P{", "x{"} and (end := text.find("}", at)) >= 0:
        return end + 1
    return min(at + 2, len(text))


def _options(encoding: Any, memory: int = 8 << 20) -> Any:
    options = re2.Options()
    options.encoding = encoding
    options.log_errors = False
    options.max_mem = memory
    return options


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
