"""Puts refusals on the record, and a flood of them as a count: who proves nobody does not choose how much is kept."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from bastion.errors import RecordingError
from bastion.gateway import records

_AT_MOST = 120
_SECONDS = 60.0
_LONGEST = 300


class Refusals:
    """The refusals of one gateway: so many a minute one by one, the rest by their number."""

    def __init__(
        self,
        audit: Callable[[bytes], None],
        monotonic: Callable[[], float],
        *,
        at_most: int = _AT_MOST,
        seconds: float = _SECONDS,
    ) -> None:
        self._audit = audit
        self._monotonic = monotonic
        self._at_most = at_most
        self._seconds = seconds
        self._began = monotonic()
        self._told = 0
        self._untold = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, what: str, by: str, detail: Mapping[str, str]) -> bool:
        """Record one refusal; tell whether it was recorded by itself, and not only counted."""
        if self._monotonic() - self._began >= self._seconds:
            self.settle()
            self._began, self._told = self._monotonic(), 0
        if self._told >= self._at_most:
            self._untold += 1
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._seconds, self._due)
            return False
        self._told += 1
        self._audit(records.audited(what, short(by), {name: short(text) for name, text in detail.items()}))
        return True

    def _due(self) -> None:
        with contextlib.suppress(RecordingError):  # whoever wrote before has reported it
            self.settle()

    def settle(self) -> None:
        """Record how many were only counted."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._untold:
            count, self._untold = self._untold, 0
            self._audit(records.audited("refusals not told one by one", "", {"count": count}))


def short(text: str) -> str:
    """Return what somebody sent, at a length that fits the record, and without what UTF-8 cannot hold."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} and {len(text) - _LONGEST} characters more"
    return text.encode("utf-8", "backslashreplace").decode()
