"""Where time comes from, so that tests can bring their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks: one says when something was, the other how long it lasts."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
