"""The drivers of the leak test: each runs statements in its own way, and says what it could not make of the answers."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import psycopg

from bastion.errors import TargetError
from bastion.protocols.postgres.leaks.shapes import Shape

Login = Callable[[], dict[str, Any]]
"""Returns host, port, user, dbname and password for one more connection."""


class Driver(Protocol):
    """A way to run a shape."""

    def can(self, shape: Shape) -> bool:
        """Tell whether this driver has a way to run it."""
        ...

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        """Run statements until one fails; return what the driver itself choked on, nothing where it did not.

        They are one transaction that is rolled back, or with `commit` one each.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class Psycopg:
    """psycopg with the simple protocol, which it uses for whatever has no parameters."""

    name: ClassVar[str] = "psycopg"
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, login: Login) -> None:
        self._login = login
        self._connection: psycopg.Connection[Any] | None = None

    def can(self, shape: Shape) -> bool:
        """Tell that it can run everything."""
        return True

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        """Run them in order."""
        try:
            connection = self._connected(autocommit=commit)
            self.carry_out(connection, steps)
        except psycopg.Error as error:
            return "" if error.sqlstate or isinstance(error, psycopg.OperationalError) else _named(error)
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            return _named(error)
        finally:
            self._settle()
        return ""

    def carry_out(self, connection: "psycopg.Connection[Any]", steps: Sequence[str]) -> None:
        """Run `steps` on an open connection."""
        for step in steps:
            self._step(connection, step)

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _step(self, connection: "psycopg.Connection[Any]", step: str) -> None:
        with connection.cursor(**self.cursor_options) as cursor:
            if step.startswith("copy "):
                with cursor.copy(step.encode()) as copied:
                    for _ in copied:
                        pass
                return
            cursor.execute(step.encode(), **self.options)
            if cursor.description:
                cursor.fetchall()

    cursor_options: ClassVar[dict[str, Any]] = {}

    def _connected(self, *, autocommit: bool) -> "psycopg.Connection[Any]":
        if self._connection is None or self._connection.closed:
            try:
                self._connection = psycopg.connect(**self._login())
            except psycopg.Error as error:
                raise unreachable(self.name, error) from error
        self._connection.autocommit = autocommit
        return self._connection

    def _settle(self) -> None:
        """Leave the connection as it was found, or end it."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        try:
            connection.rollback()
        except psycopg.Error:
            connection.close()


class PsycopgBinary(Psycopg):
    """psycopg with results in binary."""

    name: ClassVar[str] = "psycopg binary"
    options: ClassVar[dict[str, Any]] = {"binary": True}

    def can(self, shape: Shape) -> bool:
        """Tell that it takes one statement at a time."""
        return not shape.is_several


class PsycopgPrepared(Psycopg):
    """psycopg with statements that are prepared once and executed twice."""

    name: ClassVar[str] = "psycopg prepared"
    options: ClassVar[dict[str, Any]] = {"prepare": True}

    def can(self, shape: Shape) -> bool:
        """Tell whether running it twice means the same as running it once."""
        return shape.is_query

    def carry_out(self, connection: "psycopg.Connection[Any]", steps: Sequence[str]) -> None:
        """Run each twice."""
        for step in steps:
            self._step(connection, step)
            self._step(connection, step)


class PsycopgPipeline(Psycopg):
    """psycopg in a pipeline: everything is sent before anything is read."""

    name: ClassVar[str] = "psycopg pipeline"

    def can(self, shape: Shape) -> bool:
        """Tell that COPY has no place in a pipeline, and that one is one transaction."""
        return not (shape.is_copy or shape.commit or shape.is_several)

    def carry_out(self, connection: "psycopg.Connection[Any]", steps: Sequence[str]) -> None:
        """Send all, then read all."""
        with contextlib.ExitStack() as stack:
            with connection.pipeline():
                cursors = [stack.enter_context(connection.cursor()) for _ in steps]
                for cursor, step in zip(cursors, steps, strict=True):
                    cursor.execute(step.encode())
            for cursor in cursors:
                if cursor.description:
                    cursor.fetchall()


class PsycopgCursor(Psycopg):
    """psycopg with a cursor at the target, fetched row by row."""

    name: ClassVar[str] = "psycopg cursor"

    def can(self, shape: Shape) -> bool:
        """Tell whether a cursor can be declared for it."""
        return shape.is_query and " for update" not in shape.variants[0][0]

    def carry_out(self, connection: "psycopg.Connection[Any]", steps: Sequence[str]) -> None:
        """Declare, and fetch one row at a time."""
        (step,) = steps
        with connection.cursor("leaks") as cursor:
            cursor.itersize = 1
            cursor.execute(step.encode())
            for _ in cursor:
                pass


def unreachable(driver: str, error: Exception) -> TargetError:
    """Return what to raise where a driver is not let in: nothing that it then runs would prove anything."""
    said = str(error).strip().splitlines()
    return TargetError(f"{driver} was not let in: {said[-1] if said else type(error).__name__}")


def _named(error: Exception) -> str:
    """Return what kind of error it was: what it says may quote a value."""
    return f"{type(error).__module__}.{type(error).__name__}"
