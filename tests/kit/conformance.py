"""What every protocol shows of itself so that tests/protocols/test_conformance.py can hold it to the contract.

A protocol's tests provide a `Sample` as `SAMPLE` in `tests/protocols/<name>/sample.py`; a folder without one fails.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bastion.model.verdict import Allow, Deny, Ruling
from bastion.protocols.contract import Codec, Effect, Hangup, Interceptor, Judge, Note, Send, Side

ALLOW = Allow(("conformance",))
DENY = Deny("conformance", "refused for a test")


@dataclass(frozen=True)
class Sample:
    """One protocol, ready to converse."""

    interceptor: Callable[[], Interceptor[Any]]
    codec: Callable[[Side, int], Codec[Any]]
    """A codec for one side, with a limit of so many bytes to a message."""
    ask: bytes
    """What a client sends that has to be judged, as it goes over the wire."""
    marker: bytes
    """Bytes of `ask` that occur in nothing else the target may be sent."""
    harmless: bytes
    """What a client may send behind `ask`, and that is passed as it is once `ask` is settled."""
    answer: bytes
    """What the target answers to an allowed `ask`."""
    refused: bytes
    """What the target answers, if anything, to what stands in for a refused `ask`."""
    announced: bytes
    """The beginning of a message that claims to be of absurd length."""
    wires: dict[Side, bytes]
    """Some messages of each side."""


class Tape:
    """Carries effects and keeps what came of them, in order."""

    def __init__(self, sample: Sample, ruling: Ruling | None) -> None:
        self.interceptor = sample.interceptor()
        self.ruling = ruling
        self.judged: list[Judge] = []
        self.hung_up = ""
        self.log: list[tuple[str, object]] = []
        self.sent = dict.fromkeys(Side, b"")
        self._codecs = {side: sample.codec(side, 1 << 20) for side in Side}

    def say(self, side: Side, data: bytes) -> None:
        """Have `side` send `data`."""
        for message in self._codecs[side].decode(data):
            self.carry(self.interceptor.received(side, message))

    def rule(self, ruling: Ruling) -> None:
        """Rule on the oldest question that waits."""
        self.carry(self.interceptor.ruled(self.judged.pop(0).ticket, ruling))

    def carry(self, effects: Iterable[Effect[Any]]) -> None:
        """Carry effects out."""
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    data = self._codecs[to].encode(message)
                    self.sent[to] += data
                    self.log.append((f"send {to.value}", data))
                case Judge():
                    self.log.append(("judge", effect.action))
                    if self.ruling is None:
                        self.judged.append(effect)
                    else:
                        self.carry(self.interceptor.ruled(effect.ticket, self.ruling))
                case Note(kind=kind, detail=detail):
                    self.log.append((f"note {kind}", detail))
                case Hangup(reason=reason):
                    self.hung_up = reason
                case _:
                    pass
