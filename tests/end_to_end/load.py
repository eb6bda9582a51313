"""A load of statements that are told apart: what was sent, what the target saw, what the recording holds."""

import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.kit.pgwire import Closed, Connection
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, Rig, until

_numbers = itertools.count(1)
_MARK = re.compile(r"/\* (m\d+-\d+-\d+) \*/")


class Load:
    """Clients that run reads and inserts, each with a mark of its own, until their sessions end."""

    def __init__(self, rig: Rig, name: str, clients: int = 4) -> None:
        """Open the sessions."""
        self.answered = 0
        """Statements answered so far; for waiting until enough of them were."""
        self.last_words: list[dict[str, str]] = []
        """The error that each session ended with, where it heard one."""
        self._number = next(_numbers)
        self._connections = [rig.wire(ALICE, name) for _ in range(clients)]
        self._threads = [
            threading.Thread(target=self._work, args=(number, connection), daemon=True)
            for number, connection in enumerate(self._connections)
        ]

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Run the load; afterwards every session has ended."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            for thread in self._threads:
                thread.join(30)
            assert not any(thread.is_alive() for thread in self._threads)

    def wait_for(self, answers: int) -> None:
        """Return when so many statements were answered."""
        until(lambda: self.answered >= answers or None, f"{answers} answers")

    def _work(self, client: int, connection: Connection) -> None:
        with connection:
            for number in range(1_000_000):
                mark = f"/* m{self._number}-{client}-{number} */"
                person = 100_000 + self._number * 1_000_000 + client * 100_000 + number
                if number % 2:
                    text = f"select {number}, repeat('x', 2000) {mark}"
                else:
                    text = f"insert into people values ({person}, 'load') {mark}"
                try:
                    told = connection.ask(text)
                except Closed:
                    break
                if any(m.type == "E" for m in told):
                    break
                self.answered += 1
            if connection.errors:
                self.last_words.append(connection.errors[-1])


def seen_by_target(server: Server, database: str, since: int) -> set[str]:
    """Return the marks of the statements that the target saw after its log was `since` long, once it has done all."""

    def idle() -> bool:
        query = "select count(*) from pg_stat_activity where datname = %s and application_name not like 'bastion%%'"
        return bool(server.execute(query, (database,)) == [(0,)])

    until(lambda: idle() or None, "the target to be done")
    return set(_MARK.findall(server.log[since:]))


def recorded(rig: Rig, name: str) -> set[str]:
    """Return the marks of the statements that the recording holds as judged and allowed."""
    found: set[str] = set()
    for session in rig.sessions(name):
        for entry in rig.entries(session["id"]):
            if entry["kind"] == "judged" and entry["data"]["verdict"]["is"] == "allow":
                found.update(_MARK.findall(entry["data"]["text"]))
    return found


def stored(server: Server, database: str) -> int:
    """Return how many rows the loads inserted."""
    with psycopg.connect(server.dsn(database)) as connection:
        row = connection.execute("select count(*) from people where id >= 100000").fetchone()
        return int(row[0]) if row else 0
