"""The tags that statements are completed with, and the rows they tell of."""

from typing import Final

from bastion.model.text import visible
from bastion.protocols.postgres import messages as m

_KEPT: Final = 1000
_SHOWN: Final = 4000
"""Characters of the tags of one text, behind which it is only said that there are more."""
_MORE: Final = "; and more"
_known: Final[dict[bytes, tuple[str, int]]] = {}
"""Those that have come; there are few different ones."""


def read(data: bytes, start: int, end: int) -> tuple[str, int]:
    """Return the tag of a CommandComplete message, and how many rows it tells of."""
    return _known.get(data[start + 5 : end]) or _read(data, start, end)


def joined(before: str, tag: str) -> str:
    """Return the tags of several statements of one text as one."""
    if not before:
        return tag
    if len(before) < _SHOWN:
        return f"{before}; {tag}"
    return before if before.endswith(_MORE) else before + _MORE


def _read(data: bytes, start: int, end: int) -> tuple[str, int]:
    tag = visible(m.read_tag(data, start, end))
    count = tag.rpartition(" ")[2]
    found = tag, int(count) if count.isdecimal() else 0
    if len(_known) < _KEPT:
        _known[data[start + 5 : end]] = found
    return found
