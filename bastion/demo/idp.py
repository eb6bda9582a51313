"""The demo's identity provider: OpenID Connect with the device flow, on the loopback interface, for three accounts.

It asks for no password: it shows what a login looks like and proves nothing about who sits at the keyboard. Nothing
starts it but the demo.
"""

import contextlib
import html
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bastion.demo.accounts import ACCOUNTS, Account
from bastion.demo.issuing import CLIENT_ID, SCOPES, Issuer
from bastion.errors import IssuerError

_START = 30.0
_BODY_AT_MOST = 8192
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 30rem; margin: 4rem auto; padding: 0 1rem; color: #1a1a1a; }}
h1 {{ font-size: 1.4rem; }}
label {{ display: block; margin: .4rem 0; }}
input[name=user_code] {{ font: 1.4rem monospace; letter-spacing: .1em; width: 100%; padding: .4rem; }}
button {{ font: inherit; padding: .4rem 1.2rem; margin: 1rem .5rem 0 0; }}
p.demo {{ color: #666; font-size: .9rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
<p class="demo">This provider belongs to <code>bastion demo</code>: it asks for no password and ends with the demo.</p>
</body>
</html>
"""
_FORM = """<p>A program on your machine asks to act as you. Continue only if it shows this very code.</p>
<form method="post" action="/activate">
<label>Code <input name="user_code" value="{code}" autocomplete="off" required></label>
<fieldset><legend>Who you are today</legend>
{accounts}
</fieldset>
<button name="answer" value="allow">That is my code, log in</button>
<button name="answer" value="refuse">Refuse</button>
</form>"""


class IdentityProvider:
    """A provider that answers while the `with` block runs, in a thread of its own."""

    def __init__(self, accounts: Mapping[str, Account] = ACCOUNTS) -> None:
        """Take a port of the loopback interface. Nobody but `accounts` can log in on its page."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.issuer = Issuer(self.url)
        config = uvicorn.Config(
            application(self.issuer, accounts),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> "IdentityProvider":
        """Start answering."""
        self._thread.start()
        if not self._server.answers.wait(_START):
            raise IssuerError(f"the demo's identity provider did not start within {_START:.0f} seconds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join(_START)
        self._listener.close()


class _Server(uvicorn.Server):
    """uvicorn that tells when it answers, and leaves signals to the program around it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def application(issuer: Issuer, accounts: Mapping[str, Account] = ACCOUNTS) -> Starlette:
    """Return the ASGI application that answers for `issuer`."""

    async def discovery(request: Request) -> Response:
        return JSONResponse(metadata(issuer))

    async def keys(request: Request) -> Response:
        return JSONResponse(issuer.keys.public())

    async def device(request: Request) -> Response:
        return _response(issuer.answer("device", await _fields(request), dict(request.headers)))

    async def token(request: Request) -> Response:
        return _response(issuer.answer("token", await _fields(request), dict(request.headers)))

    async def form(request: Request) -> Response:
        return _form(accounts, request.query_params.get("user_code", ""))

    async def decide(request: Request) -> Response:
        return _decided(issuer, accounts, request.headers.get("origin", issuer.url), await _fields(request))

    return Starlette(
        routes=[
            Route("/.well-known/openid-configuration", discovery),
            Route("/jwks", keys),
            Route("/device", device, methods=["POST"]),
            Route("/token", token, methods=["POST"]),
            Route("/activate", form),
            Route("/activate", decide, methods=["POST"]),
        ],
        # A page on the web that has its own name resolve to this machine does not get an answer.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[urlsplit(issuer.url).hostname or ""])],
    )


def metadata(issuer: Issuer) -> dict[str, Any]:
    """Return what OpenID Connect Discovery says of `issuer`."""
    return {
        "issuer": issuer.url,
        "jwks_uri": f"{issuer.url}/jwks",
        "device_authorization_endpoint": f"{issuer.url}/device",
        "token_endpoint": f"{issuer.url}/token",
        "token_endpoint_auth_methods_supported": ["none"],
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": list(SCOPES),
        "claims_supported": ["sub", "name", "preferred_username", "email", "groups"],
    }


def _decided(issuer: Issuer, accounts: Mapping[str, Account], origin: str, fields: dict[str, str]) -> Response:
    pending = issuer.waiting_for(fields.get("user_code", ""))
    account = accounts.get(fields.get("account", ""))
    if origin != issuer.url:
        return _page("Not from here", "<p>This form was sent by another page.</p>", 403)
    if pending is None:
        return _page("No such code", "<p>Nobody waits with this code: it is wrong, used or too old.</p>", 404)
    if fields.get("answer") == "refuse":
        pending.refused = True
        return _page("Refused", "<p>The program was told no. You can close this page.</p>")
    if account is None:
        return _form(accounts, fields.get("user_code", ""), 400)
    pending.account = account
    return _page("Logged in", f"<p>You are {html.escape(account.name)}. You can close this page.</p>")


def _form(accounts: Mapping[str, Account], code: str, status: int = 200) -> Response:
    button = '<label><input type="radio" name="account" value="{}" required> {}, {}</label>'
    choices = "\n".join(button.format(a.subject, html.escape(a.name), a.role) for a in accounts.values())
    return _page("Log in", _FORM.format(code=html.escape(code), accounts=choices), status)


def _page(title: str, body: str, status: int = 200) -> Response:
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
        "X-Frame-Options": "DENY",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(_PAGE.format(title=title, body=body), status, headers)


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_AT_MOST:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True))


def _response(answer: tuple[int, Any, list[tuple[str, str]]]) -> Response:
    status, body, headers = answer
    return JSONResponse(body, status, dict(headers))


__all__ = ["CLIENT_ID", "IdentityProvider", "application", "metadata"]
