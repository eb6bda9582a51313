"""The issuer's signing keys: fetched, kept for a bounded time while it is away, and fetched again for a new `kid`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from bastion.errors import IssuerError
from bastion.identity.discovery import discover
from bastion.identity.fetching import fetch

SigningKey = RSAKey | ECKey | OKPKey

_FRESH = 600.0
"""Seconds after which keys are fetched again when they are next needed."""
_NOT_OFTENER = 10.0
"""Seconds between two fetches, whatever tokens name."""
_AFTER_FAILURE = {"none": 2.0, "some": 60.0}
"""Seconds after a failed fetch in which what is known has to do: while no key is known, and while one is."""
_KEYS_AT_MOST = 64
_RSA_BITS = 2048
_CURVES = {"", "P-256", "P-384", "P-521", "Ed25519", "Ed448"}
"""Those that the algorithms of `claims.ALGORITHMS` sign with; RSA has none."""
_TYPES: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class KeyCache:
    """Keys by their `kid`, current or at most as old as the configuration lets them be."""

    def __init__(
        self,
        issuer: str,
        survive: timedelta,
        monotonic: Callable[[], float],
        fetch_keys: Callable[[str], Awaitable[dict[str, Any]]] | None = None,
    ) -> None:
        self._issuer = issuer
        self._survive = survive.total_seconds()
        self._monotonic = monotonic
        self._fetch_keys = fetch_keys or _fetched
        self._keys: dict[str, SigningKey] = {}
        self._fetched = float("-inf")
        self._next = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, kid: str) -> SigningKey | None:
        """Return the key of that id, or None if the issuer has none.

        Raises `IssuerError` when the issuer cannot be asked and what it last said is too old to be trusted.
        """
        if not self._is_current(kid) and not (self._holds(kid) and self._lock.locked()):
            await self._refresh(kid)
        if not self._survives():
            raise IssuerError("the issuer's keys could not be fetched, or not for too long")
        return self._keys.get(kid)

    async def _refresh(self, kid: str) -> None:
        async with self._lock:
            if self._is_current(kid) or self._monotonic() < self._next:
                return
            try:
                self._keys = usable(await self._fetch_keys(self._issuer))
            except IssuerError:
                # An issuer that is away, or slow to say so, must not hold up each request that comes meanwhile.
                self._next = self._monotonic() + _AFTER_FAILURE["some" if self._holds(kid) else "none"]
                if not self._survives():
                    raise
                return
            self._fetched = self._monotonic()
            self._next = self._fetched + _NOT_OFTENER

    def _is_current(self, kid: str) -> bool:
        return kid in self._keys and self._monotonic() - self._fetched <= _FRESH

    def _holds(self, kid: str) -> bool:
        return kid in self._keys and self._survives()

    def _survives(self) -> bool:
        return self._monotonic() - self._fetched <= self._survive


async def _fetched(issuer: str) -> dict[str, Any]:
    return await fetch((await discover(issuer)).jwks_uri)


def usable(document: dict[str, Any]) -> dict[str, SigningKey]:
    """Return the keys of a JWKS that may verify signatures, by `kid`: public, asymmetric, strong. Pure.

    A `kid` that occurs twice names no key: which of the two was meant cannot be known.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise IssuerError("the issuer's keys are not a list")
    found: dict[str, SigningKey] = {}
    twice: set[str] = set()
    for item in listed[:_KEYS_AT_MOST]:
        key = _key(item)
        if key is None:
            continue
        kid = item["kid"]
        if kid in found:
            twice.add(kid)
        found[kid] = key
    return {kid: key for kid, key in found.items() if kid not in twice}


def _key(item: Any) -> SigningKey | None:
    if not isinstance(item, dict) or not isinstance(item.get("kid"), str) or item.get("use", "sig") != "sig":
        return None
    kind = _TYPES.get(str(item.get("kty")))
    if kind is None or "d" in item or "k" in item or item.get("crv", "") not in _CURVES:
        return None
    try:
        key = kind.import_key(item)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < _RSA_BITS:
        return None
    return key
