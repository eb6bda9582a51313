"""Finds an issuer's endpoints (OpenID Connect Discovery 1.0, section 4)."""

from dataclasses import dataclass
from typing import Any

from bastion.errors import IssuerError
from bastion.identity.fetching import check_url, fetch


@dataclass(frozen=True, slots=True)
class Provider:
    """What an issuer says of itself, as far as bastion uses it. Empty where it has no such endpoint."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    device_authorization_endpoint: str = ""
    revocation_endpoint: str = ""
    challenge_methods: frozenset[str] = frozenset()
    """The PKCE methods it offers (RFC 7636)."""


async def discover(issuer: str) -> Provider:
    """Return what `issuer` publishes. Raises `IssuerError` when it cannot be reached or speaks for another."""
    return provider(issuer, await fetch(issuer.rstrip("/") + "/.well-known/openid-configuration"))


def provider(issuer: str, document: dict[str, Any]) -> Provider:
    """Return the provider that a discovery document describes. Pure."""
    if document.get("issuer") != issuer:
        raise IssuerError(
            "the issuer calls itself something else than the configuration does",
            hint="identity.issuer must be spelled exactly as the issuer spells itself",
        )
    methods = document.get("code_challenge_methods_supported")
    return Provider(
        issuer=issuer,
        jwks_uri=_url(document, "jwks_uri", needed=True),
        token_endpoint=_url(document, "token_endpoint", needed=True),
        device_authorization_endpoint=_url(document, "device_authorization_endpoint"),
        revocation_endpoint=_url(document, "revocation_endpoint"),
        challenge_methods=frozenset(m for m in methods if isinstance(m, str))
        if isinstance(methods, list)
        else frozenset(),
    )


def _url(document: dict[str, Any], name: str, *, needed: bool = False) -> str:
    value = document.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise IssuerError(f"the issuer does not say its {name}")
    check_url(value)
    return value
