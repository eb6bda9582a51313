"""What texts that differ only in their constants have in common, so that the next one need not be read from its start.

The constants of a text are taken out by PostgreSQL's own grammar and replaced by parameters. What the analysis says of
that holds for whatever value a parameter may have, so it holds for every constant too; and where it says exactly what
it said of the first such text, nothing is lost by taking it for the others. Only what asks, changes rows and does
nothing to the session is treated so; and never where a constant names a column by its position.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import postgast

from bastion.model.action import Action
from bastion.protocols.postgres.sql import guard, secrets
from bastion.protocols.postgres.sql.reading import Outputs, Reading, SearchPath

_SHORT: Final = 1024
"""Bytes of a text that the grammar reads on any thread's stack; longer ones are read whole."""
_KEPT: Final = 2048
_VERBS: Final = frozenset({"select", "insert", "update", "delete"})
_TELLING: Final = (b"by", b"distinct", b"substring", b"format", b"repeat", b"pad", b"convert_to")
"""Words after which it matters what a constant is: it may stand for a column, be no pattern, or make a function fail.
Wherever the letters occur, a text is read whole."""

_Key = tuple[str, frozenset[SearchPath]]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of all texts of one shape; nothing, if they have to be read one by one."""

    form: Action | None
    outputs: tuple[Outputs, ...] = ()


class Shapes:
    """Remembers the shapes of texts. For one analyst, from any thread."""

    def __init__(self, read: Callable[[bytes, frozenset[SearchPath]], Reading]) -> None:
        """`read` reads a text from its start."""
        self._read = read
        self._kept: OrderedDict[_Key, _Shape] = OrderedDict()
        self._lock = threading.Lock()

    def reading(self, text: bytes, paths: frozenset[SearchPath]) -> Reading | None:
        """Return what `text` means, if it is of a shape for which that is known; None if it has to be read."""
        normal = _normal(text)
        if normal is None:
            return None
        key = (normal, paths)
        with self._lock:
            shape = self._kept.get(key)
        if shape is None:
            exact = self._read(text, paths)
            self._keep(key, _Shape(_form(exact, self._read(normal.encode(), paths)), exact.outputs))
            return exact
        if shape.form is None or secrets.suspicious(text):
            return None
        form = shape.form
        action = Action(form.protocol, form.verb, text.decode(), form.resources, facts=form.facts, form=form)
        return Reading(action, outputs=shape.outputs)

    def _keep(self, key: _Key, shape: _Shape) -> None:
        with self._lock:
            self._kept[key] = shape
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)


def _normal(text: bytes) -> str | None:
    """Return `text` with its constants taken out, or None if it is not one to be treated so."""
    if len(text) > _SHORT or b"$" in text or guard.fault(text) is not None:
        return None
    lowered = text.lower()
    if any(word in lowered for word in _TELLING):
        return None
    decoded = text.decode()
    try:
        normal = postgast.normalize(decoded)
    except Exception:  # what the grammar does not take is read, and refused, as usual
        return None
    return normal if normal != decoded else None


def _form(exact: Reading, general: Reading) -> Action | None:
    """Return what all texts of a shape have in common, if the first of them means no more and no less."""
    one, all_of_them = exact.action, general.action
    same = (
        exact.readable
        and general.readable
        and not exact.effects
        and not general.effects
        and exact.statements == general.statements == 1
        and one.verb == all_of_them.verb
        and one.verb in _VERBS
        and one.resources == all_of_them.resources
        and one.facts == all_of_them.facts
        and exact.outputs == general.outputs
        and not exact.unusual_copy
        and not one.secret
        and not all_of_them.secret
    )
    return all_of_them if same else None
