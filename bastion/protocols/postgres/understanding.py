"""What a session's texts mean where it stands now: its analyst, its search paths, and how current its catalog is.

A text that cannot be read yet has to wait: for an answer of the target, for the catalog, or because it is too large to
be read on the event loop. Whoever asks is told by None, and finds in `waits_for` what for.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from bastion.errors import LimitExceeded
from bastion.model.action import Access, Resource
from bastion.protocols.contract import Ask
from bastion.protocols.postgres.answers import IDLE, Answers
from bastion.protocols.postgres.binding import UNKNOWN, Statement, cursor
from bastion.protocols.postgres.names import Change, key
from bastion.protocols.postgres.sql.reading import (
    Analyst,
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
    SearchPath,
    SetsPath,
)
from bastion.protocols.postgres.traits import Traits, TraitsCache

READ_INLINE: Final = 8 * 1024
"""Bytes of a text above which it is read outside the event loop."""
PATHS_AT_MOST: Final = 32
"""Search paths that one session may have had."""
_UNCOMMITTED: Final = Resource("catalog", "uncommitted changes", "read", Access.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ReadText:
    """The question to `Ask("read", …)`: what does this text mean? Answered with a `Reading`."""

    analyst: Analyst
    text: bytes
    paths: frozenset[SearchPath]
    types: tuple[int, ...] = ()


class Understanding:
    """Reads texts, brings what was read before up to date, and follows what statements do to the session."""

    def __init__(self, analyst: Analyst, path: SearchPath, answers: Answers) -> None:
        self.waits_for = ""
        """What the latest None stood for: `answers`, `catalog` or `read`."""
        self.asks: list[Ask] = []
        """Questions to be passed on; whoever does so empties it."""
        self.generation = 1
        """Grows with every change of paths or catalog: a reading of an earlier one is out of date."""
        self._analyst = analyst
        self._answers = answers
        self._traits = TraitsCache()
        self._paths = frozenset({path})
        self._stale = False
        self._renewed = False
        self.changing = False
        """Whether a change of the catalog is under way whose end has not been seen."""
        self._asked: ReadText | None = None
        self._answered: tuple[ReadText, Reading] | None = None

    def read(self, text: bytes, types: tuple[int, ...] = ()) -> Reading | None:
        """Return what `text` means; None if that has to be waited for."""
        if not self.may_go_on():
            return None
        if len(text) <= READ_INLINE:
            return self._analyst.read(text, self._paths, types)
        question = ReadText(self._analyst, text, self._paths, types)
        answered, self._answered = self._answered, None
        if answered is not None and answered[0] == question:
            return answered[1]
        self._asked = question
        self.asks.append(Ask("read", question))
        self.waits_for = "read"
        return None

    def was_read(self, reading: Reading) -> None:
        """Take the answer to what was to be read elsewhere."""
        if self._asked is None:
            raise AssertionError("nothing was to be read elsewhere")
        self._answered = (self._asked, reading)
        self._asked = None

    def renewed(self, analyst: Analyst) -> None:
        """Take over an analyst with a newer catalog."""
        self._analyst = analyst
        self.generation += 1
        self._stale = False
        self._renewed = True

    def happened(self) -> None:
        """Take note of an answer: a change of the catalog may be done with it, and is once nothing is under way."""
        if self._answers.status == IDLE:
            self.changing = self._answers.outstanding > 0
            self._analyst.changed()

    def may_go_on(self) -> bool:
        """Tell whether texts may be read while the catalog is out of date; else arrange for what it waits for."""
        answers = self._answers
        if not self._stale:
            # Others have changed it. What is renewed is as new as this message, whatever they do meanwhile.
            if self._renewed or not self._analyst.outdated:
                self._renewed = False
                return True
            self.asks.append(Ask("catalog", None))
            self.waits_for = "catalog"
            return False
        if answers.ready_is_due:
            self.waits_for = "answers"
            return False
        if not answers.outstanding and answers.status == IDLE:
            self.asks.append(Ask("catalog", None))
            self.waits_for = "catalog"
            return False
        return True

    def refresh(self, statement: Statement) -> bool:
        """Bring a statement's reading up to date, as the target plans it anew; say False if that must be waited for."""
        if statement.generation == self.generation:
            return True
        reading: Reading | None = UNKNOWN
        if statement.text is not None:
            reading = self.read(statement.text, statement.types)
        if reading is None:
            return False
        statement.read_as(UNKNOWN if reading.sqlstate else reading, self.generation)
        return True

    def whole(self, reading: Reading, run: int) -> Traits | None:
        """Return a reading's traits with all that it runs by name and all doubts added; None if that must wait."""
        traits = self._traits.of(reading)
        if self._stale:
            if not self.may_go_on():
                return None
            if not traits.only_ends:
                # Within the transaction that changed it, nobody but the target knows the catalog.
                action = replace(reading.action, resources=(*reading.action.resources, _UNCOMMITTED), form=None)
                traits = self._traits.of(replace(reading, action=action))
        return self._composed(traits, run) if traits.runs_names else traits

    def traits(self, reading: Reading) -> Traits:
        """Return the traits of a reading as it is."""
        return self._traits.of(reading)

    def _composed(self, traits: Traits, run: int) -> Traits | None:
        prepared: dict[str, Reading] = {}
        portals: dict[str, Reading] = {}
        for effect in traits.reading.effects:
            if isinstance(effect, Executes):
                statements = self._answers.statements.meanings(key(effect.name), run)
                if len(statements) > 1:
                    self.waits_for = "answers"
                    return None
                if statements:
                    if not self.refresh(statements[0]):
                        return None
                    prepared[effect.name] = statements[0].reading
            elif isinstance(effect, Fetches):
                cursors = self._answers.portals.meanings(key(effect.name), run)
                if len(cursors) > 1:
                    self.waits_for = "answers"
                    return None
                if cursors and not cursors[0].arguments:  # which nobody would see who judges a FETCH
                    portals[effect.name] = cursors[0].reading
        return self._traits.of(self._analyst.compose(traits.reading, prepared, portals))

    def changes(self, reading: Reading, run: int) -> tuple[Change[Any], ...]:
        """Return what a text that is sent now does to names, and follow what it may do to paths and catalog."""
        statements, portals = self._answers.statements, self._answers.portals
        changes: list[Change[Any]] = []
        for effect in reading.effects:
            match effect:
                case Prepares(name=name, reading=inner):
                    changes.append(statements.change(key(name), Statement(None, inner, self.generation), run))
                case Deallocates(name=name):
                    changes.append(statements.change(None if name is None else key(name), None, run))
                case Declares(name=name, reading=inner, holdable=holdable):
                    changes.append(portals.change(key(name), cursor(inner, holdable=holdable), run))
                case Closes(name=name):
                    changes.append(portals.change(None if name is None else key(name), None, run))
                case EndsTransaction():
                    changes.append(portals.ends(run))
                case DiscardsAll():
                    changes.append(statements.change(None, None, run))
                    changes.append(portals.change(None, None, run))
                case SetsPath(path=path):
                    self._may_search(path)
                case ChangesCatalog(adds=adds):
                    self._stale = True
                    if not adds:
                        self.changing = True
                        self._analyst.changed()
                case Executes() | Fetches():
                    pass
        return tuple(changes)

    def _may_search(self, path: SearchPath) -> None:
        if path in self._paths:
            return
        if len(self._paths) >= PATHS_AT_MOST:
            raise LimitExceeded(f"more than {PATHS_AT_MOST} different search paths in one session")
        self._paths |= {path}
        self.generation += 1
