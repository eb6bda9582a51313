"""The OAuth side of the demo's identity provider: authlib's server with everything it keeps in memory.

The device authorization grant (RFC 8628), refresh tokens that rotate, JWT access tokens (RFC 9068) and ID tokens.
Only for the demo: it asks nobody for a password.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from authlib.oauth2 import AuthorizationServer, OAuth2Request
from authlib.oauth2.rfc6749 import ClientMixin, RefreshTokenGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc8628 import (
    DEVICE_CODE_GRANT_TYPE,
    DeviceAuthorizationEndpoint,
    DeviceCodeGrant,
    DeviceCredentialDict,
)
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from authlib.oidc.core.grants.util import generate_id_token
from joserfc.jwk import KeySet, RSAKey

from bastion.demo.accounts import Account
from bastion.errors import IssuerError

CLIENT_ID = "bastion-cli"
AUDIENCE = "bastion"
SCOPES = ("openid", "profile", "email", "groups", "offline_access")
_ACCESS_LIVES = 600
_CODE_LIVES = 600
_INTERVAL = 1
_ALGORITHM = "RS256"
_SLOWER = 5
"""Seconds that RFC 8628 has a client add to its interval after `slow_down`."""

Answer = tuple[int, Any, list[tuple[str, str]]]


class Client(ClientMixin):  # type: ignore[misc]
    """The one client that there is: the command line, public."""

    def get_client_id(self) -> str:
        """Return the identifier."""
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        """Return nothing: no grant of ours redirects."""
        return ""

    def get_allowed_scope(self, scope: str | None) -> str:
        """Return those of the scopes asked for that exist."""
        return " ".join(s for s in (scope or "openid").split() if s in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Refuse every redirect."""
        return False

    def check_client_secret(self, client_secret: str) -> bool:
        """Refuse every secret: a public client has none."""
        return False

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Accept a client that only names itself."""
        return method == "none"

    def check_response_type(self, response_type: str) -> bool:
        """Refuse the grants that answer in a redirect."""
        return False

    def check_grant_type(self, grant_type: str) -> bool:
        """Accept the two grants that there are."""
        return grant_type in (DEVICE_CODE_GRANT_TYPE, "refresh_token")


@dataclass
class Pending:
    """A login that somebody began on a device."""

    credential: DeviceCredentialDict
    interval: float
    polled: float = 0.0
    account: Account | None = None
    refused: bool = False


@dataclass
class Renewal:
    """What a refresh token stands for."""

    account: Account
    scope: str

    def check_client(self, client: Client) -> bool:
        """Tell whether the token belongs to `client`; there is only one."""
        return True

    def get_scope(self) -> str:
        """Return the scope that was granted."""
        return self.scope


class Keys:
    """The provider's signing key, fresh for each run. RS256, because OpenID Connect has every provider offer it."""

    def __init__(self) -> None:
        key = RSAKey.generate_key(2048, {"use": "sig", "alg": _ALGORITHM}, auto_kid=True)
        self.private = KeySet([key])
        self.identifier = key.kid

    def public(self) -> dict[str, Any]:
        """Return what anybody may know, as a JWK set."""
        return dict(self.private.as_dict(private=False))


class _Form(BasicOAuth2Payload):  # type: ignore[misc]
    """The fields of a request."""


class _Request(OAuth2Request):  # type: ignore[misc]
    """A form that was posted, as authlib wants it."""

    def __init__(self, uri: str, fields: dict[str, str], headers: dict[str, str]) -> None:
        super().__init__("POST", uri, headers=headers)
        self.payload = _Form(fields)

    @property
    def args(self) -> dict[str, str]:
        """Return nothing: parameters in an address are not read."""
        return {}

    @property
    def form(self) -> dict[str, str]:
        """Return the fields."""
        return dict(self.payload.data)


class Issuer(AuthorizationServer):  # type: ignore[misc]
    """Issues tokens to whoever confirms a code."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Answer for the issuer that is reached at `url`."""
        super().__init__(scopes_supported=list(SCOPES))
        self.url = url
        self.keys = Keys()
        self.pending: dict[str, Pending] = {}
        self.renewals: dict[str, Renewal] = {}
        self.clock = clock
        self.register_token_generator("default", _Tokens(self))
        self.register_grant(_Device)
        self.register_grant(_Refresh)
        self.register_endpoint(_DeviceAuthorization(self))

    def answer(self, endpoint: str, fields: dict[str, str], headers: dict[str, str]) -> Answer:
        """Return what `endpoint` (`device` or `token`) answers to a posted form."""
        request = _Request(f"{self.url}/{endpoint}", fields, headers)
        if endpoint == "device":
            answer: Answer = self.create_endpoint_response("device_authorization", request)
        else:
            answer = self.create_token_response(request)
        return answer

    def grant(self, account: Account) -> str:
        """Return an access token of `account`, by the device flow with both ends in this process."""
        client = {"client_id": CLIENT_ID}
        _, begun, _ = self.answer("device", {**client, "scope": "openid groups"}, {})
        self.pending[begun["device_code"]].account = account
        asked = {**client, "grant_type": DEVICE_CODE_GRANT_TYPE, "device_code": begun["device_code"]}
        status, granted, _ = self.answer("token", asked, {})
        if status != 200:
            raise IssuerError(f"the identity provider refused a token: {granted.get('error')}")
        return str(granted["access_token"])

    def waiting_for(self, user_code: str) -> Pending | None:
        """Return the login that shows `user_code`, however it was typed, if it still waits."""
        wanted = user_code.upper().replace("-", "").replace(" ", "")
        for pending in self.pending.values():
            is_open = pending.account is None and not pending.refused and not pending.credential.is_expired()
            if is_open and pending.credential["user_code"].replace("-", "") == wanted:
                return pending
        return None

    def query_client(self, client_id: str) -> Client | None:
        """Return the client of that identifier."""
        return Client() if client_id == CLIENT_ID else None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Keep what a refresh token stands for, and add the ID token that the scope `openid` asks for."""
        scope = token.get("scope", "")
        if renewal := token.get("refresh_token"):
            self.renewals[renewal] = Renewal(request.user, scope)
        if "openid" in scope.split():
            token["id_token"] = generate_id_token(
                token,
                _claims(request.user),
                self.keys.private,
                self.url,
                CLIENT_ID,
                alg=_ALGORITHM,
                exp=_ACCESS_LIVES,
                kid=self.keys.identifier,
            )

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        """Return the request, which already is what authlib wants."""
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Answer:
        """Return the answer's parts."""
        return status, body, headers

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Tell nobody: nothing listens."""


class _DeviceAuthorization(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    EXPIRES_IN = _CODE_LIVES
    INTERVAL = _INTERVAL
    CLIENT_AUTH_METHODS = ["none"]  # noqa: RUF012  (authlib's own way)

    def get_verification_uri(self) -> str:
        return f"{self.server.url}/activate"

    def save_device_credential(self, client_id: str, scope: str, data: dict[str, Any]) -> None:
        credential = DeviceCredentialDict(
            client_id=client_id,
            scope=scope,
            user_code=data["user_code"],
            # authlib compares this with the wall clock.
            expires_at=time.time() + _CODE_LIVES,
        )
        self.server.pending[data["device_code"]] = Pending(credential, _INTERVAL)


class _Device(DeviceCodeGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ["none"]  # noqa: RUF012  (authlib's own way)

    def validate_token_request(self) -> None:
        super().validate_token_request()
        # A code is good for one answer.
        self.server.pending.pop(self.request.payload.data["device_code"])

    def query_device_credential(self, device_code: str) -> DeviceCredentialDict | None:
        pending = self.server.pending.get(device_code)
        return pending.credential if pending else None

    def query_user_grant(self, user_code: str) -> tuple[Account | None, bool] | None:
        pending = self._of(user_code)
        if pending.refused:
            return None, False
        return (pending.account, True) if pending.account else None

    def should_slow_down(self, credential: DeviceCredentialDict) -> bool:
        pending = self._of(credential.get_user_code())
        now = self.server.clock()
        # A tenth of slack: two clocks and a network lie between the client's wait and ours.
        early = bool(pending.polled) and now - pending.polled < pending.interval * 0.9
        pending.polled = now
        if early:
            pending.interval += _SLOWER
        return early

    def _of(self, user_code: str) -> Pending:
        found: Pending = next(p for p in self.server.pending.values() if p.credential["user_code"] == user_code)
        return found


class _Refresh(RefreshTokenGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ["none"]  # noqa: RUF012  (authlib's own way)
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Renewal | None:
        renewal: Renewal | None = self.server.renewals.get(refresh_token)
        return renewal

    def authenticate_user(self, refresh_token: Renewal) -> Account:
        return refresh_token.account

    def revoke_old_credential(self, refresh_token: Renewal) -> None:
        self.server.renewals = {k: v for k, v in self.server.renewals.items() if v is not refresh_token}


class _Tokens(JWTBearerTokenGenerator):  # type: ignore[misc]
    """Access tokens that the gateway verifies by itself."""

    def __init__(self, issuer: Issuer) -> None:
        super().__init__(
            issuer.url,
            alg=_ALGORITHM,
            refresh_token_generator=lambda **_: secrets.token_urlsafe(32),
            expires_generator=lambda client, grant: _ACCESS_LIVES,
        )
        self._keys = issuer.keys

    def __call__(self, *, scope: str | None = None, **settings: Any) -> dict[str, Any]:
        """Return the tokens for a grant, with one to refresh them where the client asked for that."""
        if "offline_access" not in (scope or "").split():
            settings["include_refresh_token"] = False
        token: dict[str, Any] = super().__call__(scope=scope, **settings)
        return token

    def get_jwks(self) -> KeySet:
        return self._keys.private

    def get_audiences(self, client: Client, user: Account, scope: str) -> str:
        return AUDIENCE

    def get_extra_claims(self, client: Client, grant_type: str, user: Account, scope: str) -> dict[str, Any]:
        return _claims(user)


def _claims(account: Account) -> dict[str, Any]:
    return {
        "sub": account.subject,
        "name": account.name,
        "preferred_username": account.subject,
        "email": account.email,
        "email_verified": True,
        "groups": list(account.groups),
    }
