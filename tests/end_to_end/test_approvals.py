"""Approvals as people meet them: asked here, given there, good for one execution of exactly what was shown."""

import json
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.kit import pgwire, shop
from tests.kit.issuer import Issuer
from tests.kit.pgwire import Closed, Connection
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, BOB, CAROL, DAVE, ENVIRONMENT, FRANK, MALLORY, Person, Rig, loaded, target, until

pytestmark = [pytest.mark.live, pytest.mark.slow]

DELETE = "delete from orders where status = 'open'"
OPEN = 166
"""How many orders that deletes."""
POLICY = (
    shop.GUARDED
    + """
  - name: brief
    effect: hold
    who: {groups: [engineers]}
    where: {targets: [brief]}
    sql: {verbs: [update]}
    approval: {by: [dba], expires: 1s}
  - name: two-of-them
    effect: hold
    who: {groups: [engineers]}
    where: {targets: [careful]}
    sql: {verbs: [delete]}
    approval: {by: [dba], votes: 2}
  - name: owners
    effect: hold
    who: {kind: machine}
    where: {targets: [owned]}
    sql: {verbs: [insert]}
    approval: {by: [dba], owner_may_approve: true}
"""
)
BOT = Person("bot", ("engineers",), {"kind": "machine", "owner": "bob"})
BOT_WHO_APPROVES = Person("bot-2", ("engineers", "dba"), {"kind": "machine", "owner": "carol"})


@pytest.fixture(scope="module")
def rig(postgres: Server, issuer: Issuer) -> Iterator[Rig]:
    with loaded(postgres, "held", shop.SQL) as database:
        targets = {name: target(postgres, database) for name in ("shop", "brief", "careful", "owned")}
        with Rig(issuer, targets, POLICY, environment=ENVIRONMENT) as made:
            yield made


@pytest.fixture(autouse=True)
def _orders_are_back(postgres: Server, rig: Rig) -> Iterator[None]:
    yield
    with rig.api(DAVE) as api:
        until(lambda: not api.get("approvals").json()["approvals"] or None, "nothing to wait")
    postgres.execute(
        "insert into orders select g, 1 + g % 50, g * 1.5, case when g % 3 = 0 then 'open' else 'paid' end, 'note' "
        "from generate_series(1, 500) g on conflict (id) do nothing",
        database="held",
    )


def _held(rig: Rig, connection: Connection, data: bytes) -> dict[str, Any]:
    """Send something that is held; return the request once the client has heard of it."""
    connection.send(data)
    notice = connection.until("N")
    assert notice is not None
    with rig.api(DAVE) as api:
        (request,) = [a for a in api.get("approvals").json()["approvals"] if a["id"] in notice.fields["M"]]
        return dict(request)


def _tags(connection: Connection) -> list[str]:
    return [m.text for m in connection.seen if m.type == "C"]


def _orders(server: Server) -> int:
    return int(server.execute("select count(*) from orders", database="held")[0][0])


# The ordinary way.


def test_notice_comes_before_anything_and_says_what_to_do(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        (notice,) = connection.notices
        assert request["id"] in notice["M"]
        assert f"bastion approve {request['id']}" in notice["H"]
        assert "writes-need-a-dba" in notice["D"]
        assert "dba" in notice["D"]
        assert _orders(postgres) == 500
        assert rig.vote(CAROL, request).status_code == 200
        connection.until("Z")
        assert _tags(connection) == [f"DELETE {OPEN}"]
        assert connection.errors == []
    assert _orders(postgres) == 500 - OPEN


def test_another_person_approves_from_another_terminal(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        listed = rig.run(CAROL, "approvals", "--json")
        assert [a["id"] for a in json.loads(listed.stdout)["approvals"]] == [request["id"]]
        approved = rig.run(CAROL, "approve", request["id"], "--yes", "--reason", "looks right")
        assert approved.returncode == 0, approved.stderr
        for shown in (DELETE, "Alice", "shop", "writes-need-a-dba", str(OPEN)):
            assert shown in approved.stdout
        connection.until("Z")
        assert _tags(connection) == [f"DELETE {OPEN}"]
        again = rig.run(CAROL, "approve", request["id"], "--yes")
        assert again.returncode == 77


def test_denial_reaches_the_client_as_an_ordinary_error(rig: Rig, postgres: Server) -> None:
    with rig.connect(ALICE, "shop") as connection:
        heard: list[str] = []

        def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
            found = re.search(r"bastion approve (\w+)", diagnostic.message_hint or "")
            if found:
                done = rig.run(CAROL, "deny", found[1], "--yes", "--reason", "not on a Friday")
                heard.append(done.stderr or "denied")

        connection.add_notice_handler(notice)
        connection.execute("begin")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not on a Friday"):
            connection.execute(DELETE)
        assert heard == ["denied"]
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        connection.execute("rollback")
        assert connection.execute("select count(*) from orders").fetchone() == (500,)
    assert _orders(postgres) == 500


def test_approval_is_on_the_record_from_beginning_to_end(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        rig.vote(CAROL, request, reason="ticket 7").raise_for_status()
        connection.until("Z")
    entries = rig.entries(request["session"])
    kinds = [entry["kind"] for entry in entries if entry["kind"] in {"judged", "waiting", "vote", "settled"}]
    assert kinds == ["judged", "waiting", "vote", "settled"]
    by_kind = {entry["kind"]: entry["data"] for entry in entries}
    assert by_kind["waiting"]["digest"] == request["digest"]
    assert (by_kind["vote"]["subject"], by_kind["vote"]["reason"]) == ("carol", "ticket 7")
    assert (by_kind["settled"]["state"], by_kind["settled"]["is"]) == ("approved", "allow")


# Who may.


@pytest.mark.parametrize(
    ("requester", "voter", "told"),
    [
        pytest.param(BOB, BOB, "own request", id="the requester, although an approver"),
        pytest.param(
            BOB, Person("bob", ("dba",), {"jti": "another"}), "own request", id="another token of the requester"
        ),
        pytest.param(BOT, BOB, "own request", id="the owner of the machine that asks"),
        pytest.param(ALICE, BOT_WHO_APPROVES, "machine", id="a machine"),
        pytest.param(ALICE, MALLORY, "no request", id="somebody who is no approver"),
        pytest.param(ALICE, DAVE, "takes a member", id="an auditor"),
    ],
)
@pytest.mark.parametrize("verb", ["approve", "deny"])
def test_who_may_not_decide_does_not(
    rig: Rig, postgres: Server, requester: Person, voter: Person, told: str, verb: str
) -> None:
    with rig.wire(requester, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        answer = rig.vote(voter, request, verb)
        assert answer.status_code in {400, 403, 409}
        assert told in answer.json()["error"]["message"]
        assert rig.waiting()["id"] == request["id"]
        assert _orders(postgres) == 500
        rig.vote(CAROL, request, "deny").raise_for_status()
        connection.until("Z")


def test_owner_may_approve_what_a_machine_asks_where_the_policy_says_so(rig: Rig) -> None:
    with rig.wire(BOT, "owned") as connection:
        request = _held(rig, connection, pgwire.query("insert into people values (7001, 'Bot')"))
        for claims, why in (({}, "auth_time"), ({"auth_time": 1_000_000_000}, "log in again")):
            refused = rig.vote(replace(BOB, claims=claims), request)
            assert (refused.status_code, why in refused.text) == (409, True)
        rig.vote(replace(BOB, claims={"auth_time": int(time.time())}), request).raise_for_status()
        connection.until("Z")
        assert _tags(connection) == ["INSERT 0 1"]


def test_two_votes_are_two_people(rig: Rig) -> None:
    with rig.wire(ALICE, "careful") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        assert rig.vote(CAROL, request).json()["state"] == "waiting"
        second = rig.vote(CAROL, request)
        assert (second.status_code, "already voted" in second.text) == (409, True)
        assert rig.vote(FRANK, request).json()["state"] == "approved"
        connection.until("Z")
        assert _tags(connection) == [f"DELETE {OPEN}"]


def test_vote_is_on_what_was_shown(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        wrong = rig.vote(CAROL, {**request, "digest": "0" * 64})
        assert wrong.status_code == 409
        assert rig.waiting()["id"] == request["id"]
        rig.vote(CAROL, request, "deny").raise_for_status()


def test_looking_is_not_approving(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        with rig.api(CAROL) as api:
            for path in (f"approvals/{request['id']}/approve", f"approvals/{request['id']}/deny"):
                assert api.get(path).status_code in {404, 405}
            api.get(f"approvals/{request['id']}").raise_for_status()
        assert rig.waiting()["state"] == "waiting"


# Once, in time, and only while somebody waits.


def test_two_who_decide_at_once_make_one_decision(rig: Rig, postgres: Server) -> None:
    for _ in range(10):
        with rig.wire(ALICE, "shop") as connection:
            request = _held(rig, connection, pgwire.query("delete from orders where id <= 3 returning id"))
            answers = _at_once(
                lambda request=request: rig.vote(CAROL, request),  # type: ignore[misc]
                lambda request=request: rig.vote(FRANK, request, "deny"),  # type: ignore[misc]
            )
            connection.until("Z")
            assert sorted(a.status_code for a in answers) == [200, 409]
            approved = answers[0].status_code == 200
            assert len(_tags(connection)) == approved
            assert len(connection.errors) == (not approved)
            settled = [e["data"] for e in rig.entries(request["session"]) if e["kind"] == "settled"]
            assert [entry["state"] for entry in settled] == ["approved" if approved else "denied"]


def test_two_who_approve_at_once_cause_one_execution(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query("update orders set amount = amount + 1 where id = 400"))
        before = postgres.execute("select amount from orders where id = 400", database="held")[0][0]
        answers = _at_once(lambda: rig.vote(CAROL, request), lambda: rig.vote(FRANK, request))
        connection.until("Z")
        assert sorted(a.status_code for a in answers) == [200, 409]
        assert _tags(connection) == ["UPDATE 1"]
    assert postgres.execute("select amount from orders where id = 400", database="held")[0][0] == before + 1


def _at_once(*acts: Callable[[], Any]) -> list[Any]:
    answers: dict[int, Any] = {}
    gate = threading.Barrier(len(acts))

    def work(number: int) -> None:
        gate.wait()
        answers[number] = acts[number]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answers[number] for number in range(len(acts))]


def test_request_expires_and_stays_expired(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "brief") as connection:
        request = _held(rig, connection, pgwire.query("update orders set note = 'x' where id = 1"))
        connection.until("Z")
        assert "in time" in connection.errors[0]["M"]
        late = rig.vote(CAROL, request)
        assert late.status_code == 409
        assert connection.ask("select 1")[-1].text == "I"
    assert postgres.execute("select note from orders where id = 1", database="held") != [("x",)]


def test_approved_statement_runs_once_and_the_next_one_asks_again(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        first = _held(rig, connection, pgwire.query(DELETE))
        rig.vote(CAROL, first).raise_for_status()
        connection.until("Z")
        second = _held(rig, connection, pgwire.query(DELETE))
        assert second["id"] != first["id"]
        rig.vote(CAROL, second, "deny").raise_for_status()
        connection.until("Z")
        assert _tags(connection) == [f"DELETE {OPEN}"]


def test_each_execution_asks_with_its_own_parameters(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        connection.send(pgwire.parse("d", "delete from orders where id > $1") + pgwire.SYNC)
        connection.until("Z")

        def run(value: str) -> bytes:
            return pgwire.bind("", "d", [value]) + pgwire.execute() + pgwire.SYNC

        first = _held(rig, connection, run("495"))
        assert first["action"]["arguments"] == ["495"]
        rig.vote(CAROL, first).raise_for_status()
        connection.until("Z")
        second = _held(rig, connection, run("0"))
        assert second["action"]["arguments"] == ["0"]
        assert second["digest"] != first["digest"]
        rig.vote(CAROL, second, "deny").raise_for_status()
        connection.until("Z")
        assert _tags(connection) == ["DELETE 5"]
    assert _orders(postgres) == 495


def test_what_comes_behind_a_held_statement_waits_with_it(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        connection.send(pgwire.query("set application_name = 'later'") + pgwire.query("select count(*) from orders"))
        assert connection.receive(0.3) is None
        rig.vote(CAROL, request).raise_for_status()
        for _ in range(3):
            connection.until("Z")
        assert _tags(connection) == [f"DELETE {OPEN}", "SET", "SELECT 1"]
        assert connection.rows == [[str(500 - OPEN).encode()]]


def test_cancelling_withdraws_the_request_and_the_session_goes_on(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        with Connection(rig.socket) as other:
            other.send(pgwire.request(pgwire.CANCEL_REQUEST, connection.process, connection.key))
            assert other.until_closed()
        connection.until("Z")
        assert connection.errors[0]["C"] == "57014"
        late = rig.vote(CAROL, request)
        assert late.status_code == 409
        assert connection.ask("select 1")[-1].text == "I"
    assert _orders(postgres) == 500


def test_hanging_up_withdraws_the_request(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
    with rig.api(CAROL) as api:
        path = f"approvals/{request['id']}"
        until(lambda: api.get(path).json()["state"] == "withdrawn" or None, "the withdrawal")
    assert rig.vote(CAROL, request).status_code == 409
    assert _orders(postgres) == 500


def test_new_policy_voids_what_waits(rig: Rig, postgres: Server) -> None:
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(DELETE))
        rig.reload(POLICY + "  - {name: more, effect: deny, sql: {verbs: [vacuum]}}\n")
        connection.until("Z")
        assert "withdrawn" in connection.errors[0]["M"]
        assert rig.vote(CAROL, request).status_code == 409
        assert connection.ask("select 1")[-1].text == "I"
    assert _orders(postgres) == 500
    rig.reload(POLICY)


def test_gateway_that_stops_runs_nothing_that_waited(issuer: Issuer, postgres: Server) -> None:
    with (
        loaded(postgres, "stopped", shop.SQL) as database,
        Rig(
            issuer, {"shop": target(postgres, database)}, POLICY.split("  - name: brief")[0], environment=ENVIRONMENT
        ) as rig,
    ):
        connection = rig.wire(ALICE, "shop")
        request = _held(rig, connection, pgwire.query(DELETE))
        rig.kill()
        with connection, pytest.raises(Closed):
            connection.until("Z")
        rig.start()
        assert rig.vote(CAROL, request).status_code in {400, 409}
        with rig.api(CAROL) as api:
            assert api.get("approvals").json()["approvals"] == []
        assert postgres.execute("select count(*) from orders", database=database) == [(500,)]


# What the approver sees.

HOSTILE = [
    pytest.param("\x1b[2K\x1b[1Aselect 1", id="escape"),
    pytest.param("\u202egnihton etelled\u202c", id="bidi"),
    pytest.param("a\u200bb\u2060c\ufeffd", id="zero width"),
    pytest.param("select 1\r" + " " * 60, id="carriage return"),
    pytest.param("\x9b31m\x08\x08", id="C1 and backspace"),
    pytest.param("\u2028\u2029\u0085", id="line separators"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_does_nothing_on_the_approvers_screen(rig: Rig, text: str) -> None:
    statement = f"delete from orders /* {text} */ where id = 1 and note <> '{text}'"
    ticket = rig.ticket(ALICE, "shop", reason=f"why not {text}")
    with Connection(rig.socket, lambda: ticket).login(user="alice", database="shop") as connection:
        request = _held(rig, connection, pgwire.query(statement))
        for arguments in (("approvals",), ("deny", request["id"], "--yes", "--reason", f"no {text}")):
            done = rig.run(CAROL, *arguments)
            assert done.returncode == 0, done.stderr
            assert [hex(ord(c)) for c in done.stdout + done.stderr if _acts(c)] == []
        assert "where id = 1" in done.stdout
        connection.until("Z")
        assert not any(_acts(c) for c in connection.errors[0]["M"])
    shown = rig.run(DAVE, "show", request["session"])
    assert shown.returncode == 0, shown.stderr
    assert not any(_acts(c) for c in shown.stdout)


def _acts(character: str) -> bool:
    """Tell whether a character does something on a terminal other than being seen."""
    return character != "\n" and unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}


@pytest.mark.parametrize("name", ["Eve\x1b[2K", "Eve\u202e", "Eve\r\nadmin", "Ev\u200be"])
def test_name_that_hides_something_proves_nobody(rig: Rig, name: str) -> None:
    with rig.api(Person("eve", ("engineers",), {"name": name})) as api:
        assert api.get("whoami").status_code == 401


def test_long_statement_is_shown_whole(rig: Rig, tmp_path: Path) -> None:
    numbers = ", ".join(str(n) for n in range(10_000, 20_000))
    with rig.wire(ALICE, "shop") as connection:
        request = _held(rig, connection, pgwire.query(f"delete from orders where id in ({numbers}, 77)"))
        done = rig.run(CAROL, "deny", request["id"], "--yes", "--reason", "too many")
        assert done.returncode == 0, done.stderr
        assert "19999,77" in re.sub(r"\s", "", done.stdout)
        connection.until("Z")
