"""Start, signal and stop the gateway of this user.

The process that runs is known by a file that it keeps locked: a number in a file whose lock is free is nobody's.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bastion import private
from bastion.client.gateway import Gateway, GatewayAbsent
from bastion.client.token import VARIABLE
from bastion.errors import BastionError, ConfigError, GatewayError

_PID_FILE = "gateway.pid"
_LOCK_FILE = "starting.lock"
LOG_FILE = "gateway.log"
READY = b"1"
_PATIENCE = 30.0
_STOPPING = 20.0
_LOOK_EVERY = 0.05


def ensure_running(gateway: Gateway, config: Path, tell: Callable[[str], None]) -> None:
    """Start a gateway in the background if none runs; of several who try at once, one starts it."""
    if _answers(gateway):
        return
    if not config.is_file():
        raise ConfigError(
            str(config),
            expected="the configuration of a gateway",
            found="no file",
            hint="`bastion demo` shows a configured one at work",
        )
    private.directory(gateway.directory)
    with _alone(gateway.directory / _LOCK_FILE):
        if _answers(gateway):
            return
        tell(f"starting a gateway in the background ({gateway.directory})")
        _start(gateway.directory, config)
        if not _answers(gateway):
            raise GatewayError("the gateway started and does not answer", hint=f"see {gateway.directory / LOG_FILE}")


def running(directory: Path) -> int | None:
    """Return the process that runs the gateway in `directory`, or None."""
    try:
        fd = os.open(directory / _PID_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GatewayError(f"{directory / _PID_FILE} cannot be read: {error.strerror}") from error
    try:
        if _free(fd):
            return None
        number = json.loads(os.read(fd, 1000)).get("pid")
    except (ValueError, AttributeError):
        # Its owner holds the lock and has not written yet, or is about to let go.
        return None
    finally:
        os.close(fd)
    return number if isinstance(number, int) and number > 1 else None


def stop(gateway: Gateway, *, patience: float = _STOPPING) -> int:
    """Ask the gateway to end and wait until it has; return the number of its process."""
    pid = _signal(gateway.directory, signal.SIGTERM)
    if not _until(lambda: running(gateway.directory) != pid, patience):
        raise GatewayError(f"the gateway (process {pid}) has not ended within {patience:g} s; it may be finishing")
    return pid


def reload(gateway: Gateway, *, patience: float = _STOPPING) -> dict[str, Any]:
    """Have the gateway read its configuration and policy again; return what it says of itself afterwards."""
    before = gateway.status().get("reloads")
    _signal(gateway.directory, signal.SIGHUP)
    found: dict[str, Any] = {}

    def reread() -> bool:
        nonlocal found
        found = gateway.status()
        return found.get("reloads") != before

    if not _until(reread, patience):
        raise GatewayError(f"the gateway has not read its configuration again within {patience:g} s")
    return found


def _signal(directory: Path, number: signal.Signals) -> int:
    pid = running(directory)
    if pid is None:
        raise GatewayAbsent(f"no gateway runs in {directory}", hint="start it with `bastion gateway`")
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise GatewayAbsent(f"the gateway in {directory} has just ended") from None
    except PermissionError:
        raise BastionError(f"process {pid} is another user's", hint="run this as the user that runs it") from None
    return pid


def _answers(gateway: Gateway) -> bool:
    try:
        gateway.status()
    except GatewayAbsent:
        return False
    return True


def _start(directory: Path, config: Path) -> None:
    log = directory / LOG_FILE
    ready, said = os.pipe()
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # -I: nothing is imported from the directory where the person happens to be, or from PYTHONPATH.
            process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                [
                    sys.executable,
                    "-I",
                    "-m",
                    "bastion",
                    "gateway",
                    "--config",
                    os.fspath(config),
                    "--ready-fd",
                    str(said),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                pass_fds=(said,),
                start_new_session=True,
                # It outlives the login of whoever happens to start it, and has no use for it.
                env={k: v for k, v in os.environ.items() if k != VARIABLE}
                | {"BASTION_RUNTIME_DIR": os.fspath(directory)},
            )
        finally:
            os.close(out)
            os.close(said)
        if _readiness(ready) != READY:
            raise GatewayError(*_why(process, log))
    finally:
        os.close(ready)


def _readiness(ready: int) -> bytes:
    """Return what the gateway says when it listens, or nothing if it ends or takes too long."""
    said, deadline = b"", time.monotonic() + _PATIENCE
    while not said.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
        if not select.select([ready], [], [], left)[0]:
            break
        if not (piece := os.read(ready, 100)):
            break
        said += piece
    return said


def _why(process: "subprocess.Popen[bytes]", log: Path) -> tuple[str]:
    """Return why a gateway did not come up, in its own words where it left some."""
    try:
        status: int | None = process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.terminate()
        status = None
    words = log.read_text(errors="replace").strip()[-2000:]
    took = f"did not come up within {_PATIENCE:g} s" if status is None else f"ended with status {status}"
    return (f"the gateway {took}" + (f":\n{words}" if words else ""),)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock at `path`, waiting for whoever has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _free(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _until(true: Callable[[], bool], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY)
    return True
