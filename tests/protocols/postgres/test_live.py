"""The maps of names against a real server's own, after any sequence of messages; and what a preview says."""

import socket
import struct
from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastion.model.action import Action
from bastion.protocols.contract import Side
from bastion.protocols.postgres import impact
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.binding import UNKNOWN
from bastion.protocols.postgres.interceptor import SessionFacts
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.loading import load
from bastion.protocols.postgres.startup import target_startup
from tests.kit.postgres import Server
from tests.protocols.postgres.wire import SYNC, Carrier, bind, close, describe, execute, frame, parse, query, split

pytestmark = [pytest.mark.live, pytest.mark.slow]

LONG = "n" * 63
NAMES = st.sampled_from(["", "a", "b", LONG + "x", LONG + "y"])
NAMED = st.sampled_from(["a", "b", LONG + "x", LONG + "y"])
SELECTS = st.sampled_from(["SELECT 1", "SELECT 2 AS two", "SELECT 3, 4"])
STATEMENT = st.one_of(
    SELECTS,
    st.sampled_from(
        ["BEGIN", "COMMIT", "ROLLBACK", "SELECT 1/0", "DEALLOCATE ALL", "CLOSE ALL", "DISCARD ALL", "SELEC", ""]
    ),
    st.builds('PREPARE "{}" AS {}'.format, NAMED, SELECTS),
    st.builds('DECLARE "{}" CURSOR {} FOR {}'.format, NAMED, st.sampled_from(["", "WITH HOLD"]), SELECTS),
    st.builds('{} "{}"'.format, st.sampled_from(["EXECUTE", "DEALLOCATE", "FETCH", "CLOSE"]), NAMED),
)
MESSAGE = st.one_of(
    st.builds(query, st.lists(STATEMENT, min_size=1, max_size=3).map("; ".join)),
    st.builds(parse, STATEMENT, NAMES),
    st.builds(bind, NAMES, NAMES),
    st.builds(execute, NAMES, st.sampled_from([0, 1])),
    st.builds(close, st.sampled_from("SP"), NAMES),
    st.builds(describe, st.sampled_from("SP"), NAMES),
    st.just(SYNC),
)


class Backend:
    """One session of a real server, spoken to directly."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(f"{server.directory}/.s.PGSQL.{server.port}")
        self._buffer = b""
        self._socket.sendall(target_startup("app_rw", "postgres", {}))
        self.parameters = {}
        for tag, body in self.until_ready(1):
            if tag == "S":
                name, value, _ = body.split(b"\0")
                self.parameters[name] = value

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def raw_until_ready(self, count: int) -> bytes:
        """Return the bytes up to the `count`th ReadyForQuery from here."""
        data = b""
        while count:
            while len(self._buffer) < 5 or len(self._buffer) < 1 + struct.unpack(">I", self._buffer[1:5])[0]:
                more = self._socket.recv(65536)
                assert more, "the server hung up"
                self._buffer += more
            end = 1 + struct.unpack(">I", self._buffer[1:5])[0]
            count -= self._buffer[:1] == b"Z"
            data, self._buffer = data + self._buffer[:end], self._buffer[end:]
        return data

    def some(self) -> bytes:
        """Return what has come, at least something."""
        data, self._buffer = self._buffer, b""
        return data or self._socket.recv(65536)

    def until_ready(self, count: int) -> list[tuple[str, bytes]]:
        return split(self.raw_until_ready(count))

    def rows(self, text: str) -> list[list[str]]:
        """Return the rows of a query that the interceptor does not see."""
        self.send(query(text))
        found = []
        for tag, body in self.until_ready(1):
            assert tag != "E", body
            if tag == "D":
                values, at = [], 2
                for _ in range(struct.unpack(">H", body[:2])[0]):
                    size = struct.unpack(">i", body[at : at + 4])[0]
                    values.append(body[at + 4 : at + 4 + size].decode())
                    at += 4 + size
                found.append(values)
        return found

    def close(self) -> None:
        self._socket.sendall(frame(m.TERMINATE))
        self._socket.close()


@pytest.fixture(scope="module")
def analyst(every_postgres: Server) -> Iterator[CatalogAnalyst]:
    import asyncio

    async def read() -> CatalogAnalyst:
        async with await psycopg.AsyncConnection.connect(every_postgres.dsn(user="app_rw")) as connection:
            return CatalogAnalyst(await load(connection))

    return asyncio.run(read())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.lists(MESSAGE, min_size=1, max_size=7), min_size=1, max_size=5))
def test_names_are_the_targets_own(every_postgres: Server, analyst: CatalogAnalyst, runs: list[list[bytes]]) -> None:
    backend = Backend(every_postgres)
    try:
        carrier = Carrier(analyst=analyst, facts=SessionFacts(backend.parameters, analyst.catalog.path))
        for run in runs:
            carrier.client(*run, SYNC)
            converse(backend, carrier, analyst)
            compare(backend, carrier)
    finally:
        backend.close()


def converse(backend: Backend, carrier: Carrier, analyst: CatalogAnalyst) -> None:
    """Carry bytes both ways until nothing is outstanding."""
    while True:
        sent = carrier.sent[Side.TARGET]
        carrier.sent[Side.TARGET] = b""
        backend.send(sent)
        answers = carrier.interceptor._answers
        asked = [ask.name for ask in carrier.asks if ask.name in ("catalog", "view")]
        if asked:
            carrier.answer(asked[0], analyst)
            continue
        if not answers.outstanding and carrier.interceptor._understanding.renewal is None:
            return
        carrier.target(backend.some())


def compare(backend: Backend, carrier: Carrier) -> None:
    answers = carrier.interceptor._answers
    if answers.status == ord("E"):  # nothing can be asked in a transaction that has failed
        return
    real = {name: text for name, text in backend.rows("SELECT name, statement FROM pg_prepared_statements") if name}
    ours = {n.decode(): v for n, v in answers.statements.settled() if n}
    # More than there is may be known here, where a text of several statements broke off; never less.
    assert ours.keys() >= real.keys()
    for name, text in real.items():
        assert ours[name].reading is UNKNOWN or ours[name].reading.action.text.startswith(text.partition(";")[0][:7])
    cursors = {name: text for name, text in backend.rows("SELECT name, statement FROM pg_cursors") if name}
    held = {n.decode(): v for n, v in answers.portals.settled() if n}
    assert cursors.keys() <= held.keys()


@pytest.fixture
def orders(every_postgres: Server) -> Iterator[Server]:
    every_postgres.execute(
        "DROP TABLE IF EXISTS impact_orders; CREATE TABLE impact_orders (id int PRIMARY KEY, note text);"
        "INSERT INTO impact_orders SELECT g, 'n' || g % 3 FROM generate_series(1, 90) g; ANALYZE impact_orders;"
    )
    yield every_postgres
    every_postgres.execute("DROP TABLE impact_orders")


async def previewed(
    server: Server, text: str, arguments: tuple[bytes | str | None, ...] = (), **facts: object
) -> dict[str, object]:
    async with await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True) as connection:
        analyst = CatalogAnalyst(await load(connection))
        reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
        action: Action = reading.action.called_with(arguments, facts)
        return dict(await impact.preview(connection, action))


async def test_preview_counts_what_would_be_changed(orders: Server) -> None:
    found = await previewed(orders, "DELETE FROM impact_orders WHERE note = 'n1'")
    assert found["counted_rows"] == 30
    assert found["estimated_rows"]
    assert orders.execute("SELECT count(*) FROM impact_orders") == [(90,)]


async def test_preview_uses_arguments_as_they_were_bound(orders: Server) -> None:
    text = "UPDATE impact_orders SET note = $1 WHERE id < $2"
    found = await previewed(orders, text, ("x", struct.pack(">i", 11)), types=[0, 23], formats=[0, 1])
    assert found["counted_rows"] == 10
    assert (await previewed(orders, text, ("x", "11")))["counted_rows"] == 10


async def test_preview_of_everything(orders: Server) -> None:
    assert (await previewed(orders, "DELETE FROM impact_orders"))["counted_rows"] == 90


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO impact_orders VALUES (1000, 'x')",
        "DELETE FROM impact_orders WHERE id = pg_sleep(1)::text::int",
        "DELETE FROM nowhere",
        "SELECT 1",
    ],
)
async def test_preview_says_why_there_is_none(orders: Server, text: str) -> None:
    found = await previewed(orders, text)
    assert found["unavailable"]
    assert "counted_rows" not in found


async def test_preview_of_another_relation_is_the_estimate_alone(orders: Server) -> None:
    found = await previewed(orders, "DELETE FROM impact_orders o USING impact_orders p WHERE o.id = p.id")
    assert "counted_rows" not in found
    assert "estimated_rows" in found
