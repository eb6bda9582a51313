"""Drivers that are there or not: asyncpg, which always prepares and asks for binary, and the machine's psql."""

import asyncio
import importlib.util
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from bastion.protocols.postgres.leaks.drivers import Login, unreachable
from bastion.protocols.postgres.leaks.shapes import Shape

if TYPE_CHECKING:
    import asyncpg

_COPY: Final = re.compile(
    r"copy (?:\((?P<query>.*)\)|(?P<schema>\w+)\.(?P<table>\w+)(?: \((?P<columns>[^)]*)\))?)"
    r" to stdout(?: \((?P<options>.*)\))?",
    re.DOTALL,
)
_PATIENCE: Final = 60.0
_VARIABLES: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "password": "PGPASSWORD",
}
_UNREADABLE: Final = ("lost synchronization", "message contents", "unexpected message", "unexpected field count")
"""What libpq says of an answer that it cannot read."""


class Asyncpg:
    """asyncpg: describes a statement once, executes it, and reads binary."""

    name: ClassVar[str] = "asyncpg"

    def __init__(self, login: Login) -> None:
        self._login = login
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection[Any] | None = None

    @staticmethod
    def missing() -> str:
        """Return why it cannot be used here; nothing if it can."""
        return "" if importlib.util.find_spec("asyncpg") else "asyncpg is not installed: pip install 'bastion[doctor]'"

    def can(self, shape: Shape) -> bool:
        """Tell that what it has no call for cannot be run."""
        return not shape.is_several and all(self._can(step) for steps in shape.variants for step in steps)

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        """Run them in order."""
        import asyncpg

        try:
            self._runner.run(self._run(steps, commit=commit))
        except (asyncpg.PostgresError, OSError):
            return ""
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError, LookupError, TypeError) as error:
            return f"{type(error).__module__}.{type(error).__name__}"
        return ""

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None and not self._connection.is_closed():
            self._runner.run(self._connection.close())
        self._runner.close()

    def _can(self, step: str) -> bool:
        return not step.startswith("copy ") or "update" not in step.split()

    async def _run(self, steps: Sequence[str], *, commit: bool) -> None:
        import asyncpg

        if self._connection is None or self._connection.is_closed():
            told = self._login()
            place = {name: told[name] for name in ("host", "port", "user", "password")}
            try:
                self._connection = await asyncpg.connect(database=told["dbname"], **place, timeout=_PATIENCE)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                raise unreachable(self.name, error) from error
        connection = self._connection
        if commit:
            await self._carry_out(connection, steps)
            return
        transaction = connection.transaction()
        await transaction.start()
        try:
            await self._carry_out(connection, steps)
        finally:
            await transaction.rollback()

    async def _carry_out(self, connection: "asyncpg.Connection[Any]", steps: Sequence[str]) -> None:
        for step in steps:
            if copy := _COPY.fullmatch(step):
                await _copy(connection, copy)
            else:
                await self._fetch(connection, step)

    async def _fetch(self, connection: "asyncpg.Connection[Any]", step: str) -> None:
        statement = await connection.prepare(step)
        await statement.fetch()


class AsyncpgPortal(Asyncpg):
    """asyncpg with a portal that gives one row at a time."""

    name: ClassVar[str] = "asyncpg portal"

    def can(self, shape: Shape) -> bool:
        """Tell whether it is one query."""
        return shape.is_query

    async def _fetch(self, connection: "asyncpg.Connection[Any]", step: str) -> None:
        async for _ in connection.cursor(step, prefetch=1):
            pass


class Psql:
    """The machine's psql, reading what to run from a pipe."""

    name: ClassVar[str] = "psql"

    def __init__(self, login: Login) -> None:
        self._login = login
        self._process: subprocess.Popen[str] | None = None
        self._count = 0

    @staticmethod
    def missing() -> str:
        """Return why it cannot be used here; nothing if it can."""
        return "" if shutil.which("psql") else "this machine has no psql: install postgresql-client"

    def can(self, shape: Shape) -> bool:
        """Tell that it can run everything."""
        return True

    def run(self, steps: Sequence[str], *, commit: bool) -> str:
        """Run them; whatever psql prints, it received."""
        process = self._running()
        assert process.stdin is not None  # noqa: S101  (it was started with pipes)
        assert process.stderr is not None  # noqa: S101
        self._count += 1
        done = f"done {self._count}"
        lines = [*steps] if commit else ["begin", *steps, "rollback"]
        # Standard error is what psql does not buffer.
        script = "".join(f"{line};\n" for line in lines) + f"\\warn {done}\n"
        watch = threading.Timer(_PATIENCE, process.kill)
        watch.start()
        try:
            process.stdin.write(script)
            process.stdin.flush()
            said = []
            for line in process.stderr:
                if line.strip() == done:
                    break
                said.append(line)
        except BrokenPipeError:
            return ""
        finally:
            watch.cancel()
        return next((word for word in _UNREADABLE for line in said if word in line), "")

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        told = self._login()
        self._process = subprocess.Popen(  # noqa: S603  (the machine's own psql, no shell)
            [shutil.which("psql") or "psql", "-X", "-q", "-f", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={"PGCONNECT_TIMEOUT": "20", **{_VARIABLES[key]: str(value) for key, value in told.items()}},
            start_new_session=True,
        )
        return self._process


async def _copy(connection: "asyncpg.Connection[Any]", copy: re.Match[str]) -> None:
    async def drop(data: bytes) -> None:
        pass

    options = copy["options"] or ""
    form = match[1] if (match := re.search(r"format (\w+)", options)) else None
    if copy["query"]:
        await connection.copy_from_query(copy["query"], output=drop, format=form)
        return
    columns = re.split(r",\s*", copy["columns"]) if copy["columns"] else None
    await connection.copy_from_table(
        copy["table"], schema_name=copy["schema"], columns=columns, output=drop, format=form
    )
