"""Everything that the tour plays on: provider, database and gateway, in one temporary directory."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bastion.demo.accounts import Account
from bastion.demo.cluster import Installation, short_directory, system_user
from bastion.demo.database import DATABASE, USER, SampleDatabase
from bastion.demo.idp import IdentityProvider
from bastion.demo.issuing import AUDIENCE, CLIENT_ID
from bastion.demo.leash import Leashed
from bastion.errors import GatewayError

TARGET = "shop-db"
_START = 60.0
_COMMAND = 120.0
_CONFIGURATION = """\
# The gateway of `bastion demo`.
identity:
  issuer: {issuer}
  client_id: {client_id}
  audience: {audience}
  groups_claim: groups
targets:
  {target}:
    protocol: postgres
    address: {address}
    database: {database}
    user: {user}
    credential: {{secret: {target}}}
    tls: {{mode: disable}}
    labels: {{env: prod}}
"""
_POLICY = """\
# The policy of `bastion demo`.
version: 1
auditors: {groups: [auditors]}
rules:
  - name: engineers-read
    effect: allow
    who: {groups: [engineers]}
    where: {labels: {env: prod}}
    sql: {access: read}
  - name: writes-need-a-dba
    effect: hold
    who: {groups: [engineers]}
    where: {labels: {env: prod}}
    sql: {verbs: [insert, update, delete, merge]}
    approval: {by: [dba], votes: 1, expires: 15m}
    reason: Changes to production data take a second pair of eyes.
  - name: no-schema-changes
    effect: deny
    where: {labels: {env: prod}}
    sql: {verbs: [create, alter, drop, truncate, grant, revoke]}
    reason: Schema changes go through migrations.
masks:
  - name: personal-data
    columns: [public.*.email, public.*.ssn, public.payments.card_number]
    cover: partial
    unless: {groups: [dba]}
    approval: {by: [dba]}
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command of the command line did."""

    command: str
    status: int
    out: str
    err: str


class Stage:
    """The demo's servers, up while the `with` block runs. Nothing of it is left afterwards."""

    def __init__(self, installation: Installation | None = None) -> None:
        """Prepare; `installation` chooses the PostgreSQL."""
        self._installation = installation
        self._stack = ExitStack()

    def __enter__(self) -> "Stage":
        """Start everything; raises a `BastionError` for what does not start."""
        with ExitStack() as stack:
            self.home = short_directory("bastion-demo-")
            stack.callback(shutil.rmtree, self.home, ignore_errors=True)
            if system_user() is not None:
                # The database's user passes through to its own directory; what lies beside that stays closed to it.
                self.home.chmod(0o711)
            self._place = self.home / "gateway"
            for directory in (self._place, self.runtime, self.state, self._place / "people"):
                directory.mkdir(mode=0o700)
            self.provider = stack.enter_context(IdentityProvider())
            self.database = stack.enter_context(SampleDatabase(self.home / "database", self._installation))
            self._configure()
            stack.enter_context(self._gateway())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything and delete the directory."""
        self._stack.close()

    @property
    def runtime(self) -> Path:
        """Where the gateway's sockets are."""
        return self._place / "run"

    @property
    def state(self) -> Path:
        """What the gateway keeps: recordings, keys, secrets."""
        return self._place / "state"

    def exports(self, person: Account) -> dict[str, str]:
        """Return the environment that makes a terminal one of `person`."""
        own = self._place / "people" / person.subject
        own.mkdir(mode=0o700, exist_ok=True)
        return {
            "BASTION_CONFIG": str(self._place / "bastion.yaml"),
            "BASTION_RUNTIME_DIR": str(self.runtime),
            "BASTION_STATE_DIR": str(own),
            "XDG_DATA_HOME": str(own),
        }

    def start(self, person: Account, *words: str) -> "subprocess.Popen[str]":
        """Start `bastion` with `words` as `person`, with pipes for its output."""
        return subprocess.Popen(  # noqa: S603 (our own command line)
            [*_bastion(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(self.exports(person)),
        )

    def run(self, person: Account, *words: str, stdin: str | None = None) -> Outcome:
        """Run `bastion` with `words` as `person` to its end."""
        return _run(words, self.exports(person), stdin)

    def _configure(self) -> None:
        directory, port = self.database.address
        configuration = _CONFIGURATION.format(
            issuer=self.provider.url,
            client_id=CLIENT_ID,
            audience=AUDIENCE,
            target=TARGET,
            address=f"{directory}:{port}",
            database=DATABASE,
            user=USER,
        )
        _write(self._place / "bastion.yaml", configuration)
        _write(self._place / "policy.yaml", _POLICY)
        kept = _run(("secret", "set", TARGET), self._own_exports(), self.database.password)
        if kept.status != 0:
            raise GatewayError(f"the credential could not be stored: {kept.err.strip()}")

    def _gateway(self) -> Leashed:
        gateway = Leashed(
            [*_bastion(), "gateway"],
            log=self._place / "gateway.log",
            stop=signal.SIGTERM,
            env=_environment(self._own_exports()),
            remove=self._place,
        )
        deadline = time.monotonic() + _START
        while not (self.runtime / "control.sock").exists():
            if gateway.status is not None or time.monotonic() > deadline:
                said = (self._place / "gateway.log").read_text(errors="replace").strip()
                gateway.close()
                raise GatewayError(
                    f"the demo's gateway did not start: {said.splitlines()[-1] if said else 'it says nothing'}"
                )
            time.sleep(0.02)
        return gateway

    def _own_exports(self) -> dict[str, str]:
        return {
            "BASTION_CONFIG": str(self._place / "bastion.yaml"),
            "BASTION_RUNTIME_DIR": str(self.runtime),
            "BASTION_STATE_DIR": str(self.state),
        }


def shown(words: Sequence[str]) -> str:
    """Return a command of ours as somebody would type it."""
    return " ".join(["bastion", *map(_quoted, words)])


def _quoted(word: str) -> str:
    """Return a word for a shell; one with apostrophes in double quotes, which are easier on the eye."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _bastion() -> list[str]:
    # -I: nothing is imported from wherever the demo was started.
    return [sys.executable, "-I", "-m", "bastion"]


def _run(words: Sequence[str], exports: Mapping[str, str], stdin: str | None = None) -> Outcome:
    done = subprocess.run(  # noqa: S603 (our own command line)
        [*_bastion(), *words],
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND,
        env=_environment(exports),
    )
    return Outcome(shown(words), done.returncode, done.stdout, done.stderr)


def _environment(exports: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without what this person has set up for a bastion of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BASTION_", "PG"))}
    return {**kept, **exports}


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
