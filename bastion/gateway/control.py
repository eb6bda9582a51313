"""The control API: JSON over HTTP on a private unix socket, every call with a token but the two that precede login.

Foreign and missing identifiers look alike. Reading a recording is itself recorded. Requests that a browser could
have been tricked into (an `Origin`, a foreign `Host`) are refused.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bastion.errors import (
    AccessError,
    AccessRefused,
    ApprovalError,
    AuthenticationFailed,
    BastionError,
    UsageError,
)
from bastion.gateway.bugs import bug
from bastion.gateway.service import Service
from bastion.model.identity import Identity

_BODY_AT_MOST = 256 * 1024
_BODY_SECONDS = 10.0
_AT_ONCE = 32
"""Requests of one identity that may be under way."""
_HOSTS = {"bastion", "localhost"}
"""What a client of ours may send as Host."""

Answer = Callable[[Service, Request, Identity], Awaitable[object]]


def application(service: Service) -> Starlette:
    """Return the ASGI application that answers for `service`."""
    busy: Counter[tuple[str, str]] = Counter()

    def open_route(path: str, answer: Callable[[], dict[str, object]]) -> Route:
        async def endpoint(request: Request) -> Response:
            _check_origin(request)
            return JSONResponse(answer())

        return Route(path, endpoint, methods=["GET"])

    def route(method: str, path: str, answer: Answer) -> Route:
        async def endpoint(request: Request) -> Response:
            _check_origin(request)
            identity = await service.authenticate(_bearer(request), request.url.path)
            if busy[identity.key] >= _AT_ONCE:
                raise AccessRefused(f"you have {_AT_ONCE} requests under way, as many as one identity may have")
            with _counted(busy, identity.key):
                try:
                    answered = await answer(service, request, identity)
                except BastionError:
                    raise
                except Exception as error:  # a bug is logged by its place: what it says may be somebody's data
                    raise bug(error, "an answer of the control API") from None
            if isinstance(answered, StreamingResponse):
                answered.body_iterator = _streaming(answered.body_iterator, busy, identity.key)
            return answered if isinstance(answered, Response) else JSONResponse(answered)

        return Route(path, endpoint, methods=[method])

    return Starlette(
        routes=[
            open_route("/v1/status", service.status),
            open_route("/v1/issuer", service.issuer),
            route("GET", "/v1/whoami", _whoami),
            route("GET", "/v1/targets", _targets),
            route("POST", "/v1/tickets", _ticket),
            route("GET", "/v1/approvals", _approvals),
            route("GET", "/v1/approvals/{id}", _approval),
            route("POST", "/v1/approvals/{id}/approve", _approve),
            route("POST", "/v1/approvals/{id}/deny", _deny),
            route("GET", "/v1/sessions", _sessions),
            route("GET", "/v1/sessions/{id}", _session),
            route("GET", "/v1/sessions/{id}/entries", _entries),
            route("GET", "/v1/sessions/{id}/export", _export),
            route("POST", "/v1/policy/explain", _explain),
        ],
        exception_handlers={BastionError: _error, HTTPException: _not_found},
    )


@contextlib.contextmanager
def _counted(busy: Counter[tuple[str, str]], key: tuple[str, str]) -> Iterator[None]:
    busy[key] += 1
    try:
        yield
    finally:
        busy[key] -= 1
        if not busy[key]:
            del busy[key]


async def _streaming(
    parts: AsyncIterable[Any], busy: Counter[tuple[str, str]], key: tuple[str, str]
) -> AsyncIterator[Any]:
    """Yield what an answer consists of; who takes it slowly is busy until the end."""
    with _counted(busy, key):
        async for part in parts:
            yield part


async def _whoami(service: Service, request: Request, identity: Identity) -> object:
    return service.whoami(identity)


async def _targets(service: Service, request: Request, identity: Identity) -> object:
    return {"targets": service.visible_targets(identity)}


async def _ticket(service: Service, request: Request, identity: Identity) -> object:
    body = await _body(request)
    return await service.ticket(identity, _text(body, "target"), _text(body, "reason", ""), _text(body, "client", ""))


async def _approvals(service: Service, request: Request, identity: Identity) -> object:
    return {"approvals": service.approvals(identity, settled=request.query_params.get("all") == "1")}


async def _approval(service: Service, request: Request, identity: Identity) -> object:
    return await service.approval(identity, request.path_params["id"])


async def _approve(service: Service, request: Request, identity: Identity) -> object:
    return await _vote(service, request, identity, approves=True)


async def _deny(service: Service, request: Request, identity: Identity) -> object:
    return await _vote(service, request, identity, approves=False)


async def _vote(service: Service, request: Request, identity: Identity, *, approves: bool) -> object:
    body = await _body(request)
    return await service.vote(
        identity,
        request.path_params["id"],
        approves=approves,
        shown=_text(body, "digest"),
        reason=_text(body, "reason", ""),
    )


async def _sessions(service: Service, request: Request, identity: Identity) -> object:
    query = request.query_params
    return {
        "sessions": await service.sessions(
            identity,
            limit=_number(request, "limit", 50, 1, 1000),
            before=query.get("before"),
            target=query.get("target"),
            subject=query.get("subject"),
        )
    }


async def _session(service: Service, request: Request, identity: Identity) -> object:
    return await service.session(identity, request.path_params["id"])


async def _entries(service: Service, request: Request, identity: Identity) -> object:
    after = _number(request, "after", 0, 0, 2**53)
    limit = _number(request, "limit", 1000, 1, 1000)
    return await service.entries(identity, request.path_params["id"], after=after, limit=limit)


async def _export(service: Service, request: Request, identity: Identity) -> object:
    form = request.query_params.get("format", "cast")
    kinds = {"cast": "application/x-asciicast", "jsonl": "application/jsonl"}
    if form not in kinds:
        raise UsageError("format: expected cast or jsonl")
    return _streamed(await service.export(identity, request.path_params["id"], form), kinds[form])


async def _explain(service: Service, request: Request, identity: Identity) -> object:
    body = await _body(request)
    return await service.explain(identity, _text(body, "target"), _text(body, "text"))


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    value = request.query_params.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 17) or not least <= int(value) <= most:
        raise UsageError(f"{name}: expected a number from {least} to {most}")
    return int(value)


def _streamed(lines: AsyncIterator[str], kind: str) -> Response:
    return StreamingResponse(lines, media_type=kind)


def _bearer(request: Request) -> str:
    headers = request.headers.getlist("authorization")
    scheme, _, token = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationFailed("not logged in", hint="run `bastion login`")
    return token


def _check_origin(request: Request) -> None:
    if request.headers.get("origin") is not None or request.headers.get("host") not in _HOSTS:
        raise AccessRefused("the control API answers only to bastion's own clients")


async def _body(request: Request) -> dict[str, Any]:
    data = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                data += part
                if len(data) > _BODY_AT_MOST:
                    raise UsageError(f"the request is larger than {_BODY_AT_MOST} bytes")
    except TimeoutError:
        raise UsageError(f"the request took longer than {_BODY_SECONDS:.0f} s") from None
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise UsageError("expected a JSON object") from None
    if not isinstance(body, dict):
        raise UsageError("expected a JSON object")
    return body


def _text(body: dict[str, Any], name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise UsageError(f"{name}: expected a string")
    # JSON can spell half of a character. Nothing can store or show it, so nobody is asked to.
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise UsageError(f"{name}: expected a string, found one that Unicode does not have")
    return value


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BastionError)  # noqa: S101 - the handler is registered for nothing else
    match error:
        case AuthenticationFailed():
            status = 401
        case UsageError():
            status = 400
        case ApprovalError():
            status = 409
        case AccessError():
            status = 403
        case BastionError(code="bastion"):
            status = 500
        case _:
            status = 502
    body = {"code": error.code, "message": error.message, "hint": error.hint, "exit_status": error.exit_status}
    return JSONResponse({"error": body}, status_code=status)


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    body = {"code": "usage", "message": "no such call", "hint": "client and gateway may differ in version"}
    return JSONResponse({"error": {**body, "exit_status": 2}}, status_code=status)
