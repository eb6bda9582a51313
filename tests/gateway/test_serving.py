"""Connections to the control API: bounded, and none that says nothing keeps another out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from bastion.demo.cluster import short_directory
from bastion.gateway.serving import connections

REQUEST = b"GET / HTTP/1.1\r\nHost: bastion\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/slow":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def serving(at_most: int, seconds: float) -> AsyncIterator[Callable[[], Awaitable[Stream]]]:
    """Serve, and yield what opens one more connection; all are closed at the end."""
    path = short_directory("bt-") / "s"
    kind: Any = connections(at_most, seconds)
    config = uvicorn.Config(hello, log_config=None, lifespan="off")
    config.load()
    state = uvicorn.Server(config).server_state
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: kind(config=config, server_state=state, app_state={}), path)
    opened: list[Stream] = []

    async def dial() -> Stream:
        opened.append(await asyncio.open_unix_connection(path))
        return opened[-1]

    try:
        yield dial
    finally:
        server.close()
        for _, writer in opened:
            writer.transport.abort()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not state.connections
        assert not state.tasks
        path.unlink()
        path.parent.rmdir()


async def ask(stream: Stream, request: bytes = REQUEST) -> bytes:
    reader, writer = stream
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return await reader.readexactly(5)


async def over(stream: Stream) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(stream[0].read(), 5) == b""
    return True


async def test_whoever_says_nothing_makes_room_for_whoever_asks() -> None:
    async with serving(3, 60) as dial:
        silent = [await dial() for _ in range(10)]
        assert await ask(await dial()) == b"hello"
        assert all([await over(stream) for stream in silent[:7]])


async def test_where_all_are_being_answered_one_more_is_turned_away() -> None:
    async with serving(2, 60) as dial:
        busy = [await dial() for _ in range(2)]
        for _, writer in busy:
            writer.write(REQUEST.replace(b"/ ", b"/slow ", 1))
            await writer.drain()
        await asyncio.sleep(0)
        assert await over(await dial())


@pytest.mark.parametrize("before", [b"", b"GET / HT", REQUEST])
async def test_a_request_arrives_in_time_or_not_at_all(before: bytes) -> None:
    async with serving(3, 0.05) as dial:
        stream = await dial()
        if before == REQUEST:
            assert await ask(stream) == b"hello"
            stream[1].write(b"G")
        else:
            stream[1].write(before)
        assert await over(stream)


async def test_who_is_being_answered_is_not_hurried() -> None:
    async with serving(3, 0.05) as dial:
        slow, quick = [await dial() for _ in range(2)]
        slow[1].write(REQUEST.replace(b"/ ", b"/slow ", 1))
        assert await over(quick)
        assert not slow[0].at_eof()


async def test_one_connection_can_ask_again_and_again() -> None:
    async with serving(1, 60) as dial:
        stream = await dial()
        for _ in range(3):
            assert await ask(stream) == b"hello"
        assert await ask(stream, REQUEST) == b"hello"
