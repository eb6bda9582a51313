"""Everything that the tour plays on: provider, database and gateway, in one temporary directory."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bastion.demo.accounts import Account
from bastion.demo.cluster import Installation, short_directory, system_user
from bastion.demo.database import DATABASE, USER, SampleDatabase
from bastion.demo.gateway import Place, environment, own_command
from bastion.demo.idp import IdentityProvider
from bastion.demo.issuing import AUDIENCE, CLIENT_ID
from bastion.errors import GatewayError

TARGET = "shop-db"
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
            self._place = Place(self.home / "gateway")
            (self._place.directory / "people").mkdir(mode=0o700)
            self.provider = stack.enter_context(IdentityProvider())
            self.database = stack.enter_context(SampleDatabase(self.home / "database", self._installation))
            self._configure()
            stack.enter_context(self._place.start())
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
        return self._place.runtime

    @property
    def state(self) -> Path:
        """What the gateway keeps: recordings, keys, secrets."""
        return self._place.state

    def exports(self, person: Account) -> dict[str, str]:
        """Return the environment that makes a terminal one of `person`."""
        own = self._place.directory / "people" / person.subject
        own.mkdir(mode=0o700, exist_ok=True)
        return {**self._place.exports, "BASTION_STATE_DIR": str(own), "XDG_DATA_HOME": str(own)}

    def start(self, person: Account, *words: str) -> "subprocess.Popen[str]":
        """Start `bastion` with `words` as `person`, with pipes for its output."""
        return subprocess.Popen(  # noqa: S603 (our own command line)
            [*own_command(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(self.exports(person)),
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
        self._place.configure(configuration, _POLICY)
        kept = _run(("secret", "set", TARGET), self._place.exports, self.database.password)
        if kept.status != 0:
            raise GatewayError(f"the credential could not be stored: {kept.err.strip()}")


def shown(words: Sequence[str]) -> str:
    """Return a command of ours as somebody would type it."""
    return " ".join(["bastion", *map(_quoted, words)])


def _quoted(word: str) -> str:
    """Return a word for a shell; one with apostrophes in double quotes, which are easier on the eye."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _run(words: Sequence[str], exports: Mapping[str, str], stdin: str | None = None) -> Outcome:
    done = subprocess.run(  # noqa: S603 (our own command line)
        [*own_command(), *words],
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=_COMMAND,
        env=environment(exports),
    )
    return Outcome(shown(words), done.returncode, done.stdout, done.stderr)
