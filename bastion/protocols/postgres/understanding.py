"""What a session's texts mean where it stands now: its analyst, its search paths, and how current its catalog is.

A text that cannot be read yet has to wait: for an answer of the target, for the catalog, or because it is too large to
be read on the event loop. Whoever asks is told by None, and finds in `waits_for` what for.
"""

from dataclasses import replace
from itertools import count
from typing import Any, Final

from bastion.errors import LimitExceeded, ProtocolError
from bastion.model.action import Access, Resource
from bastion.protocols.contract import Ask, Note, Send, Side
from bastion.protocols.postgres.answers import IDLE, Answers
from bastion.protocols.postgres.binding import UNKNOWN, Statement, cursor
from bastion.protocols.postgres.coverage import Knowledge
from bastion.protocols.postgres.messages import Frames
from bastion.protocols.postgres.names import Change, key
from bastion.protocols.postgres.questions import ReadText, SeenCatalog
from bastion.protocols.postgres.refusal import Refusal
from bastion.protocols.postgres.renewing import Renewal, name_for
from bastion.protocols.postgres.sql.building import SEEN, SIGHT, Sight, decoded, sight
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
    RollsBack,
    SearchPath,
    SetsPath,
)
from bastion.protocols.postgres.traits import Traits, TraitsCache
from bastion.protocols.postgres.view import Need, View

READ_INLINE: Final = 8 * 1024
"""Bytes of a text above which it is read outside the event loop."""
PATHS_AT_MOST: Final = 32
"""Search paths that one session may have had."""
_RENEWALS_AT_MOST: Final = 20
"""How often in turn the catalog is read for one text, where others change it meanwhile."""
_RESTLESS: Final = Refusal(
    "40001",
    "the catalog is being changed by other sessions faster than it can be read",
    detail="The statement was not sent to the target.",
    hint="Try again.",
)
_UNCOMMITTED: Final = Resource("catalog", "uncommitted changes", "read", Access.UNKNOWN)
_OTHERS: Final = Resource("catalog", "uncommitted changes of another session", "read", Access.UNKNOWN)


class Understanding:
    """Reads texts, brings what was read before up to date, and follows what statements do to the session."""

    def __init__(self, analyst: Analyst, path: SearchPath, answers: Answers) -> None:
        self.waits_for = ""
        """What the latest None stood for: `answers`, `catalog`, `view` or `read`."""
        self.asks: list[Ask | Note | Send[Frames]] = []
        """What is to be passed on; whoever does so empties it."""
        self.generation = 1
        """Grows with every change of paths or catalog: a reading of an earlier one is out of date."""
        self._analyst = analyst
        self._answers = answers
        self._traits = TraitsCache()
        self._paths = frozenset({path})
        self._view = View()
        self._renewed = False
        self._renewals = 0
        self.renewal: Renewal | None = None
        """What the target is being asked on the gateway's own account."""
        self._sight: Sight | None = None
        self._as_of = 0
        self.changing = False
        """Whether a change of the catalog is under way whose end has not been seen."""
        self._asked: ReadText | None = None
        self._answered: tuple[ReadText, Reading] | None = None

    @property
    def knowledge(self) -> Knowledge:
        """What is known of the target's columns and types."""
        return self._analyst

    def read(self, text: bytes, types: tuple[int, ...] = ()) -> Reading | None:
        """Return what `text` means; None if that has to be waited for."""
        # A transaction that begins is not what ends or undoes one; and once it has begun, it may see less.
        begins = self._answers.ready and self._answers.status == IDLE
        if self._view.is_in_doubt and not begins and len(text) <= READ_INLINE:
            reading = self._analyst.read(text, self._paths, types)
            if self._traits.of(reading).indifferent:
                return reading
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

    @property
    def _current(self) -> bool:
        """Whether nothing has to be found out anew before the next text is read."""
        return not (self._view.is_in_doubt or self._renewed or self._analyst.outdated)

    def known(self, text: bytes) -> Reading | None:
        """Return what `text` means, if that is readable and can be said at once; nothing is arranged for if not."""
        if not self._current or len(text) > READ_INLINE:
            return None
        reading = self._analyst.read(text, self._paths, ())
        return None if reading.sqlstate else reading

    def is_current(self, statement: Statement) -> bool:
        """Tell whether a statement's reading is up to date; nothing is arranged for if not."""
        return self._current and statement.generation == self.generation

    def only_runs(self, reading: Reading) -> bool:
        """Tell whether a reading is plain: it runs nothing by name, and binding it could do no harm."""
        return self._traits.is_simple(reading) and not self.is_contested(reading)

    def is_contested(self, reading: Reading) -> bool:
        """Tell whether what a text touches is being changed by another session, whose locks it would wait for."""
        return self._analyst.is_contested(self, reading)

    def was_read(self, reading: Reading) -> None:
        """Take the answer to what was to be read elsewhere."""
        if self._asked is None:
            raise AssertionError("nothing was to be read elsewhere")
        self._answered = (self._asked, reading)
        self._asked = None

    def renewed(self, analyst: Analyst | None) -> Refusal | None:
        """Take over the shared analyst with a newer catalog; None if that is locked, maybe by this very session.

        Returns why no text can be read, if others never leave the catalog alone for as long as it takes to read it.
        """
        if analyst is None:
            self._view.is_blocked = True
            return None
        self._view.took_shared(self._answers.status)
        return self._take_over(analyst)

    def viewed(self, analyst: Analyst) -> Refusal | None:
        """Take over an analyst with the catalog as this session sees it. Returns a refusal as `renewed` does."""
        if self._sight is None:
            raise AssertionError("nobody has asked for the session's own view")
        self._view.took_own(self._sight, self._answers.status)
        return self._take_over(analyst)

    def _take_over(self, analyst: Analyst) -> Refusal | None:
        self._analyst = analyst
        self.generation += 1
        # If it was changed while it was read, what was read may be how it was before.
        self._renewed = not analyst.outdated
        self._renewals = 0 if self._renewed else self._renewals + 1
        if self._renewals < _RENEWALS_AT_MOST:
            return None
        self._renewals = 0
        return _RESTLESS

    def happened(self) -> None:
        """Take note of an answer: a change of the catalog may be done with it, and is once nothing is under way."""
        if self._answers.status == IDLE:
            self.changing = self._answers.outstanding > 0
            self._analyst.changed()
            if not self.changing:
                self._analyst.ends(self)

    def ended(self) -> None:
        """Take note that nothing of the session is left at the target; whatever it had changed is done or undone."""
        if self.changing:
            self._analyst.changed()
        self._analyst.ends(self)

    def may_go_on(self) -> bool:
        """Tell whether texts may be read by the catalog as it is; else arrange for what they wait for."""
        view, answers = self._view, self._answers
        # Others may change it all the time. What is renewed is as new as this message.
        outdated = not self._renewed and self._analyst.outdated
        if not view.is_in_doubt and not outdated:
            self._renewed = False
            return True
        if not view.is_in_doubt and not view.is_own and not view.is_blocked:
            return self._wait_for("catalog", Ask("catalog", None))
        if answers.ready_is_due:
            return self._wait_for("answers")
        if not answers.ready:
            # Within a run up to a Sync, nobody can ask. What is certain all the same, `whole` knows.
            view.is_stale |= outdated
            return True
        match view.need(answers.status, outdated=outdated):
            case Need.NOTHING:
                self._renewed = False
                return True
            case Need.SHARED:
                return self._wait_for("catalog", Ask("catalog", None))
            case Need.SIGHT:
                return self._look("which temporary objects there are", SIGHT)
            case Need.OWN:
                return self._look("the catalog as the session sees it", SEEN)

    def _look(self, what: str, text: str) -> bool:
        names = map(name_for, count())
        unused = next(name for name in names if not self._is_used(name))
        self._as_of = self._analyst.count
        self.renewal = Renewal(text, self._answers.status, unused)
        # What the gateway asks on the session's connection is on its record, as is all that the target hears there.
        return self._wait_for("view", Note("looked", {"at": what}), Send(Side.TARGET, self.renewal.opening()))

    def _is_used(self, name: bytes) -> bool:
        return bool(self._answers.statements.meanings(name, 0) or self._answers.portals.meanings(name, 0))

    def _wait_for(self, what: str, *asks: Ask | Note | Send[Frames]) -> bool:
        self.asks += asks
        self.waits_for = what
        return False

    def looked(self) -> Refusal | Ask | None:
        """Take what the target has answered to the renewal; return what follows before texts are read."""
        renewal, self.renewal = self.renewal, None
        if renewal is None:
            raise AssertionError("the target was not asked")
        self._answers.status = renewal.status
        if renewal.failure is not None:
            return renewal.failure
        try:
            self._sight = sight(decoded(row for row in renewal.rows if row[0] == b"sight"))
        except (ValueError, LookupError) as error:
            raise ProtocolError("the target's answer about its catalog cannot be read") from error
        if not renewal.is_whole:
            self._view.saw(self._sight, renewal.status)
            return None
        if not self._view.can_see(self._sight, renewal.status):
            return None
        return Ask("view", SeenCatalog(self._analyst, tuple(renewal.rows), self._as_of))

    def refresh(self, statement: Statement) -> bool:
        """Bring a statement's reading up to date, as the target plans it anew; say False if that must be waited for."""
        if statement.generation == self.generation:
            return True
        reading: Reading | None = UNKNOWN
        if statement.text is not None:
            reading = self.read(statement.text, statement.types)
        elif statement.source:
            reading = self.read(statement.source)
        if reading is None:
            return False
        if statement.source and not reading.sqlstate:
            reading = next((e.reading for e in reading.effects if isinstance(e, Prepares)), UNKNOWN)
        statement.read_as(UNKNOWN if reading.sqlstate else reading, self.generation)
        return True

    def whole(self, reading: Reading, run: int, since: int = 0) -> Traits | None:
        """Return a reading's traits with all that it runs by name and all doubts added; None if that must wait.

        `since` is the `epoch` in which it was made fast, such as by binding it; 0 for now.
        """
        traits = self._traits.of(reading)
        concerns_others = self._concerns_others(reading)
        if concerns_others and self._answers.ready_is_due:
            # Else it would be done some time after others were told of it, and its answer be behind all that is owed.
            self.waits_for = "answers"
            return None
        if self.changing and any(r.kind == "transaction" and r.verb == "prepare" for r in reading.action.resources):
            traits = self._doubtful(reading)  # its locks outlast the session, and so what is known of its changes
        elif concerns_others and any(not self._traits.of(p.reading).indifferent for p in self._answers.executing):
            traits = self._doubtful(reading)  # for the same reason; but nobody may wait for answers to half a run
        elif not traits.indifferent:
            if self._view.is_stale and not self.may_go_on():
                return None
            # What a write sets off is looked up when it runs, not when it was bound.
            older = since not in (0, self.epoch) and reading.action.access > Access.READ
            if self._view.is_stale or older:
                traits = self._doubtful(reading)
        whole = self._composed(traits, run) if traits.runs_names else traits
        if whole is not None and self.is_contested(whole.reading):
            return self._doubtful(whole.reading, _OTHERS)
        return whole

    def _concerns_others(self, reading: Reading) -> bool:
        """Tell whether other sessions may find another catalog once it has run."""
        return any(
            not (effect.adds or effect.own)
            if isinstance(effect, ChangesCatalog)
            else self.changing and isinstance(effect, EndsTransaction)
            for effect in reading.effects
        )

    def _doubtful(self, reading: Reading, doubt: Resource = _UNCOMMITTED) -> Traits:
        action = replace(reading.action, resources=(*reading.action.resources, doubt), form=None)
        return self._traits.of(replace(reading, action=action))

    @property
    def epoch(self) -> int:
        """What grows with every change of the catalog by this session, from 1."""
        return 1 + self._view.epoch

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
                    older = cursors[0].epoch not in (0, self.epoch)
                    if not older or cursors[0].reading.action.access <= Access.READ:
                        portals[effect.name] = cursors[0].reading
        return self._traits.of(self._analyst.compose(traits.reading, prepared, portals))

    def changes(self, reading: Reading, run: int) -> tuple[Change[Any], ...]:
        """Return what a text that is sent now does to names, and follow what it may do to paths and catalog."""
        statements, portals = self._answers.statements, self._answers.portals
        changes: list[Change[Any]] = []
        for effect in reading.effects:
            match effect:
                case Prepares(name=name, reading=inner):
                    prepared = Statement(None, inner, self.generation)
                    if reading.statements == 1 and len(reading.effects) == 1:
                        prepared.source = reading.action.text.encode()
                    changes.append(statements.change(key(name), prepared, run))
                case Deallocates(name=name):
                    changes.append(statements.change(None if name is None else key(name), None, run))
                case Declares(name=name, reading=inner, holdable=holdable):
                    changes.append(portals.change(key(name), cursor(inner, holdable=holdable), run))
                case Closes(name=name):
                    changes.append(portals.change(None if name is None else key(name), None, run))
                case EndsTransaction():
                    changes.append(portals.ends(run))
                    self._view.went_back()
                    if self.changing:
                        # What is read from before this moment on is not as it will be.
                        self._analyst.changed()
                case RollsBack():
                    self._view.went_back()
                case DiscardsAll():
                    changes.append(statements.change(None, None, run))
                    changes.append(portals.change(None, None, run))
                case SetsPath(path=path):
                    self._may_search(path)
                case ChangesCatalog(adds=adds, own=own, names=names):
                    self._view.changed()
                    if not (adds or own):
                        self.changing = True
                        self._analyst.begins(self, names)
                        # In an open transaction it is nobody else's business yet. To have them read the catalog anew
                        # would make them all wait for the locks of this session.
                        if self._answers.status == IDLE:
                            self._analyst.changed()
                case Executes() | Fetches():
                    pass
        traits = self._traits.of(reading)
        if traits.doubts and not traits.by_name:
            self._view.changed()
        elif traits.stirs:
            self._view.stirred()
        return tuple(changes)

    def _may_search(self, path: SearchPath) -> None:
        if path in self._paths:
            return
        if len(self._paths) >= PATHS_AT_MOST:
            raise LimitExceeded(f"more than {PATHS_AT_MOST} different search paths in one session")
        self._paths |= {path}
        self.generation += 1
