"""The device authorization grant (RFC 8628): a code for the person, and the wait until they have agreed elsewhere."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge

from bastion.client.oauth import IssuerClient, Refused, Tokens, Unanswered
from bastion.errors import AuthenticationFailed, IssuerError
from bastion.identity.discovery import Provider
from bastion.identity.fetching import check_url

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL = 5.0
"""Seconds between two questions where the issuer names none (section 3.2), and what `slow_down` adds (section 3.5)."""
_WAIT_AT_MOST = 60.0
_LIFETIME_AT_MOST = 3600.0
_AGAIN = "run `bastion login` again"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the person needs to agree on another device. Text from the issuer, addresses checked."""

    address: str
    code: str
    address_with_code: str
    """The address with the code in it, for a browser or a QR code; empty where the issuer gives none."""
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class Waiting:
    """A login that has begun."""

    prompt: Prompt
    interval: float
    device_code: str = field(repr=False)
    extra: Mapping[str, str]
    """What the issuer was told of the token's audience, for all later requests."""
    verifier: str = field(default="", repr=False)


def begin(client: IssuerClient, provider: Provider, scopes: Sequence[str], audience: str) -> Waiting:
    """Ask the issuer for a code. Raises `IssuerError` where it has no device grant, or refuses."""
    if not provider.device_authorization_endpoint:
        raise IssuerError(
            "the issuer offers no login by code (RFC 8628)",
            hint="turn the device authorization grant on there, or use a token: BASTION_TOKEN or --token-file",
        )
    fields = {"scope": " ".join(scopes)}
    verifier = ""
    if "S256" in provider.challenge_methods:
        verifier = secrets.token_urlsafe(48)
        fields |= {"code_challenge": create_s256_code_challenge(verifier), "code_challenge_method": "S256"}
    extra = _audience(audience)
    try:
        answer = client.post(provider.device_authorization_endpoint, fields | extra)
    except Refused as refused:
        # Some issuers know audiences by the scope alone and refuse a request that holds a resource.
        if refused.reason != "invalid_request" or "resource" not in extra:
            raise
        extra = {name: value for name, value in extra.items() if name != "resource"}
        answer = client.post(provider.device_authorization_endpoint, fields | extra)
    return _waiting(answer, extra, verifier)


def wait(
    client: IssuerClient,
    provider: Provider,
    waiting: Waiting,
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> Tokens:
    """Return the tokens once the person has agreed; raise `AuthenticationFailed` when they refuse or the code ends.

    A question whose answer got lost is asked again, more slowly. If the lost answer was the token, the issuer ends
    that login when it sees the code a second time, which is right: nobody knows who has the token.
    """
    interval, lost = waiting.interval, 0
    ends = monotonic() + waiting.prompt.lifetime.total_seconds()
    fields = {"device_code": waiting.device_code, **waiting.extra}
    if waiting.verifier:
        fields["code_verifier"] = waiting.verifier
    while monotonic() < ends:
        sleep(min(interval * 2**lost, max(interval, _WAIT_AT_MOST)))
        try:
            return client.tokens(provider.token_endpoint, GRANT_TYPE, fields)
        except Unanswered:
            lost = min(lost + 1, 10)
        except Refused as refused:
            match refused.reason:
                case "authorization_pending":
                    pass
                case "slow_down":
                    interval += _INTERVAL
                case "access_denied":
                    raise AuthenticationFailed("the login was refused") from None
                case "expired_token":
                    break
                case _ if lost:
                    raise IssuerError("the issuer's answer to the login got lost", hint=_AGAIN) from refused
                case _:
                    raise
            lost = 0
    raise AuthenticationFailed("nobody agreed before the code ended", hint=_AGAIN)


def _audience(audience: str) -> dict[str, str]:
    """Return the fields that ask for a token that the gateway can read.

    RFC 8707 has `resource`, which must be an absolute URI; other issuers have `audience`; unknown fields are ignored.
    """
    parts = urlsplit(audience)
    is_uri = bool(parts.scheme and (parts.netloc or parts.path)) and not parts.fragment
    return {"audience": audience, "resource": audience} if is_uri else {"audience": audience}


def _waiting(answer: Mapping[str, Any], extra: Mapping[str, str], verifier: str) -> Waiting:
    whole = answer.get("verification_uri_complete", "")
    prompt = Prompt(
        # Some issuers still use the name that the draft had.
        address=_address(answer.get("verification_uri", answer.get("verification_url"))),
        code=_text(answer, "user_code", 64),
        address_with_code=_address(whole) if whole else "",
        lifetime=timedelta(seconds=_seconds(answer.get("expires_in"), _LIFETIME_AT_MOST)),
    )
    interval = _seconds(answer.get("interval", _INTERVAL), _WAIT_AT_MOST)
    return Waiting(prompt, max(1.0, interval), _text(answer, "device_code", 4096), extra, verifier)


def _address(value: object) -> str:
    if not isinstance(value, str) or len(value) > 2048 or not (value.isascii() and value.isprintable()) or " " in value:
        raise IssuerError("the issuer gave no usable address for the code")
    check_url(value)
    return value


def _text(answer: Mapping[str, Any], name: str, at_most: int) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= at_most or not (value.isascii() and value.isprintable()):
        raise IssuerError(f"the issuer gave no usable {name}")
    return value


def _seconds(value: object, at_most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise IssuerError("the issuer gave a time that is none")
    return min(float(value), at_most)
