"""The control API in hostile hands: bad bodies, silent and slow connections, floods, and what is not theirs to read."""

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Iterator

import pytest

from tests.kit import pgwire, shop
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, CAROL, DAVE, ENVIRONMENT, MALLORY, Api, Person, Rig, target, until

pytestmark = [pytest.mark.live, pytest.mark.slow]

POLICY = (
    shop.GUARDED
    + """
  - name: owners
    effect: hold
    who: {kind: machine}
    where: {targets: [owned]}
    sql: {verbs: [insert]}
    approval: {by: [dba], owner_may_approve: true}
"""
)
BOT = Person("bot", ("engineers",), {"kind": "machine", "owner": "mallory"})


@pytest.fixture(scope="module")
def rig(postgres: Server, shop_database: str, issuer: Issuer) -> Iterator[Rig]:
    targets = {name: target(postgres, shop_database) for name in ("shop", "owned")}
    with Rig(issuer, targets, POLICY, environment=ENVIRONMENT) as made:
        yield made


def knock(rig: Rig) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    opened.connect(str(rig.runtime / "control.sock"))
    opened.settimeout(20)
    return opened


def head(path: str, token: str, more: str = "") -> bytes:
    return f"POST /v1/{path} HTTP/1.1\r\nHost: bastion\r\nAuthorization: Bearer {token}\r\n{more}\r\n".encode()


def audited(rig: Rig) -> list[dict[str, object]]:
    """Return what the gateway has noted outside sessions, once everything is in the store."""
    from bastion.store.reader import Reader
    from bastion.store.writer import GATEWAY

    rig.sessions()
    with Reader.open(rig.state) as reader:
        return [json.loads(entry.data) for entry in reader.entries(GATEWAY) if entry.kind == "audit"]


def size(rig: Rig) -> int:
    connection = sqlite3.connect(f"file:{rig.state / 'store.db'}?mode=ro", uri=True)
    with contextlib.closing(connection):
        return int(connection.execute("select sum(length(body)) from chunks where session = 'gateway'").fetchone()[0])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("tickets", b'{"target": "\\ud800"}'),
        ("tickets", b'{"target": "shop", "reason": "\\udfff"}'),
        ("tickets", b'{"target": "shop", "reason": "", "client": "a\\udc80"}'),
        ("policy/explain", b'{"target": "shop", "text": "select \\ud800"}'),
        ("approvals/abcdef/approve", b'{"digest": "\\ud800"}'),
        ("approvals/abcdef/deny", b'{"digest": "", "reason": "\\ud800"}'),
        ("tickets", b"[" * 100_000),
        ("tickets", b"\xff\xfe"),
        ("tickets", b'{"target": 7}'),
        ("tickets", b'{"target": "' + b"x" * 300_000 + b'"}'),
    ],
)
def test_a_bad_body_is_a_usage_error(rig: Rig, path: str, body: bytes) -> None:
    with rig.api(ALICE) as api:
        answer = api._client.post(f"/v1/{path}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "usage"


def test_silent_connections_keep_nobody_out(rig: Rig) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(knock(rig)).sendall(b"GET /v1/sta")
        assert rig.status()["version"]
        assert rig.run(ALICE, "targets").returncode == 0


def test_a_body_that_does_not_come_is_not_waited_for(rig: Rig) -> None:
    with knock(rig) as slow:
        slow.sendall(head("tickets", rig.token(ALICE), "Content-Length: 20\r\n") + b'{"tar')
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400")


def test_one_identity_does_not_keep_every_connection_busy(rig: Rig) -> None:
    with contextlib.ExitStack() as stack:
        request = head("tickets", rig.token(MALLORY), "Content-Length: 20\r\n")
        opened = [stack.enter_context(knock(rig)) for _ in range(40)]
        for connection in opened:
            connection.sendall(request)
        turned_away = opened[-1].recv(4096)
        assert turned_away.startswith(b"HTTP/1.1 403")
        with rig.api(ALICE) as api:
            assert api.get("whoami").status_code == 200
    with rig.api(MALLORY) as api:
        until(lambda: api.get("whoami").status_code == 200, "what was hung up on to count no more")


def test_who_proves_nobody_does_not_fill_the_record(rig: Rig) -> None:
    before = size(rig)
    with Api(rig.runtime / "control.sock", "a.b.c") as nobody:
        for _ in range(500):
            assert nobody.get(f"sessions/{os.urandom(2000).hex()}/entries").status_code == 401
    assert audited(rig)
    assert size(rig) - before < 100_000
    assert any(entry["what"] == "unauthenticated" for entry in audited(rig))


def test_what_is_asked_for_is_kept_at_a_length_that_fits(rig: Rig) -> None:
    with rig.api(MALLORY) as api:
        assert api.post("tickets", target="t" * 200_000).status_code == 403
        assert api.get(f"sessions/{'s' * 50_000}/entries").status_code == 400
        assert api.get(f"sessions?target={'t' * 50_000}").status_code == 200
    assert max(len(json.dumps(entry)) for entry in audited(rig)) < 2000


def test_foreign_sessions_and_none_look_alike_and_looking_is_recorded(rig: Rig) -> None:
    with rig.connect(ALICE, "shop") as connection:
        connection.execute("select 1")
    name = str(rig.sessions("shop")[0]["id"])
    for path in ("sessions/{}", "sessions/{}/entries", "sessions/{}/export?format=jsonl"):
        with rig.api(MALLORY) as api:
            foreign, none = (api.get(path.format(n)) for n in (name, "20260101T000000-0123456789"))
            assert foreign.status_code == none.status_code == 400
            assert foreign.text.replace(name, "*") == none.text.replace("20260101T000000-0123456789", "*")
            assert api.get(path.format("gateway")).status_code == 400
            assert api.get(path.format("..%2F..%2Fstore.db")).status_code in {400, 404}
    with rig.api(DAVE) as api:
        api.get(f"sessions/{name}").raise_for_status()
    looked = [e for e in audited(rig) if e.get("session") == name and e["what"] != "session"]
    assert {(e["what"], e["by"]) for e in looked} >= {
        ("read session", "mallory"),
        ("read session", "dave"),
        ("read recording", "mallory"),
        ("export recording", "mallory"),
    }


def test_an_owner_sees_what_his_machine_asks_and_others_do_not(rig: Rig) -> None:
    with rig.wire(BOT, "owned") as connection:
        connection.send(pgwire.query("insert into people values (8001, 'Bot')"))
        connection.until("N")
        request = rig.waiting(CAROL)
        with rig.api(MALLORY) as api:
            assert [a["id"] for a in api.get("approvals").json()["approvals"]] == [request["id"]]
        with rig.api(ALICE) as api:
            assert api.get("approvals").json()["approvals"] == []
        assert rig.vote(ALICE, request).status_code == 400
        assert rig.vote(Person("mallory", ("dba",), {"act": {"sub": "copilot"}}), request).status_code == 409
        rig.vote(MALLORY, request, "deny").raise_for_status()
        connection.until("Z")
    with rig.api(DAVE) as api:
        until(lambda: not api.get("approvals").json()["approvals"] or None, "nothing to wait")


def test_who_asks_is_not_told_what_the_count_says(rig: Rig) -> None:
    """Asked often enough, with another WHERE each time, it would tell what nobody lets them read."""
    with rig.wire(ALICE, "shop") as connection:
        connection.send(pgwire.query("delete from people where email like 'p1%' and id < 0"))
        connection.until("N")
        request = rig.waiting(CAROL)
        shown = {}
        for who in (ALICE, CAROL, DAVE):
            with rig.api(who) as api:
                shown[who.subject] = api.get(f"approvals/{request['id']}").raise_for_status().json()["preview"]
        assert shown["carol"]["counted_rows"] == shown["dave"]["counted_rows"] == 0
        assert set(shown["alice"]) == {"unavailable"}
        rig.vote(CAROL, request, "deny").raise_for_status()
        connection.until("Z")


@pytest.mark.parametrize(
    "header",
    [
        "Host: bastion\r\nOrigin: https://evil.example\r\n",
        "Host: evil.example\r\n",
        "Host: localhost:80\r\n",
        "Host: bastion\r\nAuthorization: Bearer x\r\n",
    ],
)
def test_a_browser_and_a_second_identity_get_nowhere(rig: Rig, header: str) -> None:
    with knock(rig) as opened:
        proven = f"Connection: close\r\nAuthorization: Bearer {rig.token(ALICE)}\r\n{header}\r\n"
        opened.sendall(b"GET /v1/whoami HTTP/1.1\r\n" + proven.encode())
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert answer.split(b" ")[1] in {b"401", b"403"}
    assert b"alice" not in answer


def test_each_request_of_a_connection_is_its_own_identity(rig: Rig) -> None:
    """Pipelined on one connection: a second request without a token is nobody's, not the first one's."""
    with knock(rig) as opened:
        first = f"GET /v1/whoami HTTP/1.1\r\nHost: bastion\r\nAuthorization: Bearer {rig.token(ALICE)}\r\n\r\n"
        opened.sendall(first.encode() + b"GET /v1/whoami HTTP/1.1\r\nHost: bastion\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: opened.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1 401") == 1
