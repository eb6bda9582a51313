"""Every hostile token of the corpus is refused, and its harmless inverse is accepted."""

import base64
import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc import jws
from joserfc.jwk import ECKey, KeySet, RSAKey

from bastion.identity.keys import KeyCache
from bastion.identity.verification import TokenRefused, TokenVerifier
from bastion.model.identity import Identity
from bastion.model.issuer import IssuerSettings
from tests.kit.nouns import NOON

_CORPUS = Path(__file__).parent.parent / "corpus" / "attacks.yaml"
ISSUER = "https://idp.test"
GROUPS = {"alice": ["eng"], "bob": ["eng", "sql-approvers"]}
NOW = int(NOON.timestamp())


def _cases() -> list[dict[str, Any]]:
    # The loader in C reads the quarter megabyte ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    cases = yaml.load(_CORPUS.read_bytes(), loader)["cases"]
    return [case for case in cases if case["family"] == "ident" and case["group"] == "token"]


CASES = _cases()
_FORGERS = {"other1": RSAKey.generate_key(2048), "evil1": RSAKey.generate_key(2048)}
_OURS: dict[str, RSAKey | ECKey] = {
    "rs1": RSAKey.generate_key(2048, {"kid": "rs1", "use": "sig"}),
    "ec1": ECKey.generate_key("P-256", {"kid": "ec1", "use": "sig"}),
}
KEYS: dict[str, Any] = {**_OURS, **_FORGERS}


def test_the_corpus_is_whole() -> None:
    assert len([case for case in CASES if case["kind"] == "attack"]) == 18
    assert len([case for case in CASES if case["kind"] == "control"]) == 3


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']}-{case['technique']}")
async def test_case(case: dict[str, Any]) -> None:
    shown = built(case["steps"][0]["token"])
    asked: list[str] = []

    async def keys(issuer: str) -> dict[str, Any]:
        asked.append(issuer)
        return dict(KeySet([*_OURS.values()]).as_dict(private=False))

    cache = KeyCache(ISSUER, timedelta(hours=24), lambda: 0.0, keys)
    verifier = TokenVerifier(IssuerSettings(ISSUER, "cli", "bastion"), cache, lambda: NOON)
    proven = await outcome(verifier, shown)
    assert ("allow" if proven else "deny") in case["expect"]["decision"]
    # Keys come from where the configuration says, whatever the token says.
    assert set(asked) <= {ISSUER}
    match case["technique"]:
        case "email_as_identity":
            assert proven is not None
            assert proven.key == (ISSUER, "mallory-sub")
            assert "alice" not in proven.name.lower()
        case "group_substring":
            assert proven is None or "sql-approvers" not in proven.groups


async def outcome(verifier: TokenVerifier, shown: str) -> Identity | None:
    try:
        return await verifier.verify(shown)
    except TokenRefused as error:
        refused = error
    assert refused.message == "the token was not accepted"
    assert refused.reason
    return None


def built(spec: dict[str, Any]) -> str:
    """Return the token that a case describes."""
    header: dict[str, Any] = {"alg": "RS256", "typ": "at+jwt", "kid": "rs1"}
    ordinary: dict[str, Any] = {
        "iss": ISSUER,
        "sub": spec["base"],
        "aud": "bastion",
        "client_id": "cli",
        "iat": NOW - 5,
        "exp": NOW + 600,
        "jti": "j-1",
        "groups": GROUPS[spec["base"]],
    }
    header |= {name: _header_value(value) for name, value in spec.get("header", {}).items()}
    ordinary |= {name: _moment(value) for name, value in spec.get("claims", {}).items()}
    if "azp" in spec.get("claims", {}):
        del ordinary["client_id"]
    payload = json.dumps({name: value for name, value in ordinary.items() if value is not None})
    mangle = spec.get("mangle", "")
    if mangle.startswith("duplicate_sub:"):
        payload = payload[:-1] + f', "sub": "{mangle.partition(":")[2]}"}}'
    token = _signed({n: v for n, v in header.items() if v is not None}, payload, spec["sign"])
    if mangle == "drop_signature":
        return token.rpartition(".")[0] + "."
    assert not mangle or mangle.startswith("duplicate_sub:"), mangle
    return token


def _header_value(value: Any) -> Any:
    return value.replace("{EVIL_PORT}", "1") if isinstance(value, str) else value


def _moment(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("now+", "now-")):
        return NOW + int(value[3:])
    return value


def _signed(header: dict[str, Any], payload: str, sign: str) -> str:
    if header.get("jwk") in KEYS:
        header["jwk"] = KEYS[header["jwk"]].as_dict(private=False)
    if sign in KEYS:
        registry = jws.JWSRegistry(strict_check_header=False)
        return jws.serialize_compact(header, payload.encode(), KEYS[sign], registry=registry)
    signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(payload.encode())}"
    if sign == "none":
        return f"{signed}."
    secrets = {"hs256:rs1_public_pem": KEYS["rs1"].as_pem(private=False), "hs256:empty": b""}
    return f"{signed}.{_encoded(hmac.digest(secrets[sign], signed.encode(), 'sha256'))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
