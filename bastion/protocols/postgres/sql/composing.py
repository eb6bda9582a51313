"""Puts together what a text does by itself and what it runs by name: statements that were prepared, and cursors."""

import json
from collections.abc import Mapping
from typing import Final

from bastion.model.action import Access, Action, Resource
from bastion.protocols.postgres.sql import secrets, showing
from bastion.protocols.postgres.sql.reading import (
    ChangesCatalog,
    Closes,
    Deallocates,
    Declares,
    DiscardsAll,
    EndsTransaction,
    Executes,
    Fetches,
    Prepares,
    Reading,
    RollsBack,
    SessionEffect,
    SetsPath,
)
from bastion.protocols.postgres.sql.statements import PLACEHOLDER

PROTOCOL: Final = "postgres"
_MAX_PLACEHOLDERS: Final = 32
"""Statements run by name that one text may lead to, one through another."""


class Composer:
    """Follows the effects of a reading in order, and what each name stands for at that point."""

    def __init__(
        self, prepared: Mapping[str, Reading], portals: Mapping[str, Reading], *, watches: bool = False
    ) -> None:
        """`watches` says whether anything of the database is watched."""
        self._watches = watches
        self._prepared = dict(prepared)
        self._portals = dict(portals)
        self.resources: list[Resource] = []
        self.effects: list[SessionEffect] = []
        self.used: list[Reading] = []
        self.named: dict[tuple[str, int], Action] = {}
        """What each name stood for, by the name and the identity of its meaning."""
        self.meant: dict[int, Reading] = {}
        """The same, by the place of the effect that names it among those of the reading that is composed."""

    def run(self, reading: Reading) -> None:
        """Take in a reading."""
        outermost = not self.effects
        for place, effect in enumerate(reading.effects):
            self.effects.append(effect)
            if outermost and isinstance(effect, Executes | Fetches):
                known = self._prepared if isinstance(effect, Executes) else self._portals
                self.meant.update({place: known[effect.name]} if effect.name in known else {})
            match effect:
                case Prepares(name, inner):
                    self._prepared[name] = inner
                case Declares(name, inner):
                    self._portals[name] = inner
                case Executes(name, aside):
                    self._named(name, "execute", self._prepared.get(name), aside=aside)
                case Fetches(name):
                    self._named(name, "fetch", self._portals.get(name))
                case Deallocates(None):
                    self._prepared.clear()
                case Deallocates(str() as name):
                    self._prepared.pop(name, None)
                case Closes(None):
                    self._portals.clear()
                case Closes(str() as name):
                    self._portals.pop(name, None)
                case DiscardsAll():
                    self._prepared.clear()
                    self._portals.clear()
                case EndsTransaction() | RollsBack() | ChangesCatalog() | SetsPath():
                    pass

    def _named(self, name: str, verb: str, inner: Reading | None, *, aside: bool = False) -> None:
        if inner is None or not inner.readable or len(self.used) >= _MAX_PLACEHOLDERS:
            unknown = Resource(PLACEHOLDER, name, verb, Access.UNKNOWN, {"missing": inner is None})
            self.resources.append(showing.anything(unknown) if self._watches else unknown)
            return
        self.used.append(inner)
        self.named[name, id(inner)] = inner.action
        found = [r for r in inner.action.resources if r.kind != PLACEHOLDER]
        self.resources += showing.set_aside(found) if aside else found
        self.run(inner)


def composed(action: Action, composer: Composer) -> Action:
    """Return an action with what it runs by name, so that whoever judges `EXECUTE p` sees what `p` is."""
    resources = distinct([r for r in action.resources if r.kind != PLACEHOLDER] + composer.resources)
    secret = action.secret or any(inner.secret for inner in composer.named.values())
    text, shown = action.text, ""
    if secret:
        encoded = text.encode()
        shown = action.shown or secrets.struck(encoded, [(0, len(encoded))])
    for (name, _), inner in composer.named.items():
        head = f"\n-- what runs by the name {json.dumps(name)}:\n"
        text += head + inner.text
        shown += head + inner.safe_text if secret else ""
    return Action(PROTOCOL, worst_verb(resources), text, resources, secret=secret, shown=shown)


def worst_verb(resources: tuple[Resource, ...]) -> str:
    """Return the verb of the worst that is done."""
    return max(resources, key=lambda resource: resource.access).verb


def distinct(resources: list[Resource]) -> tuple[Resource, ...]:
    """Return the resources without repetitions, in order."""
    seen: dict[str, Resource] = {}
    for resource in resources:
        seen.setdefault(repr(resource), resource)
    return tuple(seen.values())
