"""One connection of the built-in client's, run statement by statement as psql runs it, in the simple protocol."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import psycopg
from psycopg import generators, pq
from psycopg.errors import Diagnostic
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

from bastion.protocols.clientside import LoopbackAddress
from bastion.protocols.postgres.listing import Rows
from bastion.protocols.postgres.outcomes import Message

T = TypeVar("T")
_USER = "bastion"
"""Who enters is decided by the ticket; the protocol wants a name all the same."""
_PIECE = 64 * 1024
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)
_COPIES = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT)


class Failed(Exception):
    """A statement failed; the target's message says how."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.text)
        self.message = message


class Lost(Exception):
    """The connection is gone."""


def parameters(address: LoopbackAddress, program: str) -> dict[str, str]:
    """Return what a client that uses libpq needs to know."""
    found = {
        "host": address.host,
        "port": str(address.port),
        "dbname": address.target,
        "user": _USER,
        "application_name": program,
        "client_encoding": "UTF8",
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    return found | ({"password": address.password} if address.password else {})


class Conversation:
    """A connection that runs texts, and says what comes of them as it comes."""

    def __init__(self, address: LoopbackAddress, notice: Callable[[Message], None]) -> None:
        try:
            self._connection = psycopg.connect(**parameters(address, "bastion"), autocommit=True)  # type: ignore[arg-type]
        except psycopg.OperationalError as error:
            raise Lost(_words(error)) from error
        self._pg = self._connection.pgconn
        self._connection.add_notice_handler(lambda diagnostic: notice(message(diagnostic)))

    @property
    def connection(self) -> "psycopg.Connection[Any]":
        """The connection itself, for commands that ask the catalog."""
        return self._connection

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def run(self, text: str, source: Callable[[], Iterable[bytes]], sink: Callable[[bytes], None]) -> Iterable[Rows]:
        """Run `text` and yield each result as it is complete.

        `source` gives the data of a COPY that reads from the client, `sink` takes that of one that writes to it.
        Raises `Failed` for the target's error, behind which what follows in `text` did not run, and `Lost`.
        """
        encoded = text.encode()
        if b"\0" in encoded:
            # libpq would send what is before it and drop the rest without a word.
            raise Failed(Message("ERROR", "22021", "a statement holds no NUL"))
        try:
            self._pg.send_query(encoded)
            self._wait(generators.send(self._pg))
            while (result := self._wait(generators.fetch(self._pg))) is not None:
                if result.status in _COPIES and (result := self._copied(result, source, sink)) is None:
                    break
                if result.status in _FAILED:
                    failure = message(Diagnostic(result, encoding="utf-8"))
                    self._drain()
                    raise Failed(failure)
                if result.status != pq.ExecStatus.EMPTY_QUERY:
                    yield _rows(result)
        except psycopg.OperationalError as error:
            raise Lost(_words(error)) from error
        except psycopg.Error as error:
            if self._pg.status != pq.ConnStatus.OK:
                raise Lost(_words(error)) from error
            raise Failed(message(error.diag, str(error))) from error

    def _copied(
        self, result: PGresult, source: Callable[[], Iterable[bytes]], sink: Callable[[bytes], None]
    ) -> PGresult | None:
        """Carry the data of a COPY; return the result that follows it."""
        if result.status == pq.ExecStatus.COPY_IN:
            for piece in source():
                for at in range(0, len(piece), _PIECE):
                    self._wait(generators.copy_to(self._pg, piece[at : at + _PIECE]))
            self._pg.put_copy_end(None)
            self._wait(generators.send(self._pg))
        else:
            while (data := self._wait(_copy_data(self._pg))) is not None:
                sink(data)
        following: PGresult | None = self._wait(generators.fetch(self._pg))
        return following

    def _drain(self) -> None:
        """Take what is left of the answers to a text that has failed or was cancelled."""
        while (result := self._wait(generators.fetch(self._pg))) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                self._pg.put_copy_end(b"cancelled")
                self._wait(generators.send(self._pg))
            elif result.status == pq.ExecStatus.COPY_OUT:
                while self._wait(_copy_data(self._pg)) is not None:
                    continue

    def _wait(self, steps: Generator[Any, Any, T]) -> T:
        try:
            return self._connection.wait(steps)
        except KeyboardInterrupt:
            # psycopg has sent the CancelRequest and waited for the target's answer; the rest of it is still to come.
            self._drain()
            raise


def _copy_data(pg: PGconn) -> Generator[Wait, Ready, bytes | None]:
    """Return the next piece of a COPY to the client, or None at its end."""
    while True:
        size, data = pg.get_copy_data(1)
        if size > 0:
            return bytes(data)
        if size < 0:
            return None
        while not (yield Wait.R):
            continue
        pg.consume_input()


def _rows(result: PGresult) -> Rows:
    names = tuple((result.fname(at) or b"").decode("utf-8", "replace") for at in range(result.nfields))
    types = tuple(result.ftype(at) for at in range(result.nfields))
    cells = [
        [_cell(result.get_value(row, column)) for column in range(result.nfields)] for row in range(result.ntuples)
    ]
    tag = (result.command_status or b"").decode()
    return Rows(names, types, cells, tag, listed=result.status == pq.ExecStatus.TUPLES_OK)


def _cell(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def message(found: Diagnostic, otherwise: str = "") -> Message:
    """Return what psycopg heard as a message."""
    return Message(
        severity=found.severity_nonlocalized or found.severity or "ERROR",
        sqlstate=found.sqlstate or "",
        text=found.message_primary or otherwise,
        detail=found.message_detail or "",
        hint=found.message_hint or "",
        position=found.statement_position or "",
    )


def _words(error: psycopg.Error) -> str:
    return str(error).strip()
