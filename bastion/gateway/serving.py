"""Connections to the control API: only so many, and none that dawdles before its request is there.

uvicorn itself waits for a request for ever and turns away whoever comes when too many wait, so a handful of silent
connections would keep everybody out, approvers included. Here the one that has been silent longest makes room.
"""

import asyncio
import logging
from typing import Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol


class _Silent(Protocol):
    """A connection that has asked for nothing, or for nothing more."""

    def drop(self) -> None:
        """Close it at once."""


def connections(at_most: int, seconds: float) -> type[H11Protocol]:
    """Return a kind of connection of which `at_most` exist, each silent for so many seconds at most."""
    # What a client sends must not fill the log; what goes wrong in an answer is logged where it happens.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    silent: dict[_Silent, None] = {}

    class Connection(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > at_most:
                if not silent:
                    transport.abort()
                    return
                next(iter(silent)).drop()
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_no_more()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._answers():
                self._wait_no_more()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._answers() and not self.transport.is_closing():
                self._wait()

        def _answers(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._wait_no_more()
            silent[self] = None
            self._deadline = self.loop.call_later(seconds, self.drop)

        def _wait_no_more(self) -> None:
            silent.pop(self, None)
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def drop(self) -> None:
            """Close at once, for somebody else's sake."""
            self._wait_no_more()
            self.transport.abort()

    return Connection
