"""Starting, signalling and stopping, with a gateway that is real where it matters: a lock, a socket, signals."""

import contextlib
import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bastion.client import starting
from bastion.client.gateway import Gateway, GatewayAbsent
from bastion.errors import ConfigError, GatewayError
from tests.client.stand_in import StandIn

GATEWAY = """
import fcntl, http.server, json, os, signal, socket, socketserver, sys, threading
directory = os.environ["BASTION_RUNTIME_DIR"]
arguments = sys.argv[1:]
with open(directory + "/starts", "a") as starts:
    starts.write("x")
if "fail" in open(arguments[arguments.index("--config") + 1]).read():
    sys.exit("bastion: the policy holds a mistake")
pid = os.open(directory + "/gateway.pid", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(pid, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.ftruncate(pid, 0)
os.pwrite(pid, json.dumps({"pid": os.getpid()}).encode(), 0)
state = {"pid": os.getpid(), "reloads": 0, "policy_error": "", "token": os.environ.get("BASTION_TOKEN")}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(state).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
path = directory + "/control.sock"
if os.path.exists(path):
    os.unlink(path)
server = Server(path, Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
signal.signal(signal.SIGHUP, lambda *_: state.update(reloads=state["reloads"] + 1))
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
fd = int(arguments[arguments.index("--ready-fd") + 1])
os.write(fd, b"1")
os.close(fd)
while not over.wait(0.1):
    pass
os.unlink(path)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bastion.yaml"
    path.write_text("identity: {}\n")
    return path


@pytest.fixture
def gateway(short_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gateway]:
    """A runtime directory in which a small gateway is started in place of the real one."""
    program = tmp_path / "gateway.py"
    program.write_text(GATEWAY)
    real = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def popen(command: list[str], **options: object) -> "subprocess.Popen[bytes]":
        assert command[:4] == [sys.executable, "-I", "-m", "bastion"]
        arguments: Any = [sys.executable, "-I", str(program), *command[4:]]
        process: subprocess.Popen[bytes] = real(arguments, **options)  # type: ignore[call-overload]
        started.append(process)
        return process

    monkeypatch.setattr("bastion.client.starting.subprocess.Popen", popen)
    found = Gateway(short_directory / "run", lambda: "")
    yield found
    with contextlib.suppress(GatewayAbsent):
        starting.stop(found)
    for process in started:
        process.wait(20)


def test_the_first_one_starts_it_and_says_so(gateway: Gateway, config: Path) -> None:
    told: list[str] = []
    starting.ensure_running(gateway, config, told.append)
    assert len(told) == 1
    assert "background" in told[0]
    starting.ensure_running(gateway, config, told.append)
    assert len(told) == 1
    assert starting.running(gateway.directory) == gateway.status()["pid"]
    assert (gateway.directory.stat().st_mode & 0o777) == 0o700


def test_the_token_of_whoever_starts_it_stays_with_them(
    gateway: Gateway, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASTION_TOKEN", "mine")
    starting.ensure_running(gateway, config, lambda _: None)
    assert gateway.status()["token"] is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_nothing_is_written_in_a_directory_that_others_may_enter(gateway: Gateway, config: Path, mode: int) -> None:
    gateway.directory.mkdir()
    gateway.directory.chmod(mode)
    with pytest.raises((ConfigError, GatewayError)):
        starting.ensure_running(gateway, config, lambda _: None)
    assert list(gateway.directory.iterdir()) == []


def test_of_many_one_starts_it(gateway: Gateway, config: Path) -> None:
    failures: list[BaseException] = []

    def begin() -> None:
        try:
            starting.ensure_running(gateway, config, lambda _: None)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (gateway.directory / "starts").read_text() == "x"


def test_one_that_fails_says_why(gateway: Gateway, config: Path) -> None:
    config.write_text("fail")
    with pytest.raises(GatewayError, match="ended with status 1:\nbastion: the policy holds a mistake"):
        starting.ensure_running(gateway, config, lambda _: None)


def test_without_a_configuration_nothing_is_started(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        starting.ensure_running(gateway, tmp_path / "none.yaml", lambda _: None)
    assert not gateway.directory.exists()


def test_one_that_others_run_needs_no_configuration(stand_in: StandIn, tmp_path: Path) -> None:
    found = Gateway(stand_in.directory, lambda: "")
    starting.ensure_running(found, tmp_path / "none.yaml", lambda _: pytest.fail("nothing is to be said"))


def test_reload_and_stop_are_confirmed(gateway: Gateway, config: Path) -> None:
    starting.ensure_running(gateway, config, lambda _: None)
    assert starting.reload(gateway)["reloads"] == 1
    pid = gateway.status()["pid"]
    assert starting.stop(gateway) == pid
    assert starting.running(gateway.directory) is None
    with pytest.raises(GatewayAbsent):
        starting.stop(gateway)


def test_a_number_without_its_lock_is_nobodys(short_directory: Path) -> None:
    (short_directory / "gateway.pid").write_text('{"pid": 1234}')
    assert starting.running(short_directory) is None


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"pid": "x"}', '{"pid": 0}', '{"pid": 1}', '{"pid": -7}'])
def test_nobody_is_signalled_for_a_strange_number(short_directory: Path, content: str) -> None:
    path = short_directory / "gateway.pid"
    path.write_text(content)
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert starting.running(short_directory) is None


def test_a_linked_pid_file_is_not_followed(short_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"pid": 1234}')
    (short_directory / "gateway.pid").symlink_to(tmp_path / "x")
    with pytest.raises(GatewayError):
        starting.running(short_directory)
