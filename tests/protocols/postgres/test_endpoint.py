"""The listener on the wire: versions of the protocol, and cancel keys that are a session's own."""

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.kit import shop
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, ENVIRONMENT, Rig, loaded, target, until
from tests.protocols.postgres.wire import fields, frame, query

SLEEPING = "select 1 from pg_stat_activity where state = 'active' and query = 'select pg_sleep(30)'"
pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(scope="module")
def rig(postgres: Server) -> Iterator[Rig]:
    with (
        Issuer() as issuer,
        loaded(postgres, "endpoint", shop.SQL) as database,
        Rig(issuer, {"shop": target(postgres, database)}, shop.READ_WRITE, environment=ENVIRONMENT) as running,
    ):
        yield running


class Client:
    """A client that speaks any version."""

    def __init__(self, rig: Rig, version: int = 0x30000, **parameters: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(rig.socket))
        self._buffer = b""
        pairs = {"user": "alice", "database": "shop", **parameters}
        body = b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
        self._socket.sendall(struct.pack(">II", len(body) + 8, version) + body)
        self.negotiated = b""
        tag, body = self.message()
        if tag == "v":
            self.negotiated = body
            tag, body = self.message()
        assert (tag, body) == ("R", struct.pack(">I", 3))
        self._socket.sendall(frame(ord("p"), rig.ticket(ALICE, "shop").encode() + b"\0"))
        said = self.until("Z")
        ((_, self.key),) = [message for message in said if message[0] == "K"]
        self.parameters = dict(
            tuple(body.decode().split("\0")[:2])
            for tag, body in said
            if tag == "S"  # type: ignore[misc]
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def message(self) -> tuple[str, bytes]:
        while len(self._buffer) < 5 or len(self._buffer) < 1 + int.from_bytes(self._buffer[1:5]):
            more = self._socket.recv(65536)
            assert more, "the gateway hung up"
            self._buffer += more
        end = 1 + int.from_bytes(self._buffer[1:5])
        found, self._buffer = self._buffer[:end], self._buffer[end:]
        return chr(found[0]), found[5:]

    def until(self, last: str) -> list[tuple[str, bytes]]:
        found = [self.message()]
        while found[-1][0] != last:
            found.append(self.message())
        return found

    def ask(self, text: str) -> list[tuple[str, bytes]]:
        self.send(query(text))
        return self.until("Z")


def cancel(rig: Rig, key: bytes) -> None:
    """Send a CancelRequest and wait until the gateway has taken it."""
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(20)
        other.connect(str(rig.socket))
        other.sendall(struct.pack(">II", 8 + len(key), 80877102) + key)
        assert other.recv(1) == b""


@pytest.mark.parametrize(
    ("version", "negotiated", "key_size"),
    [
        (0x30000, b"", 8),
        (0x30002, b"", 36),
        (0x30001, struct.pack(">II", 0x30000, 0), 8),
        (0x3270F, struct.pack(">II", 0x30002, 0), 36),
    ],
)
def test_newest_version_that_both_know(rig: Rig, version: int, negotiated: bytes, key_size: int) -> None:
    with Client(rig, version) as client:
        assert client.negotiated == negotiated
        assert len(client.key) == key_size
        assert [tag for tag, _ in client.ask("select 1")] == ["T", "D", "C", "Z"]


def test_protocol_options_are_declined(rig: Rig) -> None:
    with Client(rig, 0x30002, **{"_pq_.something": "1"}) as client:
        assert client.negotiated == struct.pack(">II", 0x30002, 1) + b"_pq_.something\0"


@pytest.mark.parametrize("version", [0x30000, 0x30002])
def test_session_is_cancelled_by_its_own_key_alone(rig: Rig, postgres: Server, version: int) -> None:
    with Client(rig, version) as client, Client(rig, version) as other:
        client.send(query("select pg_sleep(30)"))
        # As everywhere, a cancel request that overtakes its statement cancels nothing.
        until(lambda: postgres.execute(SLEEPING), "the statement to run")
        flipped = client.key[:-1] + bytes([client.key[-1] ^ 1])
        for wrong in (flipped, client.key[:4] + other.key[4:], other.key):
            cancel(rig, wrong)
        # Its own key may still hit the other's next statement, as at any server; after that nothing of it is left.
        other.ask("select 1")
        assert [tag for tag, _ in other.ask("select 1")] == ["T", "D", "C", "Z"]
        assert postgres.execute(SLEEPING)
        cancel(rig, client.key)
        said = client.until("Z")
        assert [fields(body)["C"] for tag, body in said if tag == "E"] == ["57014"]
        assert [tag for tag, _ in client.ask("select 1")] == ["T", "D", "C", "Z"]


def test_settings_at_start_up_are_made_and_reported(rig: Rig) -> None:
    with Client(rig, application_name="a tool", TimeZone="Asia/Tokyo", extra_float_digits="2") as client:
        assert client.parameters["TimeZone"] == "Asia/Tokyo"
        assert client.parameters["application_name"] == "a tool"
        assert client.parameters["client_encoding"] == "UTF8"
        shown = client.ask("show extra_float_digits")
        assert [body[6:] for tag, body in shown if tag == "D"] == [b"2"]


def test_process_of_the_target_is_never_told(rig: Rig) -> None:
    with Client(rig) as client:
        (pid,) = [body[6:] for tag, body in client.ask("select pg_backend_pid()") if tag == "D"]
        assert struct.unpack(">I", client.key[:4])[0] != int(pid)
