"""A gateway of one's own: a process with its files in one temporary directory, gone when its starter is."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from bastion.demo.leash import Leashed
from bastion.errors import GatewayError

_START = 60.0
_LOG = "gateway.log"


class Place:
    """The directory of such a gateway."""

    def __init__(self, directory: Path) -> None:
        """Make what the gateway needs below `directory`, which belongs to it alone."""
        self.directory = directory
        for path in (directory, self.runtime, self.state):
            path.mkdir(mode=0o700, exist_ok=True)

    @property
    def runtime(self) -> Path:
        """Where the gateway's sockets are."""
        return self.directory / "run"

    @property
    def state(self) -> Path:
        """What the gateway keeps: recordings, keys, secrets."""
        return self.directory / "state"

    @property
    def exports(self) -> dict[str, str]:
        """The variables that tell the gateway, and whoever is to act as it, where it lives."""
        return {
            "BASTION_CONFIG": str(self.directory / "bastion.yaml"),
            "BASTION_RUNTIME_DIR": str(self.runtime),
            "BASTION_STATE_DIR": str(self.state),
        }

    def configure(self, configuration: str, policy: str) -> None:
        """Write both files, anew if they are there."""
        written(self.directory / "bastion.yaml", configuration)
        written(self.directory / "policy.yaml", policy)

    def start(self, more: Mapping[str, str] | None = None) -> Leashed:
        """Start the gateway, with `more` in its environment, and return when it answers.

        Raises `GatewayError` with what it said last if it does not.
        """
        gateway = Leashed(
            [*own_command(), "gateway"],
            log=self.directory / _LOG,
            stop=signal.SIGTERM,
            env={**environment(self.exports), **(more or {})},
            remove=self.directory,
        )
        deadline = time.monotonic() + _START
        while not (self.runtime / "control.sock").exists():
            if gateway.status is not None or time.monotonic() > deadline:
                said = (self.directory / _LOG).read_text(errors="replace").strip()
                gateway.close()
                raise GatewayError(f"the gateway did not start: {said.splitlines()[-1] if said else 'it says nothing'}")
            time.sleep(0.02)
        return gateway


def own_command() -> list[str]:
    """Return the command line that runs `bastion` again."""
    # -I: nothing is imported from wherever we were started.
    return [sys.executable, "-I", "-m", "bastion"]


def environment(exports: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without what this person has set up for a bastion of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BASTION_", "PG"))}
    return {**kept, **exports}


def written(path: Path, text: str) -> None:
    """Write a private file."""
    path.touch(mode=0o600)
    path.write_text(text)
