"""A gateway for tests of the client side: the control API's shape over plain data, and a real PostgreSQL behind it."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "token-of-alice"
ROW_OF_APPROVAL: dict[str, Any] = {
    "id": "ap-1",
    "state": "waiting",
    "digest": "d" * 64,
    "asked": "2026-05-04T12:00:00+00:00",
    "expires": "2026-05-04T12:15:00+00:00",
    "remaining_seconds": 840,
    "target": "prod-db",
    "protocol": "postgres",
    "labels": {"env": "prod"},
    "requester": {"subject": "bob", "name": "Bob", "kind": "human", "actor": ""},
    "session": "s-1",
    "reason": "cleaning up",
    "action": {
        "verb": "delete",
        "access": "write",
        "text": "delete from orders\nwhere id = $1 -- \u202egone\x1b[2J",
        "arguments": ["42", None, {"hex": "00ff"}],
        "resources": [
            {
                "kind": "relation",
                "name": "public.orders",
                "verb": "delete",
                "access": "write",
                "facts": {"selective": True},
            }
        ],
    },
    "demands": [{"rule": "writes-need-a-dba", "reason": "", "approvers": ["dba"], "votes": 1, "missing": 1}],
    "votes": [],
    "preview": {"estimated_rows": 1, "counted_rows": 1},
}
SESSION: dict[str, Any] = {
    "id": "s-1",
    "target": "prod-db",
    "protocol": "postgres",
    "subject": "bob",
    "name": "Bob",
    "kind": "human",
    "actor": "",
    "reason": "cleaning up",
    "peer": "uid 1000",
    "client": "psql",
    "started": "2026-05-04T12:00:00+00:00",
    "ended": None,
    "end_reason": "",
    "entries": 5,
    "statements": 1,
    "denied": 0,
    "held": 1,
    "bytes": 100,
}
_AT = "2026-05-04T12:00:00.00{}000+00:00"
ENTRIES: list[dict[str, Any]] = [
    {"seq": 1, "at": _AT.format(0), "kind": "opened", "data": {"session": "s-1"}},
    {
        "seq": 2,
        "at": _AT.format(1),
        "kind": "judged",
        "data": {
            "ticket": 1,
            "verb": "delete",
            "access": "write",
            "text": "delete from orders where id = $1",
            "arguments": ["42"],
            "resources": [],
            "facts": {},
            "verdict": {"is": "hold", "demands": [{"rule": "writes-need-a-dba"}], "expires": 900},
        },
    },
    {"seq": 3, "at": _AT.format(2), "kind": "waiting", "data": {"ticket": 1, "approval": "ap-1", "digest": "d"}},
    {
        "seq": 4,
        "at": _AT.format(3),
        "kind": "vote",
        "data": {"approval": "ap-1", "subject": "carol", "name": "Carol", "approves": True, "reason": "go\x1b[2J on"},
    },
    {
        "seq": 5,
        "at": _AT.format(4),
        "kind": "settled",
        "data": {"ticket": 1, "approval": "ap-1", "state": "approved", "is": "allow", "rules": ["writes-need-a-dba"]},
    },
    {"seq": 6, "at": _AT.format(5), "kind": "finished", "data": {"ticket": 1, "tag": "DELETE 1", "rows": 1}},
    {"seq": 7, "at": _AT.format(6), "kind": "output", "data": {"bytes": 10}},
    {"seq": 8, "at": _AT.format(7), "kind": "closed", "data": {"reason": "the client hung up"}},
]
EXPLAINED: dict[str, Any] = {
    "target": "prod-db",
    "verdict": {"is": "deny", "rule": "no-schema-changes", "reason": "Schema changes go through migrations."},
    "understood": {
        "verb": "drop",
        "access": "admin",
        "resources": [
            {"kind": "relation", "name": "public.users", "verb": "drop", "access": "admin", "facts": {}},
        ],
        "facts": {},
    },
    "rules": [
        {"name": "no-schema-changes", "effect": "deny", "decided": True, "why": "matches drop", "place": "p:1:1"},
        {
            "name": "engineers-read",
            "effect": "allow",
            "decided": False,
            "why": "sql: matches nothing",
            "place": "p:9:1",
        },
    ],
}


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class StandIn:
    """The gateway, served by a thread of its own."""

    def __init__(self, postgres: tuple[Path, int, str, str] | None = None) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="bt-gw-", dir="/tmp")
        self.directory = Path(self._home.name) / "run"
        self.directory.mkdir(mode=0o700)
        self.postgres = postgres
        self.tickets: dict[str, str] = {}
        self.asked: list[dict[str, Any]] = []
        self.votes: list[dict[str, Any]] = []
        self.cancels = 0
        self.approval = json.loads(json.dumps(ROW_OF_APPROVAL))
        self.answers: dict[str, tuple[int, Any]] = {}
        """Answers that take the place of the usual ones, by path."""
        self._numbers = itertools.count(1)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "StandIn":
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)
        self._home.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        home = self._home.name
        return {
            "BASTION_RUNTIME_DIR": os.fspath(self.directory),
            "BASTION_STATE_DIR": f"{home}/state",
            "XDG_DATA_HOME": f"{home}/data",
            "XDG_CONFIG_HOME": f"{home}/config",
            "BASTION_TOKEN": TOKEN,
            "HOME": home,
        }

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        app = Starlette(routes=[Route("/v1/{rest:path}", self._answer, methods=["GET", "POST"])])
        config = uvicorn.Config(
            app, uds=os.fspath(self.directory / "control.sock"), log_config=None, lifespan="off", ws="none"
        )
        server = _Server(config)
        path = os.fspath(self.directory / ".s.PGSQL.5432")
        listener = await asyncio.start_unix_server(self._postgres, path)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            await server.listens.wait()
            self._ready.set()
            await self._over.wait()
            server.should_exit = True
            listener.close()

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        body = json.loads(await request.body() or b"{}")
        if path in self.answers:
            status, said = self.answers[path]
            return said if isinstance(said, Response) else JSONResponse(said, status)
        if path not in ("/v1/status", "/v1/issuer") and request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _error(401, "access.authentication", "no identity was proven", "log in with `bastion login`", 77)
        return self._known(path, body)

    def _known(self, path: str, body: dict[str, Any]) -> Response:
        match path.split("/")[2:]:
            case ["status"]:
                return JSONResponse({"version": "0", "pid": os.getpid(), "directory": os.fspath(self.directory)})
            case ["whoami"]:
                return JSONResponse({"subject": "alice", "name": "Alice", "groups": ["engineers"], "kind": "human"})
            case ["targets"]:
                row = {"name": "prod-db", "protocol": "postgres", "labels": {"env": "prod"}, "access": ["allow"]}
                return JSONResponse({"targets": [row]})
            case ["sessions"]:
                return JSONResponse({"sessions": [SESSION]})
            case ["sessions", "s-1"]:
                return JSONResponse(SESSION)
            case ["sessions", "s-1", "entries"]:
                return JSONResponse({"entries": ENTRIES, "next": None})
            case ["sessions", "s-1", "export"]:
                return Response(b'{"version": 2}\n')
            case ["policy", "explain"]:
                return JSONResponse(EXPLAINED)
            case ["tickets"]:
                self.asked.append(body)
                ticket = f"ticket-{next(self._numbers)}"
                self.tickets[ticket] = body["target"]
                found = {"ticket": ticket, "target": body["target"], "directory": os.fspath(self.directory)}
                return JSONResponse(found | {"protocol": "postgres", "port": 5432, "expires": ""})
            case ["approvals"]:
                return JSONResponse({"approvals": [self.approval]})
            case ["approvals", "ap-1"]:
                return JSONResponse(self.approval)
            case ["approvals", "ap-1", act]:
                self.votes.append({"act": act, **body})
                if body["digest"] != self.approval["digest"]:
                    return _error(409, "approval", "the request is another one than was shown", "", 77)
                self.approval["state"] = "approved" if act == "approve" else "denied"
                return JSONResponse(self.approval)
            case _:
                return _error(404, "usage", "there is nothing of that name", "", 2)

    async def _postgres(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._conversation(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def _conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.postgres is not None
        directory, port, database, user = self.postgres
        head = await reader.readexactly(8)
        size, code = struct.unpack("!II", head)
        rest = await reader.readexactly(size - 8)
        far = await asyncio.open_unix_connection(os.fspath(directory / f".s.PGSQL.{port}"))
        if code == 80877102:
            self.cancels += 1
            far[1].write(head + rest)
            await far[0].read()
            far[1].close()
            return
        writer.write(b"R" + struct.pack("!II", 8, 3))
        tag = await reader.readexactly(5)
        secret = (await reader.readexactly(int.from_bytes(tag[1:], "big") - 4)).rstrip(b"\0").decode()
        if self.tickets.pop(secret, None) is None:
            said = b"SFATAL\0C28000\0Mthe ticket is not valid\0\0"
            writer.write(b"E" + struct.pack("!I", len(said) + 4) + said)
            await writer.drain()
            far[1].close()
            return
        settings = f"user\0{user}\0database\0{database}\0client_encoding\0UTF8\0\0".encode()
        far[1].write(struct.pack("!II", len(settings) + 8, code) + settings)
        await asyncio.gather(_copy(reader, far[1]), _copy(far[0], writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    sink.close()


def _error(status: int, code: str, message: str, hint: str, exit_status: int) -> Response:
    said = {"code": code, "message": message, "hint": hint, "exit_status": exit_status}
    return JSONResponse({"error": said}, status)


@contextlib.contextmanager
def gateway(database: Any = None) -> Iterator[StandIn]:
    """Run a stand-in, in front of `database` where one is given."""
    behind = None
    if database is not None:
        behind = (database.server.directory, database.server.port, database.name, "app_rw")
    with StandIn(behind) as running:
        yield running
