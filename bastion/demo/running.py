"""A command of the tour that runs beside other things: what it says is shown as it comes, and can be waited for."""

import re
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO

from bastion.demo.stage import Outcome
from bastion.errors import BastionError


class Unexpected(BastionError):
    """A step of the tour did not do what it should."""

    code = "demo.unexpected"


class Running:
    """A started command. `show` gets each line that it prints, from another thread."""

    def __init__(self, command: str, process: "subprocess.Popen[str]", show: Callable[[str], None]) -> None:
        self._command = command
        self._process = process
        self._show = show
        self._changed = threading.Condition()
        self._said: dict[str, list[str]] = {"out": [], "err": []}
        streams = (("out", process.stdout), ("err", process.stderr))
        self._readers = [threading.Thread(target=self._read, args=(n, s), daemon=True) for n, s in streams]
        for reader in self._readers:
            reader.start()

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return self._process.poll() is not None

    def wait_for(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Return the first match of `pattern` in what the command says; raise `Unexpected` if none comes."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while (found := re.search(pattern, self._text())) is None:
                left = deadline - time.monotonic()
                is_over = not any(reader.is_alive() for reader in self._readers)
                if left <= 0 or is_over:
                    raise Unexpected(f"`{self._command}` did not say what it should: {self._text()[-500:]!r}")
                self._changed.wait(min(left, 0.5))
            return found

    def finish(self, timeout: float = 60.0) -> Outcome:
        """Wait until the command has ended and return what it did."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Unexpected(f"`{self._command}` did not end: {self._text()[-500:]!r}") from None
        for reader in self._readers:
            reader.join(timeout)
        return Outcome(self._command, status, "".join(self._said["out"]), "".join(self._said["err"]))

    def kill(self) -> None:
        """End the command if it still runs."""
        if not self.ended:
            self._process.kill()
            self._process.wait()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._show(line.rstrip("\n"))
                with self._changed:
                    self._said[name].append(line)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _text(self) -> str:
        return "".join(self._said["err"] + self._said["out"])
