"""An issuer that proves whatever a test wants proven: discovery and keys over loopback HTTP, tokens made in process.

For tests of everything behind the login. The login itself is tested against a provider that somebody else wrote.
"""

import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

AUDIENCE = "bastion"
CLIENT_ID = "bastion-cli"
LIFETIME = 3600


class Issuer:
    """Answers discovery and JWKS while the `with` block runs."""

    def __init__(self) -> None:
        self._rsa, self._ec = _keys()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Issuer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def public_pem(self) -> bytes:
        """The public RSA key, as an attacker who confuses keys would use it."""
        return self._rsa.as_pem(private=False)

    def claims(self, subject: str, groups: Sequence[str] = (), **more: object) -> dict[str, Any]:
        """Return the claims of an ordinary access token; `more` adds to or replaces them, None removes."""
        now = int(time.time())
        ordinary: dict[str, object] = {
            "iss": self.url,
            "sub": subject,
            "aud": AUDIENCE,
            "client_id": CLIENT_ID,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_hex(8),
            "name": subject.title(),
            "groups": list(groups),
        }
        return {name: value for name, value in {**ordinary, **more}.items() if value is not None}

    def token(self, subject: str, *groups: str, **more: object) -> str:
        """Return an ordinary access token of `subject`, signed with RS256."""
        return self.signed(self.claims(subject, groups, **more))

    def signed(
        self, claims: Mapping[str, Any], *, algorithm: str = "RS256", header: Mapping[str, Any] | None = None
    ) -> str:
        """Return `claims` as a token; `header` adds to or replaces the header's members."""
        key = self._rsa if algorithm == "RS256" else self._ec
        members = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid, **(header or {})}
        return jwt.encode(members, dict(claims), key)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                documents = {
                    "/.well-known/openid-configuration": issuer._discovery,
                    "/jwks": issuer._jwks,
                }
                document = documents.get(self.path)
                body = json.dumps(document()).encode() if document else b"{}"
                self.send_response(200 if document else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _discovery(self) -> dict[str, object]:
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "device_authorization_endpoint": f"{self.url}/device",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }

    def _jwks(self) -> dict[str, object]:
        return dict(KeySet([self._rsa, self._ec]).as_dict(private=False))


@cache
def _keys() -> tuple[RSAKey, ECKey]:
    """Return one pair of keys for the whole test process: making an RSA key takes long."""
    return (
        RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True),
        ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True),
    )
