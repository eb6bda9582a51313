"""Where time comes from, so that tests can bring their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


def _microseconds() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks: one says when something was, the other how long it lasts."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    microseconds: Callable[[], int] = _microseconds
    """The time of day as recordings keep it: microseconds since the Unix epoch."""
