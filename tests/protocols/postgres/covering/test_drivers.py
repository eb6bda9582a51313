"""Covered rows as drivers read them: every type in both formats, from a real server, rewritten on the way."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from bastion.model.mask import Cover, CoverKind
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.covering.description import read_description
from bastion.protocols.postgres.covering.rows import Covering, cover_rows
from bastion.protocols.postgres.covering.values import covering
from tests.kit.postgres import Server
from tests.protocols.postgres.covering.sample import COVERED, WITHOUT

CANARY = "canary"
PLAIN = [
    type_
    for type_ in [*COVERED, *WITHOUT]
    if not set(type_.strip("[]").split()) & {"citext", "mood", "pair", "span", "mail", "work_mail", "age", "tags"}
]
"""The types that every server has."""


class Covered:
    """A wire between a client and a server, on which the columns that are called `covered` are."""

    def __init__(self, cover: Cover, binary: bool | None) -> None:
        self._cover = cover
        self._binary = binary
        """What the client will ask for, where the description comes before it has."""
        self._coverings: dict[int, list[Covering | None]] = {}
        """By the number of columns: asyncpg asks the catalog between a description and the rows that it is of."""

    async def relay(self, server: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(server)

        async def ask() -> None:
            while data := await reader.read(65536):
                far_writer.write(data)

        async def answer() -> None:
            while head := await far_reader.read(1):
                head += await far_reader.readexactly(4)
                body = await far_reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)
                writer.write(self._message(head + body))

        try:
            tasks = [asyncio.ensure_future(ask()), asyncio.ensure_future(answer())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            far_writer.close()
            writer.close()

    def _message(self, message: bytes) -> bytes:
        if message[0] == m.ROW_DESCRIPTION:
            coverings = [
                covering(
                    self._cover,
                    b"a session's key",
                    column.type,
                    column.binary if self._binary is None else self._binary,
                    {},
                    modifier=column.modifier,
                )
                if column.name == "covered"
                else None
                for column in read_description(message, 0, len(message))
            ]
            self._coverings[len(coverings)] = coverings
        elif message[0] == m.DATA_ROW:
            return cover_rows(message, 0, len(message), self._coverings[message[5] << 8 | message[6]])
        return message


@asynccontextmanager
async def between(server: Server, directory: Path, cover: Cover, binary: bool | None) -> AsyncIterator[None]:
    wire = Covered(cover, binary)
    socket = f".s.PGSQL.{server.port}"

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.relay(server.directory / socket, reader, writer)

    async with await asyncio.start_unix_server(accepted, directory / socket):
        yield


def query(type_: str) -> str:
    value = (WITHOUT[type_] if type_ in WITHOUT else COVERED[type_][0]).replace("'", "''")
    shown = f"'{value}'::text::{type_}"
    return f"select 1 as before, {shown} as covered, {shown} as plain, null::{type_} as covered"


def check(rows: list[Any]) -> None:
    ((before, covered, plain, nothing),) = rows
    assert before == 1
    assert plain is not None
    assert nothing is None
    assert covered is None or covered != plain
    assert CANARY not in str(covered).lower()


COVERS = pytest.mark.parametrize("kind", [CoverKind.FULL, CoverKind.PARTIAL, CoverKind.HASH, CoverKind.FIXED])


@COVERS
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_psycopg_reads_covered_rows(postgres: Server, short: Path, kind: CoverKind, binary: bool) -> None:
    async with (
        between(postgres, short, Cover(kind, text="x"), None),
        await psycopg.AsyncConnection.connect(
            host=str(short), port=postgres.port, user="postgres", dbname="postgres"
        ) as connection,
    ):
        for type_ in PLAIN:
            async with connection.cursor(binary=binary) as cursor:
                check(await (await cursor.execute(query(type_))).fetchall())


@COVERS
async def test_asyncpg_reads_covered_rows(postgres: Server, short: Path, kind: CoverKind) -> None:
    async with between(postgres, short, Cover(kind, text="x"), True):
        connection = await asyncpg.connect(host=str(short), port=postgres.port, user="postgres", database="postgres")
        try:
            for type_ in PLAIN:
                check([tuple(row.values()) for row in await connection.fetch(query(type_))])
        finally:
            await connection.close()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("w")
