"""What people do on a real terminal: decide about a request, hold a conversation, be told of a hold at once."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.cli.running import environment
from tests.client.stand_in import StandIn, gateway
from tests.kit.postgres import Database

pytestmark = pytest.mark.slow


@pytest.fixture
def fronted(database: Database) -> Iterator[StandIn]:
    with gateway(database) as running:
        yield running


def spawn(stand_in: StandIn, *arguments: str, **more: str) -> Any:
    variables = environment(stand_in, {"TERM": "xterm", "PAGER": "cat", **more})
    child = pexpect.spawn(
        sys.executable, ["-m", "bastion", *arguments], env=variables, encoding="utf-8", timeout=30, dimensions=(40, 100)
    )
    child.delaybeforesend = None
    return child


@pytest.mark.parametrize(("answer", "status", "votes"), [("y", 0, 1), ("n", 1, 0), ("", 1, 0), ("maybe", 1, 0)])
def test_only_yes_is_yes(stand_in: StandIn, answer: str, status: int, votes: int) -> None:
    child = spawn(stand_in, "approve", "ap-1")
    child.expect_exact("delete from orders")
    child.expect_exact("Approve this? [y/N] ")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == status
    assert len(stand_in.votes) == votes


def test_ctrl_c_decides_nothing(stand_in: StandIn) -> None:
    child = spawn(stand_in, "deny", "ap-1", "--reason", "no")
    child.expect_exact("Deny this?")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus != 0
    assert stand_in.votes == []


def test_a_conversation(fronted: StandIn) -> None:
    child = spawn(fronted, "connect", "prod-db", "--reason", "a look")
    child.expect("prod-db>")
    child.send("do $$begin raise notice 'waiting for approval ap-7'; perform pg_sleep(60); end$$;\r")
    child.expect("NOTICE:  waiting for approval ap-7")
    child.sendintr()
    child.expect("cancelled query")
    child.expect("prod-db>")
    child.send("select E'\\x1b]0;owned\\x07' as hostile, 6 * 7 as n;\r")
    child.expect(r"\\x1B\]0;owned\\x07.*42")
    child.expect("prod-db>")
    child.send("do $$begin raise exception 'bad: %', E'\\x1b]0;owned\\x07'; end$$;\r")
    child.expect(r"bad: \\x1B\]0;owned\\x07")
    child.expect("prod-db>")
    child.send("select pg_terminate_backend(pg_backend_pid());\r")
    child.expect("Reconnected!")
    child.expect("before reconnecting")
    child.send("n\r")
    child.expect("prod-db>")
    child.send("\\dt\r")
    child.expect("SELECT 0")
    child.expect("prod-db>")
    child.send("\\c elsewhere\r")
    child.expect("stays at its target")
    child.expect("prod-db>")
    child.send("\\q\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert fronted.cancels == 1
    assert {asked["reason"] for asked in fronted.asked} == {"a look"}


def test_the_history_is_private_and_pgclis_own_files_are_left_alone(fronted: StandIn) -> None:
    child = spawn(fronted, "connect", "prod-db")
    child.expect("prod-db>")
    child.send("select 'remember me';\r")
    child.expect("SELECT 1")
    child.expect("prod-db>")
    child.send("\\q\r")
    child.expect(pexpect.EOF)
    child.close()
    data = Path(fronted.environment["XDG_DATA_HOME"]) / "bastion"
    assert "remember me" in (data / "history").read_text()
    assert all(stat.S_IMODE(os.stat(file).st_mode) & 0o077 == 0 for file in (data, *data.iterdir()))
    assert not (Path(fronted.environment["XDG_CONFIG_HOME"]) / "pgcli").exists()


def test_a_tunnel_serves_until_ctrl_c(fronted: StandIn) -> None:
    child = spawn(fronted, "tunnel", "prod-db")
    child.expect(r"PGPASSWORD=(\S+) psql -h 127.0.0.1 -p (\d+) -U bastion -d prod-db")
    assert child.match is not None
    password, port = child.match[1], child.match[2]
    child.expect(rf"DBeaver[^\r\n]*\r\n +Host: 127.0.0.1\r\n +Port: {port}\r\n")
    done = pexpect.run(
        f"psql -X -At -h 127.0.0.1 -p {port} -U bastion -d prod-db -c 'select 6*7'",
        env={"PGPASSWORD": password, "PATH": os.environ["PATH"]},
        encoding="utf-8",
    )
    assert done.strip() == "42"
    child.sendintr()
    child.expect_exact("the tunnel is closed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_psql_itself(fronted: StandIn) -> None:
    child = spawn(fronted, "connect", "prod-db", "--client", "psql", PAGER="cat")
    child.expect("prod-db=>")
    child.sendline("select pg_sleep(60);")
    child.expect_exact("pg_sleep(60);")
    child.sendintr()
    child.expect(r"(prod-db=>)")
    child.sendline("select 6*7 as n;")
    child.expect("42")
    child.sendline("\\! env | grep -c ^BASTION_TOKEN=; echo counted")
    child.expect(r"[^0-9]0\r\ncounted")
    child.sendline("\\q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_psql_that_is_not_there(fronted: StandIn) -> None:
    child = spawn(fronted, "connect", "prod-db", "--client", "psql", PATH="/nowhere")
    child.expect_exact("psql is not installed here")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 2
