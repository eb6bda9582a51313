"""A whole bastion that runs: `bastion gateway` as a process of its own, an issuer, and targets that exist.

What a test does to it, it does as people would: by token, control API, ticket, protocol socket and command line.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx2
import psycopg
import yaml

from bastion.demo.cluster import short_directory
from tests.kit.issuer import AUDIENCE, CLIENT_ID, Issuer
from tests.kit.pgwire import Connection
from tests.kit.postgres import PASSWORD, Server

_PATIENCE = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """Somebody whom the issuer knows, or something: `claims` go into the token as they are."""

    subject: str
    groups: tuple[str, ...] = ()
    claims: Mapping[str, object] = field(default_factory=dict, hash=False)


ALICE = Person("alice", ("engineers",))
BOB = Person("bob", ("engineers", "dba"))
CAROL = Person("carol", ("dba",))
FRANK = Person("frank", ("dba",))
DAVE = Person("dave", ("auditors",))
MALLORY = Person("mallory", ("engineers",))


class Api:
    """The control API as one person calls it; every answer is returned, whatever its status."""

    def __init__(self, socket: Path, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx2.HTTPTransport(uds=str(socket))
        self._client = httpx2.Client(transport=transport, base_url="http://bastion", headers=headers, timeout=30)

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str) -> httpx2.Response:
        """Return the answer to a GET."""
        return self._client.get(f"/v1/{path}")

    def post(self, path: str, **body: object) -> httpx2.Response:
        """Return the answer to a POST of `body`."""
        return self._client.post(f"/v1/{path}", json=body)


class Rig:
    """A gateway and everything it needs; files below `directory`, whose path is short."""

    def __init__(
        self,
        issuer: Issuer,
        targets: Mapping[str, Mapping[str, object]],
        policy: str,
        *,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """Write configuration and policy. `environment` is added to the gateway's, `settings` to bastion.yaml."""
        self.issuer = issuer
        self.directory = short_directory("bt-")
        self.state = self.directory / "state"
        self.runtime = self.directory / "run"
        self.config = self.directory / "bastion.yaml"
        self.policy = self.directory / "policy.yaml"
        self.log = self.directory / "log"
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.policy.write_text(policy)
        self.configure(targets, **(settings or {}))

    def configure(self, targets: Mapping[str, Mapping[str, object]], **settings: object) -> None:
        """Write bastion.yaml."""
        identity = {
            "issuer": self.issuer.url,
            "client_id": CLIENT_ID,
            "audience": AUDIENCE,
            "groups_claim": "groups",
        }
        document = {"identity": identity, "targets": {name: dict(t) for name, t in targets.items()}, **settings}
        self.config.write_text(yaml.safe_dump(document))
        self.config.chmod(0o600)
        self.policy.chmod(0o600)

    def __enter__(self) -> "Rig":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.stop()
        if error is not None:
            sys.stderr.write(self.logged[-4000:])
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the gateway and of commands that are to find it."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "BASTION_CONFIG": str(self.config),
            "BASTION_STATE_DIR": str(self.state),
            "BASTION_RUNTIME_DIR": str(self.runtime),
        }

    @property
    def running(self) -> bool:
        """Whether the gateway runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The gateway's process."""
        assert self._process is not None
        return self._process

    @property
    def logged(self) -> str:
        """What the gateway wrote to its standard error."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self, *, wrapped: Sequence[str] = ()) -> None:
        """Start the gateway and return when it answers; `wrapped` is a command that runs it."""
        self.launch(wrapped=wrapped)
        if not self._ready():
            status = self.process.wait(_PATIENCE)
            raise AssertionError(f"the gateway ended with status {status}:\n{self.logged[-3000:]}")

    def launch(self, *, wrapped: Sequence[str] = ()) -> None:
        """Start the gateway without waiting for it."""
        readable, writable = os.pipe()
        command = [sys.executable, "-m", "bastion", "gateway", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapped, *command, "--ready-fd", str(writable)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writable,),
                env={**self.environment, **self._environment},
                cwd="/",
            )
        os.close(writable)
        self._readable = readable

    def _ready(self) -> bool:
        with os.fdopen(self._readable, "rb") as said:
            return bool(said.read(1))

    def stop(self) -> int:
        """Stop the gateway in an orderly way and return its exit status."""
        self.process.terminate()
        return self.process.wait(_PATIENCE)

    def kill(self) -> None:
        """End the gateway as a power cut would end it."""
        self.process.kill()
        self.process.wait(_PATIENCE)

    def reload(self, policy: str | None = None) -> dict[str, Any]:
        """Have the gateway read its files again, `policy` first written to its own; return its status afterwards."""
        if policy is not None:
            self.policy.write_text(policy)
        before = self.status()["reloads"]
        self.process.send_signal(signal.SIGHUP)

        def reread() -> dict[str, Any] | None:
            status = self.status()
            return status if status["reloads"] != before else None

        return until(reread, "the reload")

    def status(self) -> dict[str, Any]:
        """Return what the gateway says of itself."""
        with Api(self.runtime / "control.sock", "") as api:
            found: dict[str, Any] = api.get("status").raise_for_status().json()
            return found

    def token(self, who: Person) -> str:
        """Return a fresh token of `who`."""
        return self.issuer.token(who.subject, *who.groups, **who.claims)

    def api(self, who: Person) -> Api:
        """Return the control API as `who` calls it."""
        return Api(self.runtime / "control.sock", self.token(who))

    def ticket(self, who: Person, target: str, reason: str = "") -> str:
        """Return the secret of a new ticket."""
        with self.api(who) as api:
            answer = api.post("tickets", target=target, reason=reason, client="tests")
            assert answer.status_code == 200, answer.text
            secret: str = answer.json()["ticket"]
            return secret

    @property
    def socket(self) -> Path:
        """The PostgreSQL socket of the gateway."""
        return self.runtime / ".s.PGSQL.5432"

    def dsn(self, who: Person, target: str, **more: Any) -> str:
        """Return a connection string with a new ticket, for one connection."""
        return psycopg.conninfo.make_conninfo(
            **{
                "host": str(self.runtime),
                "port": 5432,
                "user": who.subject,
                "dbname": target,
                "password": self.ticket(who, target),
                **more,
            }
        )

    def connect(self, who: Person, target: str, **more: Any) -> "psycopg.Connection[Any]":
        """Return a connection of `who` to `target` that commits each statement."""
        return psycopg.connect(self.dsn(who, target), autocommit=True, **more)

    def wire(self, who: Person, target: str) -> Connection:
        """Return a connection that is ready and can send any byte."""
        return self.knock(who, target).login(user=who.subject, database=target, client_encoding="UTF8")

    def knock(self, who: Person, target: str) -> Connection:
        """Return a connection that has sent nothing, and a ticket to answer with."""
        ticket = self.ticket(who, target)
        return Connection(self.socket, lambda: ticket)

    def run(
        self, who: Person, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run `bastion` with `arguments` as `who`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "bastion", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**self.environment, "BASTION_TOKEN": self.token(who), **(environment or {})},
            cwd=self.directory,
        )

    @contextlib.contextmanager
    def tunnel(self, who: Person, name: str) -> Iterator[dict[str, Any]]:
        """Run `bastion tunnel`, for clients that open several connections; yields its host, port and password."""
        command = [sys.executable, "-m", "bastion", "tunnel", name, "--json"]
        environment = {**self.environment, "BASTION_TOKEN": self.token(who), "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/") as process:
            assert process.stdout is not None
            said = ""
            while not _is_json(said):
                line = process.stdout.readline()
                assert line, f"the tunnel ended with status {process.wait()}"
                said += line
            try:
                yield json.loads(said)
            finally:
                process.terminate()

    def waiting(self, who: Person = CAROL) -> dict[str, Any]:
        """Return the one request that waits, once there is one."""
        with self.api(who) as api:
            found = until(lambda: api.get("approvals").raise_for_status().json()["approvals"], "a request to wait")
            (request,) = found
            return dict(request)

    def vote(self, who: Person, request: Mapping[str, Any], verb: str = "approve", reason: str = "") -> httpx2.Response:
        """Vote on a request as it was shown; return the answer, whatever it is."""
        with self.api(who) as api:
            return api.post(f"approvals/{request['id']}/{verb}", digest=request["digest"], reason=reason)

    def sessions(self, target: str = "") -> list[dict[str, Any]]:
        """Return recorded sessions, newest first, as an auditor sees them."""
        with self.api(DAVE) as api:
            query = f"?limit=1000&target={target}" if target else "?limit=1000"
            return list(api.get(f"sessions{query}").raise_for_status().json()["sessions"])

    def entries(self, session: str) -> list[dict[str, Any]]:
        """Return a session's entries as exported as JSON lines, without the summary that precedes them."""
        with self.api(DAVE) as api:
            lines = api.get(f"sessions/{session}/export?format=jsonl").raise_for_status().text.splitlines()
        return [json.loads(line) for line in lines[1:]]


def target(server: Server, database: str, user: str = "app_rw", **more: object) -> dict[str, object]:
    """Return the configuration of a target: `database` on `server`, reached by TCP and password."""
    return {
        "protocol": "postgres",
        "address": f"127.0.0.1:{server.port}",
        "database": database,
        "user": user,
        "credential": {"env": "TARGET_PASSWORD"},
        "tls": {"mode": "disable"},
        "labels": {"env": "prod"},
        **more,
    }


ENVIRONMENT = {"TARGET_PASSWORD": PASSWORD}
"""Where targets made by `target` have their credential from."""


def until(found: Callable[[], T | None], what: str, patience: float = _PATIENCE) -> T:
    """Return the first true answer of `found`; fail when there is none in time."""
    deadline = time.monotonic() + patience
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s for {what}")
        time.sleep(0.01)
    return answer


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def loaded(server: Server, name: str, sql: str, user: str = "app_rw") -> Iterator[str]:
    """Make a database that `user` owns and that `sql` has filled as that user; drop it afterwards."""
    server.execute(f'create database "{name}" owner {user}')
    server.execute(f"alter schema public owner to {user}", database=name)
    with psycopg.connect(server.dsn(name, user), autocommit=True) as connection:
        connection.execute(sql)
    try:
        yield name
    finally:
        server.execute(f'drop database "{name}" with (force)')
