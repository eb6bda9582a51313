"""The demo's identity provider, over HTTP."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from bastion.demo.accounts import AUDITOR, DBA, ENGINEER, Account
from bastion.demo.idp import IdentityProvider
from bastion.demo.issuing import AUDIENCE, CLIENT_ID

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


@pytest.fixture
def http(provider: IdentityProvider) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=provider.url, trust_env=False) as client:
        yield client


def begin(http: httpx2.Client, scope: str = "openid groups offline_access") -> dict[str, Any]:
    answer = http.post("/device", data={"client_id": CLIENT_ID, "scope": scope})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def decide(http: httpx2.Client, code: str, account: Account = ENGINEER, answer: str = "allow", **headers: str) -> int:
    data = {"user_code": code, "account": account.subject, "answer": answer}
    return int(http.post("/activate", data=data, headers=headers).status_code)


def poll(http: httpx2.Client, device_code: str) -> dict[str, Any]:
    data = {"grant_type": DEVICE, "client_id": CLIENT_ID, "device_code": device_code}
    return dict(http.post("/token", data=data).json())


def claims(http: httpx2.Client, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(http.get("/jwks").json())
    return dict(jwt.decode(token, keys, algorithms=["RS256"]).claims)


def login(http: httpx2.Client, account: Account = ENGINEER) -> dict[str, Any]:
    begun = begin(http)
    assert decide(http, begun["user_code"], account) == 200
    return poll(http, begun["device_code"])


def test_it_is_found_by_discovery(http: httpx2.Client, provider: IdentityProvider) -> None:
    found = http.get("/.well-known/openid-configuration").json()
    assert found["issuer"] == provider.url
    assert urlsplit(provider.url).hostname == "127.0.0.1"
    assert http.get(found["jwks_uri"]).json()["keys"][0]["alg"] == "RS256"


def test_its_keys_hold_nothing_private(http: httpx2.Client) -> None:
    (key,) = http.get("/jwks").json()["keys"]
    assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}


@pytest.mark.parametrize("account", [ENGINEER, DBA, AUDITOR], ids=lambda a: a.subject)
def test_a_login_gives_tokens_for_the_account_that_was_chosen(http: httpx2.Client, account: Account) -> None:
    token = login(http, account)
    access = claims(http, token["access_token"])
    assert (access["sub"], access["groups"], access["aud"]) == (account.subject, list(account.groups), AUDIENCE)
    assert claims(http, token["id_token"])["aud"] == CLIENT_ID


def test_an_access_token_says_what_it_is(http: httpx2.Client) -> None:
    header = jwt.decode(
        login(http)["access_token"], KeySet.import_key_set(http.get("/jwks").json()), algorithms=["RS256"]
    ).header
    assert header["typ"] == "at+jwt"
    assert header["kid"]


def test_polling_too_fast_is_slowed_down(http: httpx2.Client) -> None:
    begun = begin(http)
    assert poll(http, begun["device_code"])["error"] == "authorization_pending"
    assert poll(http, begun["device_code"])["error"] == "slow_down"


def test_a_code_is_good_once(http: httpx2.Client) -> None:
    begun = begin(http)
    decide(http, begun["user_code"])
    assert "access_token" in poll(http, begun["device_code"])
    assert poll(http, begun["device_code"])["error"] == "invalid_request"
    assert decide(http, begun["user_code"]) == 404


def test_a_refusal_is_told(http: httpx2.Client) -> None:
    begun = begin(http)
    assert decide(http, begun["user_code"], answer="refuse") == 200
    assert poll(http, begun["device_code"])["error"] == "access_denied"


def test_a_code_may_be_typed_loosely_and_not_wrongly(http: httpx2.Client) -> None:
    begun = begin(http)
    assert decide(http, "BBBB-BBBB") == 404
    assert decide(http, begun["user_code"].lower().replace("-", " ")) == 200


def test_another_page_cannot_send_the_form(http: httpx2.Client) -> None:
    begun = begin(http)
    assert decide(http, begun["user_code"], origin="https://evil.example") == 403
    assert http.get("/activate", headers={"host": "evil.example"}).status_code == 400


def test_a_code_in_the_address_cannot_write_html(http: httpx2.Client) -> None:
    page = http.get("/activate", params={"user_code": '"><script>alert(1)</script>'}).text
    assert "<script>" not in page


def test_a_refresh_token_is_good_once(http: httpx2.Client) -> None:
    data = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": login(http, DBA)["refresh_token"]}
    renewed = http.post("/token", data=data).json()
    assert claims(http, renewed["access_token"])["sub"] == DBA.subject
    assert http.post("/token", data=data).json()["error"] == "invalid_grant"
    data["refresh_token"] = renewed["refresh_token"]
    assert "access_token" in http.post("/token", data=data).json()


def test_no_refresh_token_without_asking_for_one(http: httpx2.Client) -> None:
    begun = begin(http, "openid")
    decide(http, begun["user_code"])
    assert "refresh_token" not in poll(http, begun["device_code"])


def test_a_stranger_among_clients_gets_nothing(http: httpx2.Client) -> None:
    assert http.post("/device", data={"client_id": "other"}).json()["error"] == "invalid_client"


def test_a_large_form_is_refused(http: httpx2.Client) -> None:
    assert http.post("/token", content=b"a=" + b"b" * 10000).status_code == 413
