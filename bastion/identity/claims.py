"""What a token says, read strictly. Pure: no keys, no clock, no network.

Each refusal is a `ValueError` whose text is for the record alone; whoever shows the token hears only that it failed.
Sources: RFC 7515 and 7519 (form), RFC 9068 (access tokens), OpenID Connect Core 1.0 section 2 (what an ID token is).
"""

import base64
import binascii
import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from bastion.model.identity import Identity, Kind
from bastion.model.issuer import IssuerSettings

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
SKEW = timedelta(seconds=60)
LIFETIME_AT_MOST = timedelta(hours=24)

_SIZE_AT_MOST = 32 * 1024
_GROUPS_AT_MOST = 1000
_HEADER_KNOWN = frozenset({"alg", "kid", "typ", "cty", "x5t", "x5t#S256"})
_CLIENT = ("client_id", "azp", "cid", "appid")
"""Where a token names the client it was issued to: RFC 9068, OpenID Connect, Okta, Entra ID."""
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})


def split(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token in compact form, before any of it is believed."""
    if len(token) > _SIZE_AT_MOST:
        raise ValueError("token too large")
    parts = token.split(".")
    if len(parts) != 3 or not all(parts):
        raise ValueError("not three parts")
    header, payload, _ = (_decoded(part) for part in parts)
    return _object(header), _object(payload)


def check_header(header: dict[str, Any]) -> str:
    """Return the `kid` of a header that asks for nothing we don't do."""
    if header.get("alg") not in ALGORITHMS:
        raise ValueError("algorithm not allowed")
    unknown = set(header) - _HEADER_KNOWN
    if unknown:
        # jku, jwk, x5u and x5c would let a token bring its own key; crit names what we would have to understand.
        # The reason goes on the record, and whoever sends tokens does not choose how much of it.
        raise ValueError(f"header members {sorted(name[:16] for name in unknown)[:4]}")
    if str(header.get("typ", "")).lower() not in _TYPES:
        raise ValueError("not an access token by its typ")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid or len(kid) > 512:
        raise ValueError("no kid")
    return kid


def identity(
    header: dict[str, Any], claims: dict[str, Any], settings: IssuerSettings, now: datetime, token_digest: str
) -> Identity:
    """Return whom the claims of a token whose signature holds prove at `now`."""
    if claims.get("iss") != settings.issuer:
        raise ValueError("issuer")
    _check_audience(claims, settings)
    _check_not_an_id_token(header, claims, settings)
    issued, expires = _times(claims, now)
    subject = _name(claims, "sub")
    shown = claims.get("name", claims.get("preferred_username", subject))
    if not _printable(shown) or not shown:
        raise ValueError("name")
    return Identity(
        issuer=settings.issuer,
        subject=subject,
        name=shown,
        groups=_groups(claims, settings.groups_claim),
        kind=_kind(claims, subject, settings),
        proven=issued,
        expires=expires,
        token_id=claims["jti"] if _printable(claims.get("jti")) else token_digest,
        actor=_actor(claims),
        owner=_name(claims, "owner") if "owner" in claims else "",
        logged_in=_logged_in(claims, now),
    )


def _logged_in(claims: dict[str, Any], now: datetime) -> datetime | None:
    """Return when the person authenticated (`auth_time`, OpenID Connect Core, section 2), if the token says so."""
    if "auth_time" not in claims:
        return None
    logged_in = _moment(claims, "auth_time")
    if logged_in > now + SKEW:
        raise ValueError("auth_time")
    return logged_in


def _check_audience(claims: dict[str, Any], settings: IssuerSettings) -> None:
    audience = claims.get("aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(a, str) for a in named) or settings.audience not in named:
        raise ValueError("audience")
    ours = {settings.client_id, *settings.machine_clients}
    clients = [claims[member] for member in _CLIENT if member in claims]
    if not all(isinstance(client, str) and client in ours for client in clients):
        raise ValueError("issued to another client")
    if len(set(clients)) > 1:
        raise ValueError("two different clients")
    if len(named) > 1 and not clients:
        raise ValueError("several audiences, and no client")


def _kind(claims: dict[str, Any], subject: str, settings: IssuerSettings) -> Kind:
    """Tell a machine by its client, by a subject that is the client itself (RFC 9068), or by what the token says."""
    client = next((claims[member] for member in _CLIENT if member in claims), None)
    kind = claims.get("kind", "human")
    if kind not in ("human", "machine"):
        raise ValueError("kind")
    is_machine = kind == "machine" or claims.get("idtyp") == "app" or client in {subject, *settings.machine_clients}
    return Kind.MACHINE if is_machine else Kind.HUMAN


def _check_not_an_id_token(header: dict[str, Any], claims: dict[str, Any], settings: IssuerSettings) -> None:
    """Refuse an ID token: it says who logged in at a client, and was never meant to open anything.

    It always names its client as audience (OpenID Connect Core, section 2). Where the client's id and our audience are
    the same, a token that is not marked by its header has to hold what only access tokens do.
    """
    typ = claims.get("typ", "Bearer")
    if not isinstance(typ, str) or typ.lower() not in {"bearer", "at+jwt", "jwt"}:
        raise ValueError("not an access token by its claim typ")
    if claims.get("token_use", "access") != "access" or {"nonce", "at_hash", "c_hash"} & set(claims):
        raise ValueError("an ID token")
    is_marked = str(header.get("typ", "")).lower().endswith("at+jwt")
    if settings.audience == settings.client_id and not is_marked and not {"scope", "scp", "roles"} & set(claims):
        raise ValueError("not told apart from an ID token")
    if "cnf" in claims:
        # Bound to a key whose possession we do not check: whoever bound it expects that we do.
        raise ValueError("bound to a key")


def _times(claims: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    if now >= expires + SKEW:
        raise ValueError("expired")
    if issued > now + SKEW or ("nbf" in claims and _moment(claims, "nbf") > now + SKEW):
        raise ValueError("not yet valid")
    if expires <= issued or expires - issued > LIFETIME_AT_MOST:
        raise ValueError("lifetime")
    return issued, expires


def _moment(claims: dict[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 32503680000:
        raise ValueError(name)
    return datetime.fromtimestamp(value, UTC)


def _groups(claims: dict[str, Any], claim: str) -> frozenset[str]:
    value = claims.get(claim, [])
    if not isinstance(value, list) or len(value) > _GROUPS_AT_MOST or not all(g and _printable(g) for g in value):
        raise ValueError("groups")
    return frozenset(value)


def _actor(claims: dict[str, Any]) -> str:
    """Return the current actor of RFC 8693 section 4.1: the outermost `act`."""
    if "act" not in claims:
        return ""
    act = claims["act"]
    if not isinstance(act, dict):
        raise ValueError("act")
    return _name(act, "sub")


def _name(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value or not _printable(value):
        raise ValueError(name)
    return value


def _printable(value: object) -> bool:
    """Tell whether a value is text that can be shown as it is: nothing hidden, nothing that acts, not too long."""
    if not isinstance(value, str) or len(value) > 256 or value != value.strip():
        return False
    return not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in value)


def _decoded(part: str) -> bytes:
    """Return the bytes of base64url without padding, in the one spelling that encodes them."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise ValueError("not canonical base64url")
    return decoded


def _object(data: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a member twice")
        return found

    def never(constant: str) -> Any:
        raise ValueError(constant)

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=never)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value
