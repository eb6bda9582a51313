"""Log in, stay logged in, log out.

Light where it matters: a command whose access token still holds loads neither authlib nor a network library.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bastion.client.credentials import Login, LoginStore
from bastion.errors import AuthenticationFailed, IssuerError

if TYPE_CHECKING:
    from bastion.client.device import Prompt
    from bastion.client.oauth import Tokens

_AGAIN = "log in again with `bastion login`"
_EARLY = 60.0
"""Seconds before its end that a token is renewed; a tenth of its life where that is less."""


@dataclass(frozen=True, slots=True)
class Registration:
    """As whom, and where, to log in: what the gateway answers to anybody who asks."""

    issuer: str
    client_id: str
    audience: str
    scopes: tuple[str, ...]

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> "Registration":
        """Return the registration that the gateway's control API describes."""
        scopes = answer.get("scopes")
        texts = [answer.get(name) for name in ("issuer", "client_id", "audience")]
        if not isinstance(scopes, list) or not all(isinstance(text, str) and text for text in (*texts, *scopes)):
            raise IssuerError("the gateway does not say where to log in")
        return cls(str(texts[0]), str(texts[1]), str(texts[2]), tuple(scopes))


def log_in(
    registration: Registration,
    store: LoginStore,
    show: Callable[["Prompt"], None],
    *,
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Login:
    """Log in by the device grant: `show` is called once with what the person has to see. Keeps the login.

    Raises `IssuerError`, or `AuthenticationFailed` when the person refused or did not come in time.
    """
    import asyncio

    from bastion.client import device
    from bastion.client.oauth import IssuerClient
    from bastion.identity.discovery import discover

    provider = asyncio.run(discover(registration.issuer))
    with IssuerClient(registration.issuer, registration.client_id) as client:
        waiting = device.begin(client, provider, registration.scopes, registration.audience)
        show(waiting.prompt)
        tokens = device.wait(client, provider, waiting, monotonic=monotonic, sleep=sleep)
    if tokens.access_token.count(".") != 2:
        raise IssuerError(
            "the issuer gave an access token that the gateway cannot verify: it is no JWT",
            hint=f"configure the issuer to give JWT access tokens for the audience {registration.audience}",
        )
    blank = Login(
        issuer=registration.issuer,
        client_id=registration.client_id,
        token_endpoint=provider.token_endpoint,
        revocation_endpoint=provider.revocation_endpoint,
        extra=dict(waiting.extra),
        access_token="",
        renew=0,
        expires=0,
    )
    login = _with(blank, tokens, now())
    with store.locked():
        store.write(login)
    return login


def access_token(directory: Path, *, store: LoginStore | None = None, now: Callable[[], float] = time.time) -> str:
    """Return the access token of the login that is kept in `directory`, renewed if it is about to end.

    Raises `AuthenticationFailed` when nobody is logged in or the issuer ended the login, `IssuerError` when that
    cannot be found out.
    """
    store = store or LoginStore(directory)
    login = store.read()
    if login is not None and now() < login.renew:
        return login.access_token
    if login is None:
        raise AuthenticationFailed("not logged in", hint="log in with `bastion login`")
    with store.locked():
        # Whoever held the lock may have renewed the login, and spent the refresh token that was read above.
        login = store.read()
        if login is None:
            raise AuthenticationFailed("not logged in any more", hint=_AGAIN)
        if now() < login.renew:
            return login.access_token
        return _renewed(store, login, now())


def log_out(directory: Path, *, store: LoginStore | None = None) -> bool:
    """Forget the login and have the issuer end its tokens; tell whether there was a login.

    Raises `IssuerError` when the issuer could not be told. The login is forgotten here all the same.
    """
    store = store or LoginStore(directory)
    with store.locked():
        try:
            login = store.read()
        except AuthenticationFailed:
            login = None
        was_there = store.remove()
    if login is not None and login.revocation_endpoint:
        try:
            _revoke(login)
        except IssuerError as error:
            raise IssuerError(
                f"the login is forgotten here, but its tokens were not revoked: {error.message}",
                hint="they end by themselves; the issuer's own pages may end them sooner",
            ) from error
    return was_there


def _renewed(store: LoginStore, login: Login, now: float) -> str:
    from bastion.client.oauth import IssuerClient, Refused, Unanswered

    if not login.refresh_token:
        if now < login.expires:
            return login.access_token
        raise AuthenticationFailed("the login has ended", hint=_AGAIN)
    fields = {"refresh_token": login.refresh_token, **login.extra}
    try:
        with IssuerClient(login.issuer, login.client_id) as client:
            tokens = client.tokens(login.token_endpoint, "refresh_token", fields)
    except Refused as refused:
        if refused.reason != "invalid_grant":
            raise
        store.remove()
        raise AuthenticationFailed("the issuer has ended the login", hint=_AGAIN) from None
    except Unanswered:
        if now < login.expires:
            return login.access_token
        raise
    renewed = _with(login, tokens, now)
    store.write(renewed)
    return renewed.access_token


def _revoke(login: Login) -> None:
    from bastion.client.oauth import IssuerClient, Refused

    with IssuerClient(login.issuer, login.client_id) as client:
        # The refresh token first: it is what would give new ones.
        if login.refresh_token:
            client.revoke(login.revocation_endpoint, login.refresh_token, "refresh_token")
        try:
            client.revoke(login.revocation_endpoint, login.access_token, "access_token")
        except Refused as refused:
            # A token that is verified without asking the issuer cannot be ended there (RFC 7009, section 2.2.1).
            if refused.reason != "unsupported_token_type":
                raise


def _with(login: Login, tokens: "Tokens", now: float) -> Login:
    """Return the login with new tokens; an issuer that gives no new refresh token lets the old one live on."""
    return replace(
        login,
        access_token=tokens.access_token,
        renew=now + tokens.lifetime - min(_EARLY, tokens.lifetime / 10),
        expires=now + tokens.lifetime,
        refresh_token=tokens.refresh_token or login.refresh_token,
    )
