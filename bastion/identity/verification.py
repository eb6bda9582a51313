"""Verifies bearer tokens: form, signature, claims. One answer for every failure; the reason is for the record."""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning

from bastion.errors import AuthenticationFailed
from bastion.identity import claims
from bastion.identity.keys import KeyCache, SigningKey
from bastion.model.identity import Identity
from bastion.model.issuer import IssuerSettings

_KEPT = 4096
_TRUSTED = timedelta(minutes=5)
"""Time after which a known token is verified anew, so that a key which the issuer withdrew stops counting."""


class TokenRefused(AuthenticationFailed):
    """A token that proves nobody; `reason` says why, for the record only."""

    def __init__(self, reason: str) -> None:
        super().__init__("the token was not accepted", hint="log in again with `bastion login`")
        self.reason = reason


class TokenVerifier:
    """Proves identities by the tokens of one issuer."""

    def __init__(self, settings: IssuerSettings, keys: KeyCache, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._keys = keys
        self._now = now
        self._known: OrderedDict[str, tuple[Identity, datetime]] = OrderedDict()

    async def verify(self, token: str) -> Identity:
        """Return whom a token proves now. Raises `TokenRefused`, or `IssuerError` when that cannot be found out."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        known = self._known.get(digest)
        now = self._now()
        if known is not None:
            identity, verified = known
            # Also when the clock was set back: only what is between the two counts.
            if verified <= now < min(identity.expires, verified + _TRUSTED):
                return identity
            del self._known[digest]
        proven = await self._verified(token, digest)
        self._known[digest] = proven, now
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return proven

    def forget(self) -> None:
        """Verify everything anew from now on."""
        self._known.clear()

    async def _verified(self, token: str, digest: str) -> Identity:
        try:
            header, said = claims.split(token)
            kid = claims.check_header(header)
        except ValueError as error:
            raise TokenRefused(str(error)) from None
        key = await self._keys.find(kid)
        if key is None:
            raise TokenRefused("no such key")
        if key.get("alg", header["alg"]) != header["alg"]:
            raise TokenRefused("the key is for another algorithm")
        if not _is_signed(token, key, header["alg"]):
            raise TokenRefused("signature")
        try:
            return claims.identity(header, said, self._settings, self._now(), digest)
        except ValueError as error:
            raise TokenRefused(str(error)) from None


def _is_signed(token: str, key: SigningKey, algorithm: str) -> bool:
    try:
        with warnings.catch_warnings():
            # RFC 9864 gave EdDSA a better name, and issuers go on using the old one. Nothing is weak about it.
            warnings.simplefilter("ignore", SecurityWarning)
            jws.deserialize_compact(token, key, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError):
        return False
    return True
