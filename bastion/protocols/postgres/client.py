"""What the command line does for PostgreSQL: a conversation, a script, a native client, hints for others."""

import os
import shutil
import signal
import subprocess
from urllib.parse import quote

from bastion.errors import UsageError
from bastion.protocols.clientside import ConnectRequest, LoopbackAddress, Step

_NATIVE = ("psql",)
_USER = "bastion"


def connect(request: ConnectRequest) -> int:
    """Do what the person asked, and return the exit status."""
    if request.program:
        return _native(request)
    if request.steps:
        from bastion.protocols.postgres.script import run

        return run(request)
    from bastion.protocols.postgres.shell import converse

    return converse(request)


def hints(address: LoopbackAddress) -> list[tuple[str, str]]:
    """Return how common clients reach a loopback endpoint."""
    host, port, target = address.host, address.port, address.target
    url = f"postgresql://{_USER}:{quote(address.password)}@{host}:{port}/{quote(target)}?sslmode=disable"
    return [
        ("psql", f"PGPASSWORD={address.password} psql -h {host} -p {port} -U {_USER} -d {target}"),
        ("URL", url),
        (
            "DBeaver (New connection, PostgreSQL)",
            f"Host: {host}\nPort: {port}\nDatabase: {target}\nUser name: {_USER}\nPassword: {address.password}\n"
            "SSL: off (the endpoint is on this machine)",
        ),
    ]


def _native(request: ConnectRequest) -> int:
    """Run psql on the endpoint; it needs no password, because only this user can reach the endpoint's directory."""
    if request.program not in _NATIVE:
        raise UsageError(f"expected a client that bastion knows, found {request.program}", hint="known are: psql")
    path = shutil.which(request.program)
    if path is None:
        raise UsageError(
            f"{request.program} is not installed here",
            hint="leave --client out for the built-in client, or install postgresql-client",
        )
    address = request.address
    connection = (
        f"host={address.host} port={address.port} dbname={_quoted(address.target)} user={_USER} sslmode=disable"
    )
    arguments = [
        path,
        "-X",
        *_arguments(request.steps),
        *(["-v", "ON_ERROR_STOP=1"] * request.stop_on_error),
        connection,
    ]
    # Ctrl-C reaches both of us: psql cancels its statement, and we go on serving it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(arguments, check=False, preexec_fn=_prepare_child).returncode  # noqa: S603
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare_child() -> None:
    """Undo in the child what the parent does with Ctrl-C, and keep the token from it and from whatever it runs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.unsetenv("BASTION_TOKEN")


def _arguments(steps: tuple[Step, ...]) -> list[str]:
    found = []
    for step in steps:
        found += ["-f", step.path] if step.path else ["-c", step.text]
    return found


def _quoted(value: str) -> str:
    """Return a value as a connection string wants it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
