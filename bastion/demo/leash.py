"""Keeps a program from outliving whoever started it, however that one died.

Run as `python -I leash.py [--remove DIR] SIGNAL -- PROGRAM …` with a pipe as standard input. When the other end of the
pipe closes, which also `kill -9` does, the program gets SIGNAL, then, if it lingers, SIGKILL for its whole group.
Standard library only: it has to be up before the program is.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_GRACE = 10.0
"""Seconds between asking a program to stop and ending it."""


class Leashed:
    """A program that runs as long as this process holds its leash."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        stop: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        group: int | None = None,
        remove: Path | None = None,
    ) -> None:
        """Start the program in a session of its own, so that Ctrl-C on our terminal reaches us and not it.

        With `user` and `group` it runs as those; `remove` names a directory to delete once we let go and it has ended.
        """
        options = ["--remove", str(remove)] if remove else []
        if user is not None and group is not None:
            options += ["--as", f"{user}:{group}"]
        command = [sys.executable, "-I", __file__, *options, str(int(stop)), "--", *map(str, arguments)]
        with log.open("ab") as output:
            self._leash = subprocess.Popen(  # noqa: S603 (our own program)
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
            )
        self.log = log

    @property
    def status(self) -> int | None:
        """The program's exit status, or None while it runs."""
        return self._leash.poll()

    def close(self) -> None:
        """Stop the program and return when it is gone."""
        if self._leash.stdin is not None:
            self._leash.stdin.close()
        self._leash.wait(_GRACE * 2)

    def __enter__(self) -> "Leashed":
        """Return the running program."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the program."""
        self.close()


def _main(arguments: list[str]) -> int:
    """Run the program that `arguments` name until it ends or standard input does."""
    remove = user = group = None
    while arguments[0].startswith("--"):
        option, value, *arguments = arguments
        if option == "--remove":
            remove = value
        else:
            user, group = map(int, value.split(":"))
    number, _, *program = arguments
    child = subprocess.Popen(  # noqa: S603 (what our parent asked for)
        program,
        stdin=subprocess.DEVNULL,
        process_group=0,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
    )
    released = threading.Event()
    stop = signal.Signals(int(number))
    threading.Thread(target=_hold, args=(child, stop, released), daemon=True).start()
    status = child.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    # A program that ended by itself leaves what it wrote for its starter to read.
    if remove is not None and released.is_set():
        shutil.rmtree(remove, ignore_errors=True)
        with contextlib.suppress(OSError):
            # The last of several leashes below one directory finds it empty.
            os.rmdir(os.path.dirname(remove))
    return status if status >= 0 else 128 - status


def _hold(child: subprocess.Popen[bytes], stop: signal.Signals, released: threading.Event) -> None:
    """Wait for the leash to be let go, then stop `child`."""
    # Not through `sys.stdin`, whose lock a reader would still hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    released.set()
    child.send_signal(stop)
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    # A leash ends when its program does; signals meant for the program's group do not take it along.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(_main(sys.argv[1:]))
