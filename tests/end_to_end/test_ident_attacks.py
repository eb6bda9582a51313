"""The hostile cases about tickets, machines and approvals, each act carried out through the control API."""

import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import pytest

from tests.end_to_end.attacks import CASES
from tests.kit import pgwire, shop
from tests.kit.issuer import Issuer
from tests.kit.pgwire import Closed, Connection
from tests.kit.postgres import Server
from tests.kit.rig import DAVE, ENVIRONMENT, Person, Rig, loaded, target, until

Tally: TypeAlias = Callable[[str, bool], None]

pytestmark = [pytest.mark.live, pytest.mark.slow]

GROUPS = {"ticket", "machine", "approval"}
IDENT = {case["id"]: case for case in CASES if case["family"] == "ident" and case["group"] in GROUPS}
NOT_REPRESENTED = {
    "IDN-P-024": "needs a target of another protocol; a ticket for another target of this one is refused in its place",
    "IDN-P-031": "an approved statement runs at once, so that no approval is left to outlive its time",
    "IDN-P-038": "groups are as fresh as the token, which lives no longer than the issuer says",
    "IDN-P-040": "such a name proves nobody; hostile text in statements and reasons is shown in its place",
}
"""The cases that are not played as they are written, and why."""

PEOPLE = {
    "alice": Person("alice", ("eng",)),
    "bob": Person("bob", ("eng", "sql-approvers")),
    "bot1": Person("bot1", ("eng", "sql-approvers"), {"kind": "machine", "owner": "alice"}),
    "bot_bob": Person("bot_bob", ("eng",), {"kind": "machine", "owner": "bob"}),
    "carol": Person("carol", ("sql-approvers",)),
    "frank": Person("frank", ("sql-approvers",)),
}
POLICY = """
version: 1
auditors: {groups: [auditors]}
rules:
  - {name: read, effect: allow, who: {groups: [eng]}, sql: {access: read}}
  - name: writes
    effect: hold
    who: {groups: [eng]}
    where: {labels: {waits: long}}
    sql: {access: write}
    approval: {by: [sql-approvers]}
  - name: brief
    effect: hold
    who: {groups: [eng]}
    where: {labels: {waits: briefly}}
    sql: {access: write}
    approval: {by: [sql-approvers], expires: 1s}
"""


@pytest.fixture(scope="module")
def rig(postgres: Server, issuer: Issuer) -> Iterator[Rig]:
    with loaded(postgres, "ident", shop.SQL) as database:
        targets = {
            name: target(postgres, database, labels={"waits": "briefly" if name == "brief" else "long"})
            for name in ("pg", "pg_test", "pg_prod", "brief")
        }
        with Rig(issuer, targets, POLICY, environment=ENVIRONMENT) as made:
            yield made


class Play:
    """One case as it unfolds: the session and the request that its acts are about."""

    def __init__(self, rig: Rig, *, expires: bool) -> None:
        self.rig = rig
        self.verdict = ""
        """What became of the latest act."""
        self.connections: list[Connection] = []
        self._default = "brief" if expires else "pg"
        self._ticket = ""
        self._request: dict[str, Any] = {}

    def act(self, step: Mapping[str, Any]) -> None:
        """Carry out one step."""
        if "clock" in step:
            self._pass_time()
        elif "parallel" in step:
            self._race(step["parallel"])
        else:
            getattr(self, "_issue" if step["do"] == "ticket" else f"_{step['do']}")(step)

    def _issue(self, step: Mapping[str, Any]) -> None:
        self._ticket = self.rig.ticket(PEOPLE[step["as"]], step["target"])

    def _connect(self, step: Mapping[str, Any]) -> None:
        if "as_unix_user" in step:
            self.verdict = "deny" if _other_user_is_kept_out(self.rig) else "allow"
            return
        connection = Connection(self.rig.socket, lambda: self._ticket)
        self.connections.append(connection)
        try:
            connection.login(user="alice", database=step.get("target", "pg"))
            self.verdict = "allow"
        except Closed:
            self.verdict = "deny"

    def _submit(self, step: Mapping[str, Any]) -> None:
        connection = self._session(step)
        connection.send(_encoded(step))
        assert connection.until("N") is not None
        with self.rig.api(DAVE) as api:
            self._request = api.get("approvals").json()["approvals"][-1]
        self.verdict = "hold"

    def _run(self, step: Mapping[str, Any]) -> None:
        connection = self._session(step)
        connection.send(_encoded(step))
        found = connection.until("N", "E", "C")
        self.verdict = {"N": "deny", "E": "deny", "C": "allow"}[found.type] if found else ""

    def _run_in_same_session(self, step: Mapping[str, Any]) -> None:
        connection = self.connections[-1]
        connection.send(_encoded(step))
        assert connection.receive(0.3) is None

    def _resume(self, step: Mapping[str, Any]) -> None:
        connection = self.connections[-1]
        connection.until("Z")
        self.verdict = "deny" if connection.errors else "allow"

    def _approve(self, step: Mapping[str, Any]) -> None:
        answer = self.rig.vote(PEOPLE[step["as"]], self._request)
        self.verdict = "allow" if answer.status_code == 200 else "deny"

    def _deny(self, step: Mapping[str, Any]) -> None:
        answer = self.rig.vote(PEOPLE[step["as"]], self._request, "deny")
        self.verdict = "allow" if answer.status_code == 200 else "deny"

    def _http_get(self, step: Mapping[str, Any]) -> None:
        with self.rig.api(PEOPLE["carol"]) as api:
            answer = api.get(f"approvals/{self._request['id']}/approve")
            still = api.get(f"approvals/{self._request['id']}").json()["state"]
        self.verdict = "deny" if answer.status_code >= 400 and still == "waiting" else "allow"

    def _pass_time(self) -> None:
        with self.rig.api(PEOPLE["carol"]) as api:
            path = f"approvals/{self._request['id']}"
            until(lambda: api.get(path).json()["state"] == "expired" or None, "the request to expire")

    def _race(self, steps: list[Mapping[str, Any]]) -> None:
        votes: list[int] = []

        def vote(step: Mapping[str, Any]) -> None:
            votes.append(self.rig.vote(PEOPLE[step["as"]], self._request, step["do"]).status_code)

        threads = [threading.Thread(target=vote, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(votes) == [200, 409]
        self._resume({})

    def _session(self, step: Mapping[str, Any]) -> Connection:
        self.connections.append(self.rig.wire(PEOPLE[step["as"]], step.get("target", self._default)))
        return self.connections[-1]


def _encoded(step: Mapping[str, Any]) -> bytes:
    if "params" not in step:
        return pgwire.query(step["statement"])
    bound = pgwire.bind("", "", step["params"])
    return pgwire.parse("", step["statement"]) + bound + pgwire.execute() + pgwire.SYNC


def _other_user_is_kept_out(rig: Rig) -> bool:
    """Tell whether another user of the machine cannot even reach the socket."""
    if rig.runtime.stat().st_mode & 0o077 or rig.socket.stat().st_mode & 0o077:
        return False
    if os.geteuid() != 0:
        # Nobody else can be asked to try; the modes have to speak for themselves.
        return True
    nobody = pwd.getpwnam("nobody")
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", knock, str(rig.socket)],
        capture_output=True,
        text=True,
        check=False,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        executable="/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable,
    )
    return "PermissionError" in done.stderr


def _cases() -> list[str]:
    return [name for name in IDENT if name not in NOT_REPRESENTED]


def test_every_case_is_played_but_those_listed() -> None:
    assert len(IDENT) == 19
    assert set(NOT_REPRESENTED) <= set(IDENT)


@pytest.mark.parametrize("name", _cases())
def test_case_goes_as_expected(rig: Rig, postgres: Server, name: str, tally: Tally) -> None:
    case = IDENT[name]
    play = Play(rig, expires=any("clock" in step for step in case["steps"]))
    try:
        for step in case["steps"]:
            play.act(step)
        if name == "IDN-P-036":
            # What was sent behind the held statement took effect behind it: nothing changed between the two.
            tags = [m.text.split()[0] for m in play.connections[-1].seen if m.type == "C"]
            good = tags == ["DELETE"]
        else:
            good = play.verdict in case["expect"]["decision"]
    finally:
        for connection in play.connections:
            connection.socket.close()
        postgres.execute(
            "insert into orders select g, 1, 1, 'open' from generate_series(1, 9) g on conflict do nothing",
            database="ident",
        )
    tally(f"identity {case['kind']}s", good)
    assert good, play.verdict
