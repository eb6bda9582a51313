"""Plays the steps of a case against an analyst, keeping the maps that the wire would keep."""

from dataclasses import dataclass, field
from typing import Any

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.reading import Declares, Prepares, Reading, SearchPath, SetsPath
from tests.protocols.postgres.sql.policies import Decision, Rules, decide


@dataclass
class Conversation:
    """One session: what is read is judged, and what is allowed takes effect."""

    analyst: CatalogAnalyst
    rules: Rules
    decisions: list[Decision] = field(default_factory=list)
    _prepared: dict[str, Reading] = field(default_factory=dict)
    _portals: dict[str, Reading] = field(default_factory=dict)
    _paths: frozenset[SearchPath] = frozenset()

    def __post_init__(self) -> None:
        self._paths = frozenset({self.analyst.catalog.path})

    def say(self, text: str | bytes) -> Decision:
        """Judge a statement as if it were run."""
        data = text.encode() if isinstance(text, str) else text
        return self._run(self.analyst.read(data, self._paths))

    def play(self, step: dict[str, Any]) -> None:
        """Take one step of a case; those that carry no text mean nothing here."""
        for inner in step.get("batch", ()):
            self.play(inner)
        for key in ("q", "send_q"):
            if key in step:
                self.say(step[key].replace("{DB}", "db").replace("{PORT}", "1"))
        if "q_repeat" in step:
            head, middle, times, tail = step["q_repeat"]
            self.say(head + middle * times + tail)
        if "q_hex" in step:
            self.say(bytes.fromhex(step["q_hex"]))
        if step.get("msg", [""])[0] == "Q":
            self.say(bytes.fromhex(step["msg"][1])[:-1])
        if "parse" in step:
            name, text, *_ = step["parse"]
            self._prepared[name] = self.analyst.read(text.encode(), self._paths)
        if "bind" in step:
            portal, name, *_ = step["bind"]
            if name in self._prepared:
                self._portals[portal] = self._prepared[name]
        if "execute" in step and step["execute"][0] in self._portals:
            self._run(self._portals[step["execute"][0]])

    def _run(self, reading: Reading) -> Decision:
        composed = self.analyst.compose(reading, self._prepared, self._portals)
        decision: Decision = decide(self.rules, composed.action) if composed.readable else "deny"
        self.decisions.append(decision)
        if decision == "allow":
            for effect in composed.effects:
                match effect:
                    case Prepares(name, inner):
                        self._prepared[name] = inner
                    case Declares(name, inner):
                        self._portals[name] = inner
                    case SetsPath(path):
                        self._paths |= {path}
        return decision
