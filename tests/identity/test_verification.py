"""Tokens: what proves somebody, and every way in which something that looks like it does not."""

import base64
import hmac
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from bastion.errors import IssuerError
from bastion.identity.claims import identity
from bastion.identity.keys import KeyCache, usable
from bastion.identity.verification import TokenRefused, TokenVerifier
from bastion.model.identity import Kind
from bastion.model.issuer import IssuerSettings
from tests.kit import nouns

RSA = RSAKey.generate_key(2048, {"kid": "rs1", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec1", "use": "sig"})
EVIL = RSAKey.generate_key(2048, {"kid": "evil1"})
SETTINGS = IssuerSettings(nouns.ISSUER, "bastion-cli", "bastion", machine_clients=("ci",))
NOW = int(nouns.NOON.timestamp())


def jwks() -> dict[str, Any]:
    return dict(KeySet([RSA, EC]).as_dict(private=False))


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return nouns.NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class Issuer:
    """An issuer's keys, which can change and go away."""

    def __init__(self) -> None:
        self.document = jwks()
        self.away = False
        self.asked = 0

    async def fetch(self, issuer: str) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise IssuerError("away")
        return self.document


def claims(**changes: object) -> dict[str, Any]:
    ordinary = {
        "iss": nouns.ISSUER,
        "sub": "alice",
        "aud": "bastion",
        "client_id": "bastion-cli",
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "t-1",
        "name": "Alice",
        "groups": ["engineers"],
    }
    return {name: value for name, value in {**ordinary, **changes}.items() if value is not None}


def token(key: Any = RSA, header: Any = None, **changes: object) -> str:
    algorithm = "ES256" if key is EC else "RS256"
    members = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid, **(header or {})}
    registry = jws.JWSRegistry(strict_check_header=False)
    return jwt.encode({k: v for k, v in members.items() if v is not None}, claims(**changes), key, registry=registry)


def verifier(
    clock: Clock | None = None, issuer: Issuer | None = None, settings: IssuerSettings = SETTINGS
) -> TokenVerifier:
    clock, issuer = clock or Clock(), issuer or Issuer()
    keys = KeyCache(nouns.ISSUER, settings.keys_survive, clock.monotonic, issuer.fetch)
    return TokenVerifier(settings, keys, clock.now)


async def refusal(shown: str, clock: Clock | None = None) -> str:
    with pytest.raises(TokenRefused) as caught:
        await verifier(clock).verify(shown)
    assert str(caught.value) == "the token was not accepted"
    return caught.value.reason


@pytest.mark.parametrize("key", [RSA, EC])
async def test_a_good_token_proves_its_subject(key: Any) -> None:
    proven = await verifier().verify(token(key))
    assert (proven.key, proven.name, proven.groups) == ((nouns.ISSUER, "alice"), "Alice", frozenset({"engineers"}))
    assert proven.kind is Kind.HUMAN


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        *((name, RSA) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("ES256", EC),
        ("ES384", ECKey.generate_key("P-384", {"kid": "ec384"})),
        ("ES512", ECKey.generate_key("P-521", {"kid": "ec512"})),
        ("EdDSA", OKPKey.generate_key("Ed25519", {"kid": "ed"})),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "ed"})),
    ],
)
async def test_every_algorithm_on_the_list_works(algorithm: str, key: Any) -> None:
    issuer = Issuer()
    issuer.document = {"keys": [key.as_dict(private=False)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        header = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid}
        shown = jwt.encode(header, claims(), key, algorithms=[algorithm])
    assert (await verifier(issuer=issuer).verify(shown)).subject == "alice"


async def test_a_clock_that_is_half_a_minute_off_is_forgiven() -> None:
    await verifier().verify(token(iat=NOW + 30, nbf=NOW + 30))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "grafana"}, "audience"),
        ({"aud": ["grafana", "bastion"], "azp": "grafana", "client_id": None}, "another client"),
        ({"client_id": "grafana"}, "another client"),
        ({"azp": "ci", "client_id": "bastion-cli"}, "different"),
        ({"aud": None}, "audience"),
        ({"aud": ["bastion", 7]}, "audience"),
        ({"iss": nouns.ISSUER + ".evil.example"}, "issuer"),
        ({"iss": nouns.ISSUER + "/"}, "issuer"),
        ({"exp": NOW - 120}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": str(NOW + 60)}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": NOW + 10**7}, "lifetime"),
        ({"nbf": NOW + 600}, "not yet"),
        ({"iat": NOW + 600, "exp": NOW + 700}, "not yet"),
        ({"iat": None}, "iat"),
        ({"sub": ""}, "sub"),
        ({"sub": None}, "sub"),
        ({"sub": "al\nice"}, "sub"),
        ({"sub": "al\u202eice"}, "sub"),
        ({"sub": 5}, "sub"),
        ({"name": "A\x1b[2J"}, "name"),
        ({"groups": "dba"}, "groups"),
        ({"groups": ["dba", 5]}, "groups"),
        ({"groups": [""]}, "groups"),
        ({"groups": {"dba": True}}, "groups"),
        ({"typ": "ID"}, "typ"),
        ({"typ": "Refresh"}, "typ"),
        ({"nonce": "n"}, "ID token"),
        ({"at_hash": "x"}, "ID token"),
        ({"token_use": "id"}, "ID token"),
        ({"cnf": {"jkt": "x"}}, "bound"),
        ({"act": "agent"}, "act"),
        ({"owner": ""}, "owner"),
    ],
)
async def test_claims_that_prove_nothing(changes: dict[str, object], reason: str) -> None:
    assert reason in await refusal(token(**changes))


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"x5u": "http://127.0.0.1:1/"},
        {"crit": ["b64"], "b64": True},
        {"typ": "secevent+jwt"},
        {"typ": "dpop+jwt"},
        {"kid": "nobody"},
        {"kid": None},
        {"kid": "../../../../dev/null"},
        {"b64": True},
    ],
)
async def test_headers_that_ask_for_more(header: dict[str, Any]) -> None:
    await refusal(token(header=header))


async def test_a_key_that_the_token_brings_is_not_used() -> None:
    await refusal(token(EVIL, {"jwk": EVIL.as_dict(private=False)}))
    await refusal(token(EVIL, {"kid": "rs1"}))


@pytest.mark.parametrize("alg", ["none", "nOnE", "HS256", "HS512", "RS1", ""])
async def test_algorithms_that_are_not_on_the_list(alg: str) -> None:
    _, payload, signature = token().split(".")
    forged = encoded({"alg": alg, "kid": "rs1", "typ": "JWT"})
    for end in ("", signature):
        await refusal(f"{forged}.{payload}.{end}")


async def test_the_public_key_is_no_shared_secret() -> None:
    signed = f"{encoded({'alg': 'HS256', 'kid': 'rs1'})}.{encoded(claims())}"
    code = hmac.digest(RSA.as_pem(private=False), signed.encode(), "sha256")
    await refusal(f"{signed}.{base64.urlsafe_b64encode(code).rstrip(b'=').decode()}")


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def with_payload(change: Callable[[str], str]) -> str:
    """Return a token whose payload's text was changed, signed properly."""
    header = {"alg": "RS256", "kid": "rs1", "typ": "at+jwt"}
    return jws.serialize_compact(header, change(json.dumps(claims())).encode(), RSA)


async def test_a_member_twice_is_ambiguous() -> None:
    assert "twice" in await refusal(with_payload(lambda text: text[:-1] + ', "sub": "admin"}'))


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("600", "NaN"), lambda t: "[" * 5000, lambda t: '"x"', lambda t: "\x00"]
)
async def test_payloads_that_are_no_claims(change: Callable[[str], str]) -> None:
    await refusal(with_payload(change))


@pytest.mark.parametrize(
    "shown",
    ["", "a", "a.b", "a.b.c", "a.b.c.d", ".." + "x" * 40_000, "é.é.é", token() + "=", token() + "\n", " " + token()],
)
async def test_what_is_no_token(shown: str) -> None:
    await refusal(shown)


GOOD = token()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=127))
async def test_any_other_character_refuses(at: int, char: str) -> None:
    changed = GOOD[:at] + char + GOOD[at + 1 :]
    if changed != GOOD:
        await refusal(changed)


async def test_a_machine_is_known_by_its_client_and_carries_owner_and_actor() -> None:
    robot = await verifier().verify(token(client_id="ci", sub="ci-1", owner="alice", act={"sub": "agent-7"}))
    assert (robot.kind, robot.owner, robot.actor) == (Kind.MACHINE, "alice", "agent-7")
    itself = await verifier(settings=replace(SETTINGS, machine_clients=("bot",))).verify(
        token(client_id="bot", sub="bot")
    )
    assert itself.kind is Kind.MACHINE


async def test_a_verified_token_still_ends() -> None:
    clock = Clock()
    prover = verifier(clock)
    shown = token()
    await prover.verify(shown)
    clock.seconds = 599
    await prover.verify(shown)
    clock.seconds = 661
    with pytest.raises(TokenRefused):
        await prover.verify(shown)


async def test_keys_rotate() -> None:
    clock, issuer = Clock(), Issuer()
    prover = verifier(clock, issuer)
    await prover.verify(token())
    new = RSAKey.generate_key(2048, {"kid": "rs2"})
    issuer.document = dict(KeySet([new]).as_dict(private=False))
    clock.seconds = 20
    await prover.verify(token(new))
    with pytest.raises(TokenRefused):
        await prover.verify(token(jti="another"))


async def test_unknown_keys_do_not_make_us_ask_the_issuer_again_and_again() -> None:
    issuer = Issuer()
    prover = verifier(issuer=issuer)
    for n in range(20):
        with pytest.raises(TokenRefused):
            await prover.verify(token(header={"kid": f"no-{n}"}))
    assert issuer.asked == 1


async def test_an_outage_of_the_issuer_is_survived_for_a_while() -> None:
    clock, issuer = Clock(), Issuer()
    prover = verifier(clock, issuer)
    await prover.verify(token())
    issuer.away = True
    clock.seconds = 23 * 3600
    later = NOW + 23 * 3600
    await prover.verify(token(iat=later, exp=later + 60))
    clock.seconds = 25 * 3600
    later = NOW + 25 * 3600
    with pytest.raises(IssuerError):
        await prover.verify(token(iat=later, exp=later + 60))


async def test_an_issuer_that_was_never_reached_proves_nobody() -> None:
    issuer = Issuer()
    issuer.away = True
    with pytest.raises(IssuerError):
        await verifier(issuer=issuer).verify(token())


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_keys_that_must_not_verify_are_left_out() -> None:
    weak = RSAKey.generate_key(1024, {"kid": "weak"})
    shared = OctKey.generate_key(256, {"kid": "shared"})
    documents = [
        weak.as_dict(private=False),
        shared.as_dict(),
        RSA.as_dict(private=True) | {"kid": "private"},
        RSA.as_dict(private=False) | {"kid": "enc", "use": "enc"},
        RSA.as_dict(private=False) | {"kid": "twice"},
        EC.as_dict(private=False) | {"kid": "twice"},
        ECKey.generate_key("secp256k1", {"kid": "coin"}).as_dict(private=False),
        OKPKey.generate_key("X25519", {"kid": "agreement"}).as_dict(private=False),
        {"kty": "RSA", "kid": "broken", "n": "AQAB", "e": "!"},
        "nonsense",
        EC.as_dict(private=False),
    ]
    assert set(usable({"keys": documents})) == {"ec1"}


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 8 * len(GOOD) - 1))
async def test_any_flipped_bit_refuses(bit: int) -> None:
    changed = bytearray(GOOD.encode())
    changed[bit // 8] ^= 1 << bit % 8
    await refusal(changed.decode("latin-1"))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2), st.sampled_from(["=", "==", "\n", " ", "\t", "%3D", "\0"]), st.booleans())
async def test_any_other_spelling_of_the_same_token_refuses(part: int, more: str, behind: bool) -> None:
    parts = GOOD.split(".")
    parts[part] = parts[part] + more if behind else more + parts[part]
    await refusal(".".join(parts))


async def test_the_same_bytes_in_another_base64_refuse() -> None:
    header, payload, signature = GOOD.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 256 bytes leave four bits over in the last character: sixteen spellings of one signature, one of them right.
    last = alphabet.index(signature[-1])
    for other in range(last - last % 16, last - last % 16 + 16):
        if other != last:
            await refusal(f"{header}.{payload}.{signature[:-1]}{alphabet[other]}")
    standard = signature.replace("-", "+").replace("_", "/")
    if standard != signature:
        await refusal(f"{header}.{payload}.{standard}")


async def test_an_ecdsa_signature_in_another_form_refuses() -> None:
    header, payload, signature = token(EC).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    zeros = b"\0" * 64
    over = (int.from_bytes(raw[:32], "big")).to_bytes(32, "big") + order.to_bytes(32, "big")
    der = b"\x30\x44\x02\x20" + raw[:32] + b"\x02\x20" + raw[32:]
    for forged in (zeros, over, der, raw + b"\0", raw[:-1], b""):
        await refusal(f"{header}.{payload}.{base64.urlsafe_b64encode(forged).rstrip(b'=').decode()}")


@pytest.mark.parametrize(("kid", "alg"), [("rs1", "ES256"), ("ec1", "RS256"), ("rs1", "EdDSA"), ("ec1", "ES384")])
async def test_a_key_of_one_kind_verifies_no_algorithm_of_another(kid: str, alg: str) -> None:
    _, payload, signature = GOOD.split(".")
    await refusal(f"{encoded({'alg': alg, 'kid': kid, 'typ': 'at+jwt'})}.{payload}.{signature}")


@pytest.mark.parametrize("alg", ["RS384", "PS256", "PS512"])
async def test_a_key_for_one_algorithm_verifies_no_other(alg: str) -> None:
    issuer = Issuer()
    issuer.document = {"keys": [RSA.as_dict(private=False) | {"alg": "RS256"}]}
    shown = jwt.encode({"alg": alg, "typ": "at+jwt", "kid": "rs1"}, claims(), RSA, algorithms=[alg])
    with pytest.raises(TokenRefused) as caught:
        await verifier(issuer=issuer).verify(shown)
    assert "another algorithm" in caught.value.reason


@pytest.mark.parametrize(
    ("header", "changes"),
    [
        ({"typ": "JWT"}, {"typ": "Bearer", "azp": "bastion-cli", "client_id": None, "scope": "openid", "sid": "s"}),
        ({"typ": "JWT"}, {"azp": "bastion-cli", "client_id": None, "scp": "access", "ver": "2.0", "oid": "o"}),
        ({"typ": None}, {"cid": "bastion-cli", "client_id": None, "scp": ["openid"], "uid": "u", "ver": 1}),
        ({"typ": "at+jwt"}, {"aud": ["bastion", "https://idp.example.com/userinfo"]}),
        ({"typ": "application/at+jwt"}, {}),
    ],
    ids=["keycloak", "entra", "okta", "auth0", "rfc9068"],
)
async def test_access_tokens_as_issuers_really_give_them(header: dict[str, Any], changes: dict[str, object]) -> None:
    assert (await verifier().verify(token(header=header, **changes))).subject == "alice"


@pytest.mark.parametrize("member", ["client_id", "azp", "cid", "appid"])
@pytest.mark.parametrize("client", ["grafana", "", 5, ["bastion-cli"], {"a": 1}])
async def test_a_token_for_another_client_refuses_however_it_is_named(member: str, client: object) -> None:
    assert "another client" in await refusal(token(**{"client_id": None, member: client}))


async def test_several_audiences_need_a_client() -> None:
    assert "no client" in await refusal(token(aud=["bastion", "grafana"], client_id=None))


async def test_where_audience_and_client_are_one_an_id_token_is_told_from_an_access_token() -> None:
    same = replace(SETTINGS, audience="bastion-cli")
    id_token = token(header={"typ": "JWT"}, aud="bastion-cli", client_id=None)
    with pytest.raises(TokenRefused) as caught:
        await verifier(settings=same).verify(id_token)
    assert "ID token" in caught.value.reason
    for shown in (
        token(aud="bastion-cli"),
        token(header={"typ": "JWT"}, aud="bastion-cli", scope="openid"),
    ):
        await verifier(settings=same).verify(shown)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Kind.HUMAN),
        ({"kind": "human"}, Kind.HUMAN),
        ({"kind": "machine"}, Kind.MACHINE),
        ({"idtyp": "app"}, Kind.MACHINE),
        ({"idtyp": "user"}, Kind.HUMAN),
        ({"client_id": "ci", "kind": "human"}, Kind.MACHINE),
        ({"client_id": None, "azp": "ci"}, Kind.MACHINE),
        ({"sub": "bastion-cli"}, Kind.MACHINE),
    ],
)
async def test_what_makes_a_machine(changes: dict[str, object], kind: Kind) -> None:
    assert (await verifier().verify(token(**changes))).kind is kind


@pytest.mark.parametrize("kind", ["robot", "", None, 5, ["machine"]])
async def test_a_kind_that_is_unknown_refuses(kind: object) -> None:
    shown = with_payload(lambda text: text[:-1] + f', "kind": {json.dumps(kind)}}}')
    assert "kind" in await refusal(shown)


async def test_a_known_token_is_not_verified_again_for_a_while() -> None:
    clock, issuer = Clock(), Issuer()
    prover = verifier(clock, issuer)
    shown = token(exp=NOW + 7200)
    await prover.verify(shown)
    issuer.document = {"keys": []}
    clock.seconds = 299
    await prover.verify(shown)
    assert issuer.asked == 1


async def test_a_known_token_stops_counting_soon_after_its_key_was_withdrawn() -> None:
    clock, issuer = Clock(), Issuer()
    prover = verifier(clock, issuer)
    shown = token(exp=NOW + 7200)
    await prover.verify(shown)
    issuer.document = {"keys": []}
    clock.seconds = 601
    with pytest.raises(TokenRefused):
        await prover.verify(shown)


async def test_forgetting_makes_each_token_prove_itself_anew() -> None:
    issuer, clock = Issuer(), Clock()
    prover = verifier(clock, issuer)
    await prover.verify(token())
    issuer.document = {"keys": []}
    clock.seconds = 20
    with pytest.raises(TokenRefused):
        await prover.verify(token(header={"kid": "other"}))
    prover.forget()
    with pytest.raises(TokenRefused):
        await prover.verify(token())


@settings(deadline=None, max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(
        [
            "iss",
            "sub",
            "aud",
            "exp",
            "nbf",
            "iat",
            "jti",
            "name",
            "groups",
            "act",
            "owner",
            "kind",
            "azp",
            "client_id",
            "typ",
            "token_use",
            "scope",
            "preferred_username",
        ]
    ),
)
def test_any_claim_of_any_type_gives_an_identity_or_a_refusal(value: object, name: str) -> None:
    try:
        proven = identity({"typ": "at+jwt"}, {**claims(), name: value}, SETTINGS, nouns.NOON, "digest")
    except ValueError:
        return
    assert proven.issuer == nouns.ISSUER
    assert proven.subject.isprintable()
    assert proven.name.isprintable()


async def test_a_reason_for_the_record_is_short_whatever_the_token_holds() -> None:
    header = {f"member-{n:04}-{'x' * 20}": n for n in range(300)}
    assert len(await refusal(token(header=header))) < 200
