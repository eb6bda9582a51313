"""Requests to an issuer's endpoints, by authlib: a public client, bounded answers, no redirects, two kinds of failure.

`Refused` is an answer: the issuer said no, with a code of RFC 6749 section 5.2 or RFC 8628 section 3.5. `Unanswered`
is none, and nothing is known about what became of the request.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx2
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client

from bastion.errors import IssuerError
from bastion.identity.fetching import check_url, reaching
from bastion.model.text import visible

_SIZE_AT_MOST = 256 * 1024
_SECONDS = 10.0
_SECONDS_IN_ALL = 30.0
_LIFETIME_UNSAID = 300.0
"""Seconds that an access token is taken to live when the issuer does not say."""
_SECRET_AT_MOST = 64 * 1024
_PASSING = {408, 425, 429}
"""Statuses that say to come back later."""


class Refused(IssuerError):
    """The issuer refused; `reason` is its error code."""

    code = "issuer.refused"

    def __init__(self, reason: str, description: str) -> None:
        said = f"{_short(reason)}: {_short(description)}" if description else _short(reason)
        super().__init__(f"the issuer refused ({said})")
        self.reason = reason


class Unanswered(IssuerError):
    """The issuer did not answer, or not in a way that says what it did."""

    code = "issuer.unanswered"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave."""

    access_token: str = field(repr=False)
    lifetime: float
    """Seconds that the access token lives."""
    refresh_token: str = field(default="", repr=False)


class IssuerClient:
    """A public client at one issuer, for the length of a `with` block."""

    def __init__(self, issuer: str, client_id: str) -> None:
        self._client_id = client_id
        self._client = OAuth2Client(
            client_id,
            token_endpoint_auth_method="none",  # noqa: S106 - the name of a method, not a password
            revocation_endpoint_auth_method="none",
            timeout=_SECONDS,
            follow_redirects=False,
            # What is packed could unpack to more than any bound on the wire promises.
            headers={"accept": "application/json", "accept-encoding": "identity"},
            event_hooks={"request": [_checked], "response": [_bounded]},
            **reaching(issuer),
        )

    def __enter__(self) -> "IssuerClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def post(self, url: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Return the answer of an endpoint that is not the token endpoint."""

        def asked() -> Any:
            response = self._client.request(
                "POST", url, data={"client_id": self._client_id, **fields}, withhold_token=True, auth=None
            )
            # authlib reads errors in the same form at every endpoint.
            return self._client.parse_response_token(response)

        return dict(_answer(asked))

    def tokens(self, url: str, grant_type: str, fields: Mapping[str, str]) -> Tokens:
        """Return the tokens that a grant is good for."""
        return _tokens(_answer(lambda: self._client.fetch_token(url, grant_type=grant_type, **fields)))

    def revoke(self, url: str, token: str, kind: str) -> None:
        """Have the issuer end a token (RFC 7009)."""

        def asked() -> dict[str, Any]:
            response = self._client.revoke_token(url, token=token, token_type_hint=kind)
            if response.status_code >= 400:
                self._client.parse_response_token(response)
                raise ValueError("no error in an error's body")
            return {}

        _answer(asked)


def _answer(asked: Callable[[], Any]) -> dict[str, Any]:
    """Return what `asked` returns, every foreign error as one of ours."""
    try:
        answer = asked()
    except OAuthError as error:
        raise Refused(str(error.error), str(error.description or "")) from None
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        kind = Unanswered if status in _PASSING or status >= 500 else IssuerError
        raise kind(f"the issuer answered with status {status}") from None
    except httpx2.TransportError as error:
        raise Unanswered(f"the issuer cannot be reached ({type(error).__name__})") from error
    except (ValueError, TypeError, AttributeError, RecursionError, httpx2.HTTPError, httpx2.InvalidURL):
        # Not `Unanswered`: what cannot be read could have been the tokens, and must not be asked for again.
        raise IssuerError("the issuer's answer cannot be understood") from None
    if not isinstance(answer, dict):
        raise IssuerError("the issuer's answer cannot be understood")
    return answer


def _tokens(answer: Mapping[str, Any]) -> Tokens:
    access, renewal = answer.get("access_token"), answer.get("refresh_token", "")
    if not _is_secret(access) or not (renewal in ("", None) or _is_secret(renewal)):
        raise IssuerError("the issuer's answer holds no usable token")
    if str(answer.get("token_type", "")).lower() != "bearer":
        raise IssuerError(
            f"the issuer gave a token of type {_short(str(answer.get('token_type')))}, not a bearer token"
        )
    return Tokens(str(access), _lifetime(answer.get("expires_in")), renewal or "")


def _lifetime(said: object) -> float:
    if isinstance(said, str) and said.isascii() and said.isdigit() and len(said) < 10:
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < 10**9:
        return _LIFETIME_UNSAID
    return float(said)


def _is_secret(value: object) -> bool:
    """Tell whether a value can be sent in a header: neither spaces nor line ends, not too long."""
    if not isinstance(value, str) or not 0 < len(value) <= _SECRET_AT_MOST:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def _checked(request: httpx2.Request) -> None:
    check_url(str(request.url))


def _bounded(response: httpx2.Response) -> None:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise httpx2.RemoteProtocolError("an encoding that was not asked for")
    stream = response.stream
    if not isinstance(stream, httpx2.SyncByteStream):
        raise TypeError("a synchronous client has a synchronous stream")
    response.stream = _Bounded(stream)


class _Bounded(httpx2.SyncByteStream):
    """A body that ends in an error where it becomes too long, or takes too long."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        size, ends = 0, time.monotonic() + _SECONDS_IN_ALL
        for part in self._stream:
            size += len(part)
            if size > _SIZE_AT_MOST or time.monotonic() > ends:
                raise httpx2.RemoteProtocolError("more than we read, or too slowly")
            yield part

    def close(self) -> None:
        self._stream.close()


def _short(text: str) -> str:
    return visible(text if len(text) <= 200 else text[:200] + "…")
