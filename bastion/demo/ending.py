"""Has a polite end, too, take everything down: what Ctrl-C does, SIGTERM and a closed terminal do."""

import signal
from types import FrameType
from typing import NoReturn


def end_in_order() -> None:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt."""

    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
