"""The shapes of the leak test, read from `corpus.yaml`, where their keys are explained."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

_CORPUS: Final = Path(__file__).with_name("corpus.yaml")
_KEYS: Final = frozenset({"name", "steps", "oracle", "shows", "fails", "blind", "commit", "since", "needs"})


_QUERIES: Final = ("select ", "values ", "table ", "with ")
_CHANGES: Final = re.compile(r"\b(?:into|update|insert|delete|merge)\b")


@dataclass(frozen=True, slots=True)
class Shape:
    """One thing to try."""

    name: str
    family: str
    variants: tuple[tuple[str, ...], ...]
    """The statements of one run; of two for an oracle."""
    oracle: bool = False
    shows: tuple[str, ...] = ()
    fails: bool = False
    blind: bool = False
    commit: bool = False
    since: int = 0
    needs: str = ""

    @property
    def harmless(self) -> bool:
        """Whether it has to come back as it is."""
        return bool(self.shows)

    @property
    def is_copy(self) -> bool:
        """Whether rows leave by COPY."""
        return any(step.startswith("copy ") for steps in self.variants for step in steps)

    @property
    def is_several(self) -> bool:
        """Whether several statements are sent as one text, which only the simple protocol allows."""
        return any(";" in step and not step.startswith("do ") for steps in self.variants for step in steps)

    @property
    def is_query(self) -> bool:
        """Whether it is one query that a cursor can be opened for."""
        (steps, *more) = self.variants
        if more or len(steps) > 1 or self.fails or self.is_several:
            return False
        return steps[0].startswith(_QUERIES) and not _CHANGES.search(steps[0].removesuffix(" for update"))


@cache
def shapes() -> tuple[Shape, ...]:
    """Return every shape, in the order of the file."""
    families: dict[str, list[dict[str, Any]]] = yaml.safe_load(_CORPUS.read_text())
    return tuple(_shape(family, entry) for family, entries in families.items() for entry in entries)


def _shape(family: str, entry: dict[str, Any]) -> Shape:
    if unknown := entry.keys() - _KEYS:
        raise ValueError(f"{entry['name']}: there is no key {', '.join(sorted(unknown))}")
    steps = entry.get("steps", [])
    variants = (
        [(step,) for step in entry["oracle"]] if "oracle" in entry else [[steps] if isinstance(steps, str) else steps]
    )
    return Shape(
        name=entry["name"],
        family=family,
        variants=tuple(tuple(steps) for steps in variants),
        oracle="oracle" in entry,
        shows=tuple(map(str, entry.get("shows", ()))),
        fails=entry.get("fails", False),
        blind=entry.get("blind", False),
        commit=entry.get("commit", False),
        since=entry.get("since", 0),
        needs=entry.get("needs", ""),
    )
