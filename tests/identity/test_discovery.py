"""What an issuer publishes, fetched from nowhere else and never without end."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bastion.errors import IssuerError
from bastion.identity import fetching
from bastion.identity.discovery import Provider, discover, provider
from bastion.identity.keys import KeyCache
from tests.kit.idp import IdentityProvider
from tests.kit.scripted_issuer import NOTHING, Answer, ScriptedIssuer

WELL_KNOWN = "/.well-known/openid-configuration"


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as running:
        running.script(WELL_KNOWN, Answer(document(running.url)))
        yield running


def document(url: str, **changes: object) -> dict[str, Any]:
    ordinary = {
        "issuer": url,
        "jwks_uri": f"{url}/jwks",
        "token_endpoint": f"{url}/token",
        "device_authorization_endpoint": f"{url}/device",
        "code_challenge_methods_supported": ["S256", 5],
    }
    return {name: value for name, value in {**ordinary, **changes}.items() if value is not None}


async def test_an_issuer_is_found(issuer: ScriptedIssuer) -> None:
    url = issuer.url
    assert await discover(url) == Provider(url, f"{url}/jwks", f"{url}/token", f"{url}/device", "", frozenset({"S256"}))


@pytest.mark.live
async def test_a_real_issuer_is_found(provider: IdentityProvider) -> None:
    found = await discover(provider.url)
    assert found.device_authorization_endpoint.startswith(provider.url)
    assert found.revocation_endpoint.startswith(provider.url)
    assert "S256" in found.challenge_methods


@pytest.mark.parametrize("end", ["/", "?", ".evil.example", "/x"])
def test_an_issuer_speaks_for_itself_alone(end: str) -> None:
    with pytest.raises(IssuerError, match="calls itself"):
        provider("https://login.example.com", document("https://login.example.com" + end))


@pytest.mark.parametrize("name", ["jwks_uri", "token_endpoint", "device_authorization_endpoint"])
@pytest.mark.parametrize("value", ["http://login.example.com/x", "file:///etc/passwd", "//x", "", 5, "https://[/"])
def test_endpoints_without_https_are_refused(name: str, value: object) -> None:
    with pytest.raises(IssuerError):
        provider("https://login.example.com", document("https://login.example.com", **{name: value}))


@pytest.mark.parametrize("name", ["jwks_uri", "token_endpoint"])
def test_what_is_needed_has_to_be_there(name: str) -> None:
    with pytest.raises(IssuerError, match=name):
        provider("https://login.example.com", document("https://login.example.com", **{name: None}))


def test_what_an_issuer_lacks_is_empty() -> None:
    said = {"device_authorization_endpoint": None, "code_challenge_methods_supported": "S256"}
    found = provider("https://login.example.com", document("https://login.example.com", **said))
    assert (found.device_authorization_endpoint, found.challenge_methods) == ("", frozenset())


@pytest.mark.parametrize(
    "url", ["https://login.example.com", "http://127.0.0.1:1", "http://localhost", "http://[::1]:9"]
)
def test_addresses_that_secrets_may_go_to(url: str) -> None:
    fetching.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://10.0.0.1",
        "https://",
        "https:///x",
        "ftp://127.0.0.1",
        "unix:/x",
        "",
    ],
)
def test_addresses_that_secrets_may_not_go_to(url: str) -> None:
    with pytest.raises(IssuerError):
        fetching.check_url(url)


@pytest.mark.parametrize(
    "answer",
    [
        NOTHING,
        Answer({}, 404),
        Answer({}, 500),
        Answer({}, 302, {"location": "http://127.0.0.1:1/"}),
        Answer([]),
        Answer(b"<html>"),
        Answer(b"[" * 100_000),
        Answer(b" " * 600_000),
        Answer(b"{}", length=5000),
    ],
)
async def test_answers_that_say_nothing(issuer: ScriptedIssuer, answer: Answer) -> None:
    issuer.script(WELL_KNOWN, answer)
    with pytest.raises(IssuerError):
        await discover(issuer.url)


async def test_a_redirect_is_not_followed(issuer: ScriptedIssuer) -> None:
    issuer.script(WELL_KNOWN, Answer({}, 302, {"location": f"{issuer.url}/elsewhere"}))
    with pytest.raises(IssuerError, match="302"):
        await discover(issuer.url)
    assert issuer.forms("/elsewhere") == []


async def test_an_issuer_that_never_finishes_is_left(issuer: ScriptedIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_SECONDS", 0.0)
    with pytest.raises(IssuerError, match="Timeout"):
        await discover(issuer.url)


async def test_nobody_is_trusted_where_there_is_no_tls(tmp_path: Path) -> None:
    context = fetching.reaching("http://127.0.0.1:1")["verify"]
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs() == []
    assert fetching.reaching("https://login.example.com")["verify"].verify_mode is ssl.CERT_REQUIRED


def test_the_environments_proxy_is_not_asked_for_this_machine() -> None:
    assert not fetching.reaching("http://localhost:1")["trust_env"]
    assert not fetching.reaching("https://127.0.0.1:1")["trust_env"]
    assert fetching.reaching("https://login.example.com")["trust_env"]


async def test_keys_come_from_where_the_issuer_says(issuer: ScriptedIssuer) -> None:
    from datetime import timedelta

    from joserfc.jwk import ECKey

    key = ECKey.generate_key("P-256", {"kid": "ec1"})
    issuer.script("/jwks", Answer({"keys": [key.as_dict(private=False)]}))
    cache = KeyCache(issuer.url, timedelta(hours=1), lambda: 0.0)
    assert await cache.find("ec1") is not None
    assert await cache.find("other") is None
    assert [path for path, _ in issuer.asked] == [WELL_KNOWN, "/jwks"]
