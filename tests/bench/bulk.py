"""Bulk and sessions: a million rows either way, log-ins, and what a session costs while it idles."""

import contextlib
import os
import socket
import statistics
import time

import psycopg

from tests.bench.place import Way
from tests.kit.pgwire import COPY_DONE, frame, query

_READY = b"Z\0\0\0\x05I"
SELECT = "select id, name, price, at from wide"
FIVE = "select id, name, price, at, id as again from wide"
MASKED = "select id, name, price, at, id as again from masked"
"""The same, of which one column has a mask."""
COPY_OUT = "copy wide to stdout"
COPY_MASKED = "copy (select id, name, price, at, id as again from masked) to stdout"
COPY_IN = "copy incoming from stdin"


def out(way: Way, text: str) -> float:
    """Return the seconds until all rows of a statement have arrived at a client that only counts them."""
    with psycopg.connect(way.dsn()) as connection, _taken_over(connection) as wire:
        began = time.perf_counter()
        wire.sendall(query(text))
        _until_ready(wire)
        return time.perf_counter() - began


def rows(way: Way) -> bytes:
    """Return all rows as COPY sends them."""
    with psycopg.connect(way.dsn()) as connection, connection.cursor().copy(COPY_OUT) as copy:
        return b"".join(bytes(piece) for piece in copy)


def into(way: Way, data: bytes) -> float:
    """Return the seconds that it takes to copy `data` in; what came in is gone afterwards."""
    piece = 64 * 1024
    framed = b"".join(frame("d", data[at : at + piece]) for at in range(0, len(data), piece)) + COPY_DONE
    with psycopg.connect(way.dsn()) as connection:
        connection.execute("begin")
        with _taken_over(connection) as wire:
            began = time.perf_counter()
            wire.sendall(query(COPY_IN))
            wire.sendall(framed)
            _until_ready(wire, b"Z\0\0\0\x05T")
            took = time.perf_counter() - began
            wire.sendall(query("rollback"))
            _until_ready(wire)
    return took


def logins(way: Way, times: int) -> float:
    """Return the median of the seconds that a new session takes, its ticket included."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        psycopg.connect(way.dsn()).close()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def idle(way: Way, sessions: int) -> float:
    """Return the bytes of memory that the process between needs for each of so many idle sessions."""
    with contextlib.ExitStack() as stack:
        psycopg.connect(way.dsn()).close()
        before = way.resident()
        for _ in range(sessions):
            stack.enter_context(psycopg.connect(way.dsn()))
        return (way.resident() - before) / sessions


@contextlib.contextmanager
def _taken_over(connection: "psycopg.Connection[tuple[object, ...]]"):  # type: ignore[no-untyped-def]
    """Yield the connection's socket, to use it without a client's own work."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:
        wire.setblocking(True)
        yield wire


def _until_ready(wire: socket.socket, ready: bytes = _READY) -> None:
    buffer = bytearray(1 << 20)
    end = b""
    while not end.endswith(ready):
        size = wire.recv_into(buffer)
        assert size, "hung up"
        end = (end + buffer[max(0, size - 6) : size])[-6:]
