"""Stands between a driver and the gateway, and keeps every byte that the driver receives.

What a driver shows to its caller is less than what reached its process; this sees all of it, whatever the driver.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

_PIECE: Final = 65536


class Tap:
    """A unix socket in `directory` that leads to another one, while the `with` block runs."""

    def __init__(self, directory: Path, name: str, gateway: Path) -> None:
        """Listen as `name`, as drivers look for it, for connections to `gateway`."""
        self.directory = directory
        self._gateway = gateway
        self._kept: list[bytes] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = directory / name
        self._listener.bind(str(self._path))
        self._listener.listen(16)

    def __enter__(self) -> "Tap":
        """Start to accept."""
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up everywhere."""
        # A thread that waits in accept() is woken by shutdown(), not by close().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        # After the one that accepts, nothing is added to what is open.
        self._threads[0].join()
        with self._lock:
            ends = list(self._open)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join()
        self._path.unlink(missing_ok=True)

    def taken(self) -> bytes:
        """Return what drivers received since this was asked last."""
        with self._lock:
            data = b"".join(self._kept)
            self._kept.clear()
        return data

    def _accept(self) -> None:
        while True:
            try:
                driver, _ = self._listener.accept()
            except OSError:
                return
            gateway = socket.socket(socket.AF_UNIX)
            try:
                gateway.connect(str(self._gateway))
            except OSError:
                driver.close()
                gateway.close()
                continue
            with self._lock:
                self._open |= {driver, gateway}
            self._start(self._serve, driver, gateway)

    def _serve(self, driver: socket.socket, gateway: socket.socket) -> None:
        """Carry bytes both ways until the gateway hangs up."""
        with driver, gateway:
            asking = threading.Thread(target=_carry, args=(driver, gateway), daemon=True)
            asking.start()
            _carry(gateway, driver, self._keep)
            with contextlib.suppress(OSError):
                driver.shutdown(socket.SHUT_RDWR)
            asking.join()
            with self._lock:
                self._open -= {driver, gateway}

    def _keep(self, data: bytes) -> None:
        with self._lock:
            self._kept.append(data)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _carry(source: socket.socket, sink: socket.socket, keep: Callable[[bytes], None] | None = None) -> None:
    """Carry bytes one way until either end hangs up; what is kept is kept before it is passed on."""
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            if keep is not None:
                keep(data)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
