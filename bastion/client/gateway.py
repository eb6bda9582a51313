"""The gateway's control API, as the client side calls it. Knows nothing of the store, the policy or a credential."""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from bastion.client.wire import GatewayAbsent, GatewayUntrusted, UnixConnection
from bastion.errors import (
    AccessError,
    AccessRefused,
    ApprovalError,
    AuthenticationFailed,
    BastionError,
    GatewayError,
    IssuerError,
    LimitExceeded,
    ProtocolError,
    RecordingError,
    TargetError,
    TargetRefused,
    TargetUnreachable,
    TargetUntrusted,
    UsageError,
)

__all__ = ["Gateway", "GatewayAbsent", "GatewayUntrusted"]

_LARGEST_ANSWER = 64 * 1024 * 1024
_TIMEOUT = 30.0
_KINDS: dict[str, type[BastionError]] = {
    kind.code: kind
    for kind in (
        AccessError,
        AccessRefused,
        ApprovalError,
        AuthenticationFailed,
        GatewayError,
        IssuerError,
        LimitExceeded,
        ProtocolError,
        RecordingError,
        TargetError,
        TargetRefused,
        TargetUnreachable,
        TargetUntrusted,
        UsageError,
    )
}

Json = dict[str, Any]


class Gateway:
    """The control API of the gateway in `directory`, as the identity that `token` proves.

    `token` is called for each request that needs one, so that a token refreshed meanwhile is used.
    """

    def __init__(self, directory: Path, token: Callable[[], str], *, timeout: float = _TIMEOUT) -> None:
        self.directory = directory
        self._token = token
        self._timeout = timeout

    def status(self) -> Json:
        """Return what the gateway says of itself; needs no login."""
        return self._ask("GET", "/v1/status", proven=False)

    def issuer(self) -> Json:
        """Return which identity provider the gateway trusts; needs no login."""
        return self._ask("GET", "/v1/issuer", proven=False)

    def whoami(self) -> Json:
        """Return the identity that the gateway sees."""
        return self._ask("GET", "/v1/whoami")

    def targets(self) -> list[Json]:
        """Return the targets that this identity could be let in to."""
        return self._list("GET", "/v1/targets", "targets")

    def ticket(self, target: str, *, reason: str, client: str) -> Json:
        """Return a ticket for one connection to `target`."""
        return self._ask("POST", "/v1/tickets", {"target": target, "reason": reason, "client": client})

    def approvals(self, *, everything: bool = False) -> list[Json]:
        """Return the requests that wait, or all of them."""
        return self._list("GET", f"/v1/approvals?all={int(everything)}", "approvals")

    def approval(self, identifier: str) -> Json:
        """Return one request, with what is known of its impact."""
        return self._ask("GET", f"/v1/approvals/{_part(identifier)}")

    def vote(self, identifier: str, *, approves: bool, digest: str, reason: str) -> Json:
        """Approve or deny the request whose `digest` was shown; return it as it stands then."""
        act = "approve" if approves else "deny"
        return self._ask("POST", f"/v1/approvals/{_part(identifier)}/{act}", {"digest": digest, "reason": reason})

    def sessions(self, **narrowed: str | int) -> list[Json]:
        """Return recorded sessions, newest first, narrowed by `limit`, `before`, `target` or `subject`."""
        given = {name: value for name, value in narrowed.items() if value not in ("", None)}
        return self._list("GET", f"/v1/sessions?{urlencode(given)}", "sessions")

    def session(self, identifier: str) -> Json:
        """Return one recorded session."""
        return self._ask("GET", f"/v1/sessions/{_part(identifier)}")

    def entries(self, identifier: str) -> list[Json]:
        """Return the entries of one recorded session; of output only how much it was."""
        found: list[Json] = []
        after: object = 0
        while after is not None:
            page = self._ask("GET", f"/v1/sessions/{_part(identifier)}/entries?{urlencode({'after': after})}")
            entries = page.get("entries")
            if not isinstance(entries, list):
                raise GatewayError("the gateway's answer has no list of entries", hint=_VERSIONS)
            found += entries
            after = page.get("next") if entries else None
        return found

    def export(self, identifier: str, form: str) -> Iterator[bytes]:
        """Yield a recorded session as a file of `form`, in pieces as they come."""
        with closing(self._connection()) as connection:
            answer = self._send(connection, "GET", f"/v1/sessions/{_part(identifier)}/export?format={_part(form)}")
            if answer.status >= 400:
                raise _raised(answer.status, _body(answer))
            try:
                while piece := answer.read(65536):
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise GatewayError("the gateway broke off in the middle of the export") from error

    def explain(self, target: str, text: str, *, subject: str = "") -> Json:
        """Return what the policy would say to `text` at `target`."""
        asked = {"target": target, "text": text} | ({"subject": subject} if subject else {})
        return self._ask("POST", "/v1/policy/explain", asked)

    def _list(self, method: str, path: str, name: str) -> list[Json]:
        found = self._ask(method, path).get(name)
        if not isinstance(found, list):
            raise GatewayError(f"the gateway's answer has no list of {name}", hint=_VERSIONS)
        return found

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None, *, proven: bool = True) -> Json:
        with closing(self._connection()) as connection:
            answer = self._send(connection, method, path, body, proven=proven)
            content = _body(answer)
        if answer.status >= 400:
            raise _raised(answer.status, content)
        return _object(content)

    def _connection(self) -> UnixConnection:
        return UnixConnection(self.directory, self._timeout)

    def _send(
        self,
        connection: UnixConnection,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        proven: bool = True,
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json"}
        if proven:
            headers["Authorization"] = f"Bearer {self._token()}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, content, headers)
            return connection.getresponse()
        except TimeoutError as error:
            raise GatewayError(f"the gateway did not answer within {self._timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError("the gateway closed the connection without an answer") from error


_VERSIONS = "gateway and command line may be of different versions; compare `bastion gateway status` and --version"


def _part(text: str) -> str:
    """Return `text` as one segment of a path, whatever it holds."""
    quoted = quote(text, safe="")
    # A lone dot segment would be read as a place in the hierarchy.
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def _body(answer: http.client.HTTPResponse) -> bytes:
    try:
        content = answer.read(_LARGEST_ANSWER + 1)
    except TimeoutError as error:
        raise GatewayError("the gateway stopped in the middle of its answer") from error
    except (OSError, http.client.HTTPException) as error:
        raise GatewayError("the gateway broke off in the middle of its answer") from error
    if len(content) > _LARGEST_ANSWER:
        raise GatewayError(f"the gateway's answer is longer than {_LARGEST_ANSWER} bytes")
    return content


def _object(content: bytes) -> Json:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise GatewayError("the gateway's answer is not JSON", hint=_VERSIONS) from error
    if not isinstance(found, dict):
        raise GatewayError("the gateway's answer is not a JSON object", hint=_VERSIONS)
    return found


def _raised(status: int, content: bytes) -> BastionError:
    """Return the error that the gateway answered with, as the class that its code names."""
    try:
        said = json.loads(content)["error"]
        code, message, hint = str(said["code"]), str(said["message"]), str(said.get("hint") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return GatewayError(f"the gateway answered with status {status} and no explanation", hint=_VERSIONS)
    if isinstance(kind := _KINDS.get(code), type):
        return kind(message, hint=hint)
    return _unlisted(code, message, hint, said.get("exit_status"))


def _unlisted(code: str, message: str, hint: str, exit_status: object) -> BastionError:
    """Return an error for a code that this side has no class for, keeping its code and exit status."""
    number = exit_status if isinstance(exit_status, int) and 1 <= exit_status <= 126 else BastionError.exit_status
    kind = type("Answered", (BastionError,), {"code": code, "exit_status": number})
    raised: BastionError = kind(message, hint=hint)
    return raised
