"""Bad input of every kind: a clear error for whoever sent it, nothing for anybody else, and a gateway that goes on."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bastion.demo.cluster import free_port
from tests.kit import pgwire, shop
from tests.kit.certificates import Authority
from tests.kit.issuer import Issuer
from tests.kit.pgwire import Closed, Connection, frame
from tests.kit.postgres import PASSWORD, Server
from tests.kit.rig import ALICE, ENVIRONMENT, MALLORY, Person, Rig, target, until

pytestmark = [pytest.mark.live, pytest.mark.slow]

_MIB = 1024 * 1024
UNREACHABLE_PORT = free_port()


@pytest.fixture(scope="module")
def rig(
    postgres: Server, shop_database: str, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    stranger = Authority(tmp_path_factory.mktemp("ca"), "stranger")
    targets = {
        "shop": target(postgres, shop_database),
        "unreachable": target(postgres, shop_database, address=f"127.0.0.1:{UNREACHABLE_PORT}"),
        "wrong-password": target(postgres, shop_database, credential={"env": "WRONG_PASSWORD"}),
        "no-password": target(postgres, shop_database, credential={"env": "MISSING_PASSWORD"}),
        "no-database": target(postgres, "there_is_none"),
        "untrusted": target(postgres, shop_database, tls={"mode": "verify-full", "ca": str(stranger.certificate)}),
        "trusted": target(postgres, shop_database, tls={"mode": "verify-full", "ca": str(postgres.ca)}),
    }
    environment = {**ENVIRONMENT, "WRONG_PASSWORD": "not-the-password-at-all"}
    with Rig(issuer, targets, shop.READ_WRITE, environment=environment) as made:
        yield made


@pytest.fixture(autouse=True)
def _nobody_else_is_hurt(rig: Rig) -> Iterator[None]:
    """Have a session open before each test, and use it and a new one afterwards."""
    with rig.wire(ALICE, "shop") as bystander:
        yield
        assert _works(bystander)
    with rig.wire(ALICE, "shop") as late:
        assert _works(late)


def _works(connection: Connection) -> bool:
    return [m.row for m in connection.ask("select 'works'") if m.type == "D"] == [[b"works"]]


def _last_words(connection: Connection) -> dict[str, str]:
    """Return the error that a connection ends with."""
    with connection:
        assert connection.until_closed()
        return connection.errors[-1]


# Who, and where to.


def test_unknown_target_is_named_and_so_is_what_helps(rig: Rig) -> None:
    with rig.api(ALICE) as api:
        error = api.post("tickets", target="prod-bd", reason="", client="").json()["error"]
    assert (error["code"], error["exit_status"]) == ("access.refused", 77)
    assert "prod-bd" in error["message"]
    assert "bastion targets" in error["hint"]
    done = rig.run(ALICE, "exec", "prod-bd", "--", "select 1")
    assert done.returncode == 2
    assert "prod-bd" in done.stderr


def test_ticket_for_one_target_opens_no_other(rig: Rig) -> None:
    ticket = rig.ticket(ALICE, "shop")
    connection = Connection(rig.socket, lambda: ticket)
    connection.send(pgwire.startup({"user": "alice", "database": "trusted"}))
    assert _last_words(connection)["C"] in {"28P01", "28000"}


@pytest.mark.parametrize("secret", ["", "x", "wrong-ticket", "\x7f" * 200, "é" * 64])
def test_wrong_ticket_opens_nothing(rig: Rig, secret: str) -> None:
    connection = Connection(rig.socket, lambda: secret)
    connection.send(pgwire.startup({"user": "alice", "database": "shop"}))
    words = _last_words(connection)
    assert words["S"] == "FATAL"
    assert words["C"] in {"28P01", "08P01"}


def test_ticket_opens_one_session(rig: Rig) -> None:
    ticket = rig.ticket(ALICE, "shop")
    with Connection(rig.socket, lambda: ticket).login(user="alice", database="shop"):
        second = Connection(rig.socket, lambda: ticket)
        second.send(pgwire.startup({"user": "alice", "database": "shop"}))
        assert _last_words(second)["C"] == "28P01"


@pytest.mark.parametrize("change", ["expired", "altered", "foreign", "none"])
def test_token_that_proves_nothing_is_refused_and_says_nothing(rig: Rig, issuer: Issuer, change: str) -> None:
    now = int(time.time())
    good = rig.token(ALICE)
    token = {
        "expired": issuer.token("alice", "engineers", iat=now - 7200, nbf=now - 7200, exp=now - 3600),
        "altered": good[:-8] + ("AAAAAAAA" if not good.endswith("AAAAAAAA") else "BBBBBBBB"),
        "foreign": issuer.token("alice", "engineers", aud="somebody-else"),
        "none": "",
    }[change]
    done = rig.run(ALICE, "whoami", environment={"BASTION_TOKEN": token or "x"})
    assert done.returncode == 77
    assert done.stdout == ""
    assert "exp" not in done.stderr.replace("expected", "").replace("expired", "") or change != "expired"
    assert token[:40] not in done.stderr or not token


def test_identity_that_no_rule_speaks_of_gets_no_ticket(rig: Rig) -> None:
    with rig.api(Person("walter", ("visitors",))) as api:
        answer = api.post("tickets", target="shop", reason="", client="")
    assert answer.status_code == 403


# What is wrong with a target.


@pytest.mark.parametrize(
    ("name", "sqlstate", "told"),
    [
        ("unreachable", "08001", "cannot be reached"),
        ("wrong-password", "08004", "does not let the gateway in"),
        ("no-database", "08004", "does not"),
        ("untrusted", "08006", "certificate"),
        ("no-password", None, "environment"),
    ],
)
def test_target_that_fails_is_named_without_its_secrets(rig: Rig, name: str, sqlstate: str | None, told: str) -> None:
    connection = rig.knock(ALICE, name)
    connection.send(pgwire.startup({"user": "alice", "database": name}))
    words = _last_words(connection)
    assert words["S"] == "FATAL"
    assert sqlstate is None or words["C"] == sqlstate
    assert told in words["M"]
    for secret in (PASSWORD + "'", "not-the-password-at-all", "127.0.0.1", str(UNREACHABLE_PORT)):
        assert secret.encode() not in connection.raw


def test_target_with_a_certificate_that_verifies_lets_in(rig: Rig) -> None:
    with rig.wire(ALICE, "trusted") as connection:
        assert _works(connection)


# Files that are wrong.


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("version: 1\nrules:\n  - name: x\n    effect: alow\n", "policy.yaml:4:"),
        ("version: 1\nrules:\n  - {name: x, effect: allow, sql: {acces: read}}\n", "policy.yaml:3:"),
        ("version: 1\nrules: [", "policy.yaml:"),
        ("", "policy.yaml:"),
    ],
)
def test_gateway_does_not_start_with_a_policy_that_is_wrong(
    issuer: Issuer, postgres: Server, policy: str, told: str
) -> None:
    rig = Rig(issuer, {"shop": target(postgres, "shop")}, policy, environment=ENVIRONMENT)
    rig.launch()
    try:
        assert rig.process.wait(30) == 78
        assert told in rig.logged
        assert "expected" in rig.logged
        assert "Traceback" not in rig.logged
    finally:
        rig.__exit__(None, None, None)


@pytest.mark.parametrize("change", ["unknown key", "no issuer", "not yaml", "absent"])
def test_gateway_does_not_start_with_a_configuration_that_is_wrong(
    issuer: Issuer, postgres: Server, change: str
) -> None:
    rig = Rig(issuer, {"shop": target(postgres, "shop")}, shop.READ_WRITE, environment=ENVIRONMENT)
    match change:
        case "unknown key":
            rig.configure({"shop": target(postgres, "shop", passwort="x")})
        case "no issuer":
            rig.config.write_text("targets: {}\n")
        case "not yaml":
            rig.config.write_text("identity: [\n")
        case "absent":
            rig.config.unlink()
    rig.launch()
    try:
        assert rig.process.wait(30) == 78
        assert "bastion.yaml" in rig.logged
        assert "Traceback" not in rig.logged
    finally:
        rig.__exit__(None, None, None)


def test_reload_of_a_wrong_policy_keeps_the_one_in_force(rig: Rig) -> None:
    before = rig.status()
    status = rig.reload("version: 1\nrules: nonsense\n")
    assert "policy.yaml:2:" in status["policy_error"]
    assert status["policy_version"] == before["policy_version"]
    with rig.wire(ALICE, "shop") as connection:
        assert _works(connection)
    assert rig.reload(shop.READ_WRITE)["policy_error"] == ""


# Messages that are wrong.


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff" * 64, id="noise"),
        pytest.param(frame("z"), id="a type that does not exist"),
        pytest.param(frame("T", b"\0\0"), id="a message of the other side"),
        pytest.param(frame("p", b"again\0"), id="a second password"),
        pytest.param(frame("Q", b"select 1"), id="a query without an end"),
        pytest.param(frame("Q", b"select 1\0; drop table people\0"), id="a query with two ends"),
        pytest.param(frame("Q", b"select '\xff\xfe'\0"), id="a query that is not UTF-8"),
        pytest.param(frame("Q", b"select 1\0", 3), id="a length below its own size"),
        pytest.param(frame("Q", b"select 1\0", 0xFFFFFFFF), id="a negative length"),
        pytest.param(frame("P", b"\0select 1\0\xff\xff"), id="a Parse with types that are not there"),
        pytest.param(frame("B", b"\0\0\0\1"), id="a Bind that is cut"),
        pytest.param(frame("B", b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0"), id="a Bind with a value longer than itself"),
        pytest.param(frame("D", b"X\0"), id="a Describe of nothing"),
        pytest.param(frame("E", b"\0\0"), id="an Execute that is cut"),
        pytest.param(frame("S", b"x"), id="a Sync with a body"),
    ],
)
def test_malformed_message_is_answered_or_ends_its_own_session(rig: Rig, data: bytes) -> None:
    with rig.wire(ALICE, "shop") as connection:
        with contextlib.suppress(Closed):
            connection.send(data + pgwire.SYNC)
            connection.until("E")
        assert connection.errors
        assert connection.errors[-1]["C"] in {"08P01", "0A000", "42601", "22021", "53300", "54000"}


def test_message_of_a_gibibyte_is_refused_before_it_is_sent(rig: Rig) -> None:
    before = _resident(rig)
    with rig.wire(ALICE, "shop") as connection:
        connection.send(frame("Q", b"select 1", 1024 * _MIB))
        with contextlib.suppress(Closed):
            for _ in range(64):
                connection.send(b"x" * _MIB)
        words = _last_words(connection)
    assert words["S"] == "FATAL"
    assert _resident(rig) - before < 64 * _MIB


def test_function_call_is_refused(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        connection.send(pgwire.function_call(1598))
        with contextlib.suppress(Closed):
            connection.until("Z")
        assert "FunctionCall" in connection.errors[0]["M"]


@pytest.mark.parametrize("value", ["true", "database", "on", "1"])
def test_replication_is_refused(rig: Rig, value: str) -> None:
    connection = rig.knock(ALICE, "shop")
    connection.send(pgwire.startup({"user": "alice", "database": "shop", "replication": value}))
    assert "replication" in _last_words(connection)["M"]


@pytest.mark.parametrize("code", [pgwire.SSL_REQUEST, pgwire.GSSENC_REQUEST])
def test_what_is_smuggled_behind_a_request_for_encryption_is_not_read(rig: Rig, code: int) -> None:
    ticket = rig.ticket(ALICE, "shop")
    connection = Connection(rig.socket)
    password = frame("p", pgwire.string(ticket))
    start = pgwire.startup({"user": "alice", "database": "shop"})
    connection.send(pgwire.request(code) + start + password + pgwire.query("select 'smuggled'"))
    with connection:
        assert connection.until_closed()
    assert b"smuggled" not in connection.raw
    # The ticket was not even looked at.
    with Connection(rig.socket, lambda: ticket).login(user="alice", database="shop") as honest:
        assert _works(honest)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0\0\0\x08\0\0\0\0", id="an unknown protocol"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
        pytest.param(b"\x16\x03\x01\0\xa5\x01\0", id="TLS"),
        pytest.param(b"\0\0\0\4", id="a packet that is too short"),
        pytest.param(b"\x7f\xff\xff\xff\0\3\0\0", id="a packet that is too long"),
        pytest.param(pgwire.startup({"user": "alice"})[:-1] + b"x", id="a packet without an end"),
        pytest.param(pgwire.startup({"user": "alice", "": "x"}), id="a key without a name"),
    ],
)
def test_bad_start_is_turned_away(rig: Rig, data: bytes) -> None:
    with Connection(rig.socket) as connection:
        connection.send(data)
        assert connection.until_closed()
        assert all(error["S"] == "FATAL" for error in connection.errors)


# Too much of something.


def test_thousands_of_silent_connections_cost_little_and_stop_nobody(rig: Rig) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    wanted = min(5000, most - 200)
    before = _resident(rig)
    silent: list[socket.socket] = []
    with rig.wire(ALICE, "shop") as inside, contextlib.ExitStack() as stack:
        for _ in range(wanted):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.connect(str(rig.socket))
            silent.append(one)
        assert _works(inside)
        # Who is beyond what the gateway keeps waiting hears so as soon as it gets round to it.
        until(lambda: _still_quiet(silent) <= 500 or None, "all but 500 to be turned away")
        assert _resident(rig) - before < 32 * _MIB
        assert _works(inside)
        # Who has been silent longest makes room for who comes with a ticket.
        assert _let_in(rig)
    until(lambda: _let_in(rig), "the gateway to let somebody in")


def _still_quiet(connections: list[socket.socket]) -> int:
    """Return how many of the connections were not turned away; those that were, with words, leave the list."""
    for one in tuple(connections):
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            assert b"53300" in one.recv(1000)
            connections.remove(one)
    return len(connections)


def _let_in(rig: Rig) -> bool:
    try:
        with rig.wire(ALICE, "shop") as connection:
            return _works(connection)
    except (Closed, OSError):
        return False


def test_client_that_stops_reading_is_held_back_and_holds_back_nobody(rig: Rig) -> None:
    before = _resident(rig)
    with rig.wire(ALICE, "shop") as slow, rig.wire(MALLORY, "shop") as other:
        slow.send(pgwire.query("select repeat('x', 10000) from generate_series(1, 50000)"))
        slow.receive()
        # As long as the target takes to produce all of it for somebody who reads.
        rows = sum(1 for m in other.ask("select repeat('x', 10000) from generate_series(1, 5000)") if m.type == "D")
        assert rows == 5000
        assert _resident(rig) - before < 96 * _MIB
        until(lambda: _blocked(rig), "the target to be held back")
    assert _works_now(rig)


def _blocked(rig: Rig) -> bool:
    """Tell whether the gateway has stopped taking what the slow client does not read: its memory stands still."""
    first = _resident(rig)
    time.sleep(0.2)
    return abs(_resident(rig) - first) < _MIB


def _works_now(rig: Rig) -> bool:
    with rig.wire(ALICE, "shop") as connection:
        return _works(connection)


def test_pipelined_flood_behind_nothing_read_is_bounded(rig: Rig) -> None:
    before = _resident(rig)
    with rig.wire(ALICE, "shop") as connection:
        connection.socket.settimeout(1)
        flood = pgwire.query("select repeat('x', 100000)") * 100
        sent = 0
        with contextlib.suppress(TimeoutError, OSError):
            while sent < 64 * _MIB:
                sent += connection.socket.send(flood)
        assert _resident(rig) - before < 128 * _MIB


def test_deep_and_long_statements_are_refused_in_bounded_time(rig: Rig) -> None:
    with rig.wire(ALICE, "shop") as connection:
        for text in ("select 1" + "+1" * 24_000, "select " + "(" * 5_000 + "1" + ")" * 5_000):
            began = time.monotonic()
            told = connection.ask(text)
            assert any(m.type == "E" for m in told)
            assert time.monotonic() - began < 10
        assert _works(connection)


def test_rude_goodbye_leaves_nothing_behind(rig: Rig, postgres: Server, shop_database: str) -> None:
    connection = psycopg.connect(rig.dsn(ALICE, "shop", application_name="rude"))
    connection.execute("select 1")
    connection.pgconn.finish()

    def gone() -> bool:
        query = "select count(*) from pg_stat_activity where datname = %s and application_name = 'rude'"
        return bool(postgres.execute(query, (shop_database,)) == [(0,)])

    until(gone, "the target's side to end")


def _resident(rig: Rig) -> int:
    """Return the memory of the gateway in bytes."""
    for line in Path(f"/proc/{rig.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the gateway is gone")
