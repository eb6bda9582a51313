"""The gateway's PostgreSQL listener, and everything else of this protocol that happens outside a conversation.

A client comes by unix socket, names a target as its database, and gives its ticket as a password. Before it hears that
it is in, the target has been reached and logged in to, and its catalog is at hand.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from bastion.errors import (
    AccessError,
    BastionError,
    ConfigError,
    ProtocolError,
    TargetError,
)
from bastion.model.action import Action
from bastion.model.session import Session
from bastion.model.target import Target
from bastion.protocols.contract import Claim, Door, End, Side
from bastion.protocols.postgres import dialing, impact, refusal, startup
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.catalogs import CatalogLocked, Catalogs
from bastion.protocols.postgres.codec import client_codec, target_codec
from bastion.protocols.postgres.dialing import Reached
from bastion.protocols.postgres.dialogue import Dialogue
from bastion.protocols.postgres.interceptor import PostgresInterceptor, SessionFacts
from bastion.protocols.postgres.options import PostgresOptions
from bastion.protocols.postgres.questions import ReadText, SeenCatalog
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.building import path_of
from bastion.protocols.postgres.sql.reading import SearchPath
from bastion.protocols.postgres.startup import CancelAsked, EncryptionAsked, Greeting, PasswordGiven, Startup

_PORT: Final = 5432
_SOCKET_PATH_AT_MOST: Final = 103
_GREETING_LASTS: Final = 30.0
"""Seconds that a client has from connecting to its password."""
_GREETINGS_AT_MOST: Final = 500
"""Connections that have not shown a ticket yet. Beyond that, who has been silent longest makes room."""
_OK: Final = m.frame(m.AUTHENTICATION, struct.pack(">I", 0))
_ASK_PASSWORD: Final = m.frame(m.AUTHENTICATION, struct.pack(">I", 3))
_READY: Final = m.frame(m.READY_FOR_QUERY, b"I")
_SQLSTATES: Final = {
    "access.authentication": "28P01",
    "access.refused": "28000",
    "protocol": "08P01",
    "protocol.limit": "53300",
    "recording": "58030",
    "target": "08006",
    "target.refused": "08004",
    "target.unreachable": "08001",
    "target.untrusted": "08006",
}


class Clock(Protocol):
    """The time, as the gateway tells it."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only ever increase."""
        ...


@dataclass(slots=True)
class _Running:
    """A conversation, as a CancelRequest finds it."""

    key: bytes = field(repr=False)
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Session:
    """A target that is ready, and what is known of it."""

    options: PostgresOptions
    reached: Reached
    analyst: CatalogAnalyst
    path: SearchPath
    settings: dict[str, str]


class PostgresEndpoint:
    """Implements `bastion.protocols.contract.Endpoint`."""

    def __init__(self, door: Door, clock: Clock) -> None:
        self._door = door
        self._catalogs = Catalogs(door.credential, door.masked, clock.monotonic)
        self._monotonic = clock.monotonic
        self._server: asyncio.Server | None = None
        self._path: Path | None = None
        self._greetings: dict[asyncio.Task[None], Dialogue] = {}
        self._running: dict[int, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, directory: Path) -> None:
        """Open `.s.PGSQL.5432` in `directory`, where libpq looks for it."""
        path = directory / f".s.PGSQL.{_PORT}"
        if len(os.fsencode(path)) > _SOCKET_PATH_AT_MOST:
            raise ConfigError(
                str(path),
                expected=f"a path of at most {_SOCKET_PATH_AT_MOST} bytes, as unix sockets demand",
                found=f"{len(os.fsencode(path))} bytes",
                hint="set BASTION_RUNTIME_DIR to a shorter directory",
            )
        path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: Dialogue(self._opened), os.fspath(path), backlog=512
        )
        path.chmod(0o600)
        self._path = path

    async def close(self) -> None:
        """Stop accepting, and drop whoever has not shown a ticket."""
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        for task in list(self._tasks):
            if task.get_name() in ("greeting", "ending"):
                task.cancel()

    async def classify(self, target: Target, text: str) -> Action:
        """Return what `text` would mean at `target`."""
        analyst = await self._catalogs.analyst(target)
        reading = await asyncio.get_running_loop().run_in_executor(
            None, analyst.read, text.encode(), frozenset({analyst.catalog.path}), ()
        )
        return analyst.compose(reading, {}, {}).action

    async def preview(self, session: Session, action: Action) -> Mapping[str, object]:
        """Return the planner's estimate for a held UPDATE or DELETE and the count of rows that its WHERE selects."""
        try:
            async with self._catalogs.connection(session.target, purpose="preview") as connection:
                return await impact.preview(connection, action)
        except TargetError as error:
            return {"unavailable": error.message}

    # One connection.

    def _opened(self, client: Dialogue) -> None:
        if len(self._greetings) >= _GREETINGS_AT_MOST:
            # Not the one that comes: else a few who say nothing would keep everybody out.
            greeting, silent = next(iter(self._greetings.items()))
            del self._greetings[greeting]
            greeting.cancel()
            silent.write(refusal.parting("too many connections wait to show a ticket", "try again later", "53300"))
            silent.close()
        self._greetings[self._keep(self._serve(client), "greeting")] = client

    def _keep(self, doing: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Return a task that lives until it is done."""
        task = asyncio.get_running_loop().create_task(doing, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, client: Dialogue) -> None:
        """Greet one client, let it in, and see its conversation through."""
        greeted = False
        try:
            try:
                async with asyncio.timeout(_GREETING_LASTS):
                    said = await self._greet(client)
            finally:
                if (task := asyncio.current_task()) is not None:
                    self._greetings.pop(task, None)
            greeted = True
            if said is not None:
                await self._let_in(client, *said)
        except TimeoutError:
            _part(client, ProtocolError("the client took too long to say who it is"))
        except BastionError as error:
            _part(client, error)
        finally:
            if not greeted or not client.transport.is_closing():
                client.close()

    async def _greet(self, client: Dialogue) -> tuple[Startup, str] | None:
        """Return the client's start-up packet and ticket; None if it only came to cancel, or went away."""
        greeting = Greeting()
        opening: Startup | None = None
        while True:
            data = await client.read()
            if not data:
                return None
            for said in greeting.received(data):
                match said:
                    case EncryptionAsked():
                        client.write(startup.REFUSES_ENCRYPTION)
                    case CancelAsked(process=process, key=key):
                        self._interrupt(process, key)
                        return None
                    case Startup():
                        opening = said
                        if said.needs_negotiation:
                            client.write(startup.negotiation(said))
                        client.write(_ASK_PASSWORD)
                    case PasswordGiven(password=password) if opening is not None:
                        return opening, password
                    case _:
                        raise ProtocolError("expected a start-up packet")

    def _interrupt(self, process: int, key: bytes) -> None:
        running = self._running.get(process)
        if running is not None and startup.same_key(running.key, key):
            running.interrupted.set()

    async def _let_in(self, client: Dialogue, opening: Startup, ticket: str) -> None:
        peer = _peer(client)
        claim = Claim(ticket, opening.parameters.get("database", ""), peer)
        try:
            wishes = startup.wishes(opening)
            claim = Claim(ticket, wishes.target, peer, wishes.client)
            session = await self._door.admit(claim)
        except AccessError as error:
            await self._door.refused(claim, error.message)
            raise
        try:
            reached = await self._reach(session, wishes.settings)
        except BaseException as error:
            await self._door.failed(session, error.message if isinstance(error, BastionError) else "interrupted")
            raise
        await self._converse(client, opening, session, reached)

    async def _reach(self, session: Session, settings: dict[str, str]) -> "_Session":
        target = session.target
        options = PostgresOptions.model_validate(dict(target.options))
        credential = await self._door.credential(target)
        reached = await dialing.dial(target, options, credential)
        try:
            # The session's own path, which may be newer than the one that the catalog was read with.
            path = path_of(await dialing.prepare(reached, settings), target.user)
            return _Session(options, reached, await self._catalogs.analyst(target), path, settings)
        except BaseException:
            reached.dialogue.close()
            raise

    async def _converse(self, client: Dialogue, opening: Startup, session: Session, made: "_Session") -> None:
        options, reached = made.options, made.reached
        task = asyncio.current_task()
        if task is not None:
            task.set_name("conversation")  # from here on the gateway ends it
        key = secrets.token_bytes(32 if opening.version == startup.PROTOCOL_3_2 else 4)
        process = self._new_process()
        running = self._running[process] = _Running(key)
        facts = SessionFacts(
            parameters=reached.parameters,
            path=made.path,
            settings=made.settings,
            key=secrets.token_bytes(32),
            held_bytes=options.limits.behind_a_hold,
        )
        greeting = [_OK, *(startup.parameter_status(n, v) for n, v in reached.parameters.items())]
        client.write(b"".join([*greeting, startup.backend_key(process, key), _READY]))
        limit = options.limits.message
        attendant = _Attendant(self._catalogs, session.target, options, reached, running, self._monotonic)
        interceptor = PostgresInterceptor(made.analyst, facts)
        ends = {
            Side.CLIENT: End(client.transport, client_codec(limit), client.hand_over()),
            Side.TARGET: End(reached.dialogue.transport, target_codec(limit), reached.dialogue.hand_over()),
        }
        try:
            await self._door.converse(session, ends, interceptor, attendant.ask)
        finally:
            del self._running[process]
            if interceptor.leaves_changes:
                # The target goes on with a COMMIT whose client is gone. Until it has, nobody reads by what was before.
                self._keep(self._see_out(session.target, reached.process, interceptor), "ending")

    async def _see_out(self, target: Target, process: int, interceptor: PostgresInterceptor) -> None:
        await self._catalogs.outlive(target, process)
        interceptor.ended()

    def _new_process(self) -> int:
        while True:
            process = 1 + secrets.randbelow(2**31 - 1)
            if process not in self._running:
                return process


class _Attendant:
    """Carries out what an interceptor asks for."""

    def __init__(
        self,
        catalogs: Catalogs,
        target: Target,
        options: PostgresOptions,
        reached: Reached,
        running: _Running,
        monotonic: Callable[[], float],
    ) -> None:
        self._catalogs = catalogs
        self._target = target
        self._options = options
        self._reached = reached
        self._running = running
        self._monotonic = monotonic

    async def ask(self, name: str, question: object) -> object:
        """Return the answer to a question of the interceptor's."""
        match name, question:
            case "interrupt", _:
                await self._running.interrupted.wait()
                self._running.interrupted.clear()
                return None
            case "cancel", _:
                # A target that takes no CancelRequest leaves the statement running; that ends nobody's session.
                with contextlib.suppress(TargetError, ProtocolError):
                    await dialing.cancel(self._target, self._options, self._reached)
                return None
            case "catalog", _:
                try:
                    return await self._catalogs.analyst(self._target, at_least=self._monotonic())
                except CatalogLocked:
                    return None
            case "view", SeenCatalog() as seen:
                return await self._catalogs.view(seen)
            case "read", ReadText(analyst=analyst, text=text, paths=paths, types=types):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(None, analyst.read, text, paths, types)
        raise AssertionError(f"no such question: {name}")


def _peer(client: Dialogue) -> str:
    """Return who is at the other end of a unix socket, as the kernel knows it."""
    connection = client.transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return "unix socket"
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return f"unix socket, uid {uid}, pid {pid}"


def _part(client: Dialogue, error: BastionError) -> None:
    """Tell a client why it is not let in."""
    client.write(refusal.parting(error.message, error.hint, _SQLSTATES.get(error.code, "XX000")))
