"""Makes text from outside harmless on a terminal: nothing hidden, nothing lost, nothing that acts.

Rendering is reversible: `decode(visible(text)) == text`. A backslash itself is doubled, every control,
bidirectional, invisible or unassigned character becomes an escape, and so does a lone surrogate.
"""

import re
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_EXTRA = {"\u115f", "\u1160", "\u3164", "\uffa0", "\u2800", "\u034f", "\u17b4", "\u17b5"}
_ESCAPE = re.compile(r"\\(?:(\\)|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([nt]))")


def visible(text: str, *, lines: bool = False) -> str:
    """Return `text` with every character that could hide, reorder or act replaced by an escape.

    With `lines`, line feeds stay and tabs stay: for showing a statement in the shape its author gave it.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_shown(char, lines) for char in text)


def decode(shown: str) -> str:
    """Return the text that `visible` was given."""
    return _ESCAPE.sub(_original, shown)


def _shown(char: str, lines: bool) -> str:
    if char == "\\":
        return "\\\\"
    if char in "\n\t":
        return char if lines else {"\n": "\\n", "\t": "\\t"}[char]
    if not _suspicious(char):
        return char
    point = ord(char)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _suspicious(char: str) -> bool:
    if char in _EXTRA or unicodedata.category(char) in _HIDDEN:
        return True
    point = ord(char)
    is_selector = 0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF or 0x180B <= point <= 0x180F
    is_odd_space = unicodedata.category(char) == "Zs" and char != " "
    return is_selector or is_odd_space


def _original(match: re.Match[str]) -> str:
    backslash, byte, short, long, control = match.groups()
    if backslash:
        return "\\"
    if control:
        return {"n": "\n", "t": "\t"}[control]
    return chr(int(byte or short or long, 16))
