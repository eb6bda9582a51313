"""Login, renewal and logout, at a provider that somebody else wrote."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bastion.client.credentials import Login, LoginStore
from bastion.client.device import Prompt
from bastion.client.login import Registration, access_token, log_in, log_out
from bastion.errors import AuthenticationFailed, IssuerError
from bastion.identity.keys import KeyCache
from bastion.identity.verification import TokenRefused, TokenVerifier
from bastion.model.identity import Identity, Kind
from bastion.model.issuer import IssuerSettings
from tests.kit.idp import AUDIENCE, CLIENT_ID, ROBOT, SCOPES, IdentityProvider
from tests.kit.scripted_issuer import Answer, ScriptedIssuer

pytestmark = pytest.mark.live


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state"


def registration(provider: IdentityProvider, audience: str = AUDIENCE, client: str = CLIENT_ID) -> Registration:
    return Registration(provider.url, client, audience, SCOPES)


def login(
    provider: IdentityProvider,
    place: Path,
    account: str = "alice",
    *,
    show: Callable[[Prompt], None] | None = None,
    sleep: Callable[[float], None] | None = None,
    wanted: Registration | None = None,
) -> Login:
    def agree(prompt: Prompt) -> None:
        provider.agree(prompt.address_with_code, account)

    return log_in(
        wanted or registration(provider),
        LoginStore(place),
        show or agree,
        now=provider.seconds,
        monotonic=provider.seconds,
        sleep=sleep or provider.sleep,
    )


def verifier(provider: IdentityProvider) -> TokenVerifier:
    settings = IssuerSettings(provider.url, CLIENT_ID, AUDIENCE, machine_clients=(ROBOT[0],))
    return TokenVerifier(settings, KeyCache(provider.url, settings.keys_survive, provider.seconds), provider.now)


def token(provider: IdentityProvider, place: Path) -> str:
    return access_token(place, now=provider.seconds)


def is_active(provider: IdentityProvider, shown: str) -> bool:
    return bool(provider.post_as_robot("/token/introspection", token=shown).json()["active"])


def kept(place: Path) -> Login:
    found = LoginStore(place).read()
    assert found is not None
    return found


async def proven(provider: IdentityProvider, shown: str) -> Identity:
    return await verifier(provider).verify(shown)


def test_a_login_gives_a_token_that_the_gateway_verifies(provider: IdentityProvider, place: Path) -> None:
    import asyncio

    login(provider, place, "bob")
    identity = asyncio.run(proven(provider, token(provider, place)))
    assert (identity.key, identity.name) == ((provider.url, "bob"), "Bob Bauer")
    assert identity.groups == {"engineers", "dba"}
    assert identity.kind is Kind.HUMAN


def test_the_login_waits_until_the_person_agrees(provider: IdentityProvider, place: Path) -> None:
    prompts: list[Prompt] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        provider.sleep(seconds)
        if len(slept) == 3:
            provider.agree(prompts[0].address_with_code)

    login(provider, place, show=prompts.append, sleep=sleep)
    assert slept == [5, 5, 5]


def test_the_issuers_pace_is_kept(provider: IdentityProvider, place: Path) -> None:
    provider.configure(interval=2, slowDown=True)
    prompts: list[Prompt] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        # The second wait is cut short, so that the provider has to complain.
        provider.sleep(0.5 if len(slept) == 2 else seconds)
        if len(slept) == 4:
            provider.agree(prompts[0].address_with_code)

    login(provider, place, show=prompts.append, sleep=sleep)
    assert slept == [2, 2, 7, 7]


def test_a_refusal_is_told(provider: IdentityProvider, place: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="refused"):
        login(provider, place, show=lambda prompt: provider.refuse(prompt.address_with_code))
    assert LoginStore(place).read() is None


def test_a_code_that_nobody_uses_ends(provider: IdentityProvider, place: Path) -> None:
    provider.configure(deviceTtl=30)
    with pytest.raises(AuthenticationFailed, match="nobody agreed"):
        login(provider, place, show=lambda prompt: None)


def test_a_code_that_ended_at_the_issuer_ends_the_login(provider: IdentityProvider, place: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="nobody agreed"):
        login(provider, place, show=lambda prompt: provider.sleep(596))


def test_opening_the_address_with_the_code_agrees_to_nothing(provider: IdentityProvider, place: Path) -> None:
    pages: list[str] = []
    with pytest.raises(AuthenticationFailed, match="nobody agreed"):
        login(provider, place, show=lambda prompt: pages.append(provider.open(prompt.address_with_code)))
    assert "confirm" in pages[0]


def test_a_code_is_good_for_one_login(provider: IdentityProvider, place: Path) -> None:
    begun = provider.post("/device/auth", client_id=CLIENT_ID, scope="openid", prompt="consent").json()
    provider.agree(begun["verification_uri_complete"])
    asked = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"]}
    assert "access_token" in provider.post("/token", client_id=CLIENT_ID, **asked).json()
    assert provider.post("/token", client_id=CLIENT_ID, **asked).json()["error"] == "invalid_grant"


def test_a_code_is_good_for_its_client_alone(provider: IdentityProvider, place: Path) -> None:
    begun = provider.post("/device/auth", client_id=CLIENT_ID, scope="openid").json()
    provider.agree(begun["verification_uri_complete"])
    asked = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"]}
    assert provider.post("/token", client_id="other-app", **asked).json()["error"] == "invalid_grant"


def test_a_token_that_the_gateway_could_not_verify_is_told_at_login(provider: IdentityProvider, place: Path) -> None:
    with pytest.raises(IssuerError, match="JWT"):
        login(provider, place, wanted=registration(provider, "bastion"))
    assert LoginStore(place).read() is None


def test_an_audience_that_the_issuer_does_not_know_is_told(provider: IdentityProvider, place: Path) -> None:
    with pytest.raises(IssuerError, match="invalid_target"):
        login(provider, place, wanted=registration(provider, "https://other.test/api"))


async def test_a_token_for_another_client_proves_nobody(provider: IdentityProvider, place: Path) -> None:
    begun = provider.post("/device/auth", client_id="other-app", scope="openid", resource=AUDIENCE).json()
    provider.agree(begun["verification_uri_complete"])
    asked = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"]}
    given = provider.post("/token", client_id="other-app", resource=AUDIENCE, **asked).json()
    with pytest.raises(TokenRefused) as caught:
        await proven(provider, given["access_token"])
    assert "another client" in caught.value.reason


async def test_an_id_token_proves_nobody(provider: IdentityProvider, place: Path) -> None:
    begun = provider.post("/device/auth", client_id=CLIENT_ID, scope="openid profile groups").json()
    provider.agree(begun["verification_uri_complete"])
    asked = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"]}
    given = provider.post("/token", client_id=CLIENT_ID, **asked).json()
    with pytest.raises(TokenRefused):
        await proven(provider, given["id_token"])
    # Not even where somebody took the client's id for the audience.
    settings = IssuerSettings(provider.url, CLIENT_ID, CLIENT_ID)
    keys = KeyCache(provider.url, settings.keys_survive, provider.seconds)
    with pytest.raises(TokenRefused) as caught:
        await TokenVerifier(settings, keys, provider.now).verify(given["id_token"])
    assert "ID token" in caught.value.reason


async def test_a_robot_is_a_machine(provider: IdentityProvider) -> None:
    given = provider.post_as_robot("/token", grant_type="client_credentials").json()
    identity = await proven(provider, given["access_token"])
    assert (identity.kind, identity.groups) == (Kind.MACHINE, frozenset({"robots"}))


async def test_a_token_ends(provider: IdentityProvider) -> None:
    given = provider.post_as_robot("/token", grant_type="client_credentials").json()
    known = verifier(provider)
    await known.verify(given["access_token"])
    provider.sleep(661)
    with pytest.raises(TokenRefused):
        await known.verify(given["access_token"])


async def test_new_keys_are_found_and_old_ones_stop_counting(provider: IdentityProvider) -> None:
    known = verifier(provider)
    before = provider.post_as_robot("/token", grant_type="client_credentials").json()["access_token"]
    await known.verify(before)
    provider.rotate()
    provider.sleep(11)
    after = provider.post_as_robot("/token", grant_type="client_credentials").json()["access_token"]
    await known.verify(after)
    known.forget()
    with pytest.raises(TokenRefused):
        await known.verify(before)


def test_a_token_that_still_holds_is_used_again(provider: IdentityProvider, place: Path) -> None:
    first = login(provider, place)
    provider.sleep(500)
    assert token(provider, place) == first.access_token


def test_a_token_is_renewed_before_it_ends(provider: IdentityProvider, place: Path) -> None:
    import asyncio

    first = login(provider, place)
    provider.sleep(545)
    renewed = token(provider, place)
    assert renewed != first.access_token
    assert asyncio.run(proven(provider, renewed)).subject == "alice"
    assert kept(place).refresh_token != first.refresh_token
    provider.sleep(5000)
    assert token(provider, place) not in (first.access_token, renewed)


def test_commands_that_renew_at_once_do_not_log_the_person_out(provider: IdentityProvider, place: Path) -> None:
    login(provider, place)
    provider.sleep(700)
    found: list[str] = []
    together = threading.Barrier(4)

    def command() -> None:
        together.wait()
        found.append(token(provider, place))

    commands = [threading.Thread(target=command) for _ in range(4)]
    for each in commands:
        each.start()
    for each in commands:
        each.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    provider.sleep(700)
    assert token(provider, place) != found[0]


def test_a_login_that_the_issuer_ended_is_forgotten(provider: IdentityProvider, place: Path) -> None:
    first = login(provider, place)
    assert provider.post("/token/revocation", client_id=CLIENT_ID, token=first.refresh_token).status_code == 200
    provider.sleep(700)
    with pytest.raises(AuthenticationFailed, match="ended"):
        token(provider, place)
    assert LoginStore(place).read() is None


def test_a_refresh_token_that_was_stolen_and_used_ends_the_login(provider: IdentityProvider, place: Path) -> None:
    first = login(provider, place)
    stolen = {"grant_type": "refresh_token", "refresh_token": first.refresh_token, "client_id": CLIENT_ID}
    assert "access_token" in provider.post("/token", **stolen).json()
    provider.sleep(700)
    with pytest.raises(AuthenticationFailed):
        token(provider, place)


def test_logging_out_ends_the_tokens_at_the_issuer(provider: IdentityProvider, place: Path) -> None:
    first = login(provider, place)
    assert is_active(provider, first.refresh_token)
    assert log_out(place)
    assert not is_active(provider, first.refresh_token)
    assert LoginStore(place).read() is None
    with pytest.raises(AuthenticationFailed, match="not logged in"):
        token(provider, place)
    assert not log_out(place)


def test_a_new_login_takes_the_place_of_the_old(provider: IdentityProvider, place: Path) -> None:
    login(provider, place, "alice")
    second = login(provider, place, "carol")
    assert token(provider, place) == second.access_token


def test_nobody_is_logged_in_at_first(place: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="not logged in"):
        access_token(place)
    assert not log_out(place)


def stored(issuer: ScriptedIssuer, place: Path, **changes: object) -> Login:
    ordinary = Login(issuer.url, CLIENT_ID, f"{issuer.url}/token", f"{issuer.url}/revoke", {}, "a.b.c", 90, 100, "r-1")
    made = replace(ordinary, **changes)  # type: ignore[arg-type]
    LoginStore(place).write(made)
    return made


def test_an_issuer_out_of_reach_does_not_end_a_token_that_holds(place: Path) -> None:
    with ScriptedIssuer() as issuer:
        stored(issuer, place)
        issuer.script("/token", Answer(status=None))
        assert access_token(place, now=lambda: 95) == "a.b.c"
        with pytest.raises(IssuerError):
            access_token(place, now=lambda: 101)
    assert kept(place).refresh_token == "r-1"


def test_an_issuer_that_keeps_the_refresh_token_keeps_the_login(place: Path) -> None:
    with ScriptedIssuer() as issuer:
        stored(issuer, place, extra={"audience": "bastion"})
        issuer.script("/token", Answer({"access_token": "d.e.f", "token_type": "Bearer", "expires_in": 100}))
        assert access_token(place, now=lambda: 200) == "d.e.f"
        (asked,) = issuer.forms("/token")
    assert asked == {
        "grant_type": "refresh_token",
        "refresh_token": "r-1",
        "audience": "bastion",
        "client_id": CLIENT_ID,
    }
    assert (kept(place).refresh_token, kept(place).renew, kept(place).expires) == ("r-1", 290, 300)


def test_a_login_without_a_refresh_token_lives_as_long_as_its_token(place: Path) -> None:
    with ScriptedIssuer() as issuer:
        stored(issuer, place, refresh_token="")
        assert access_token(place, now=lambda: 99) == "a.b.c"
        with pytest.raises(AuthenticationFailed, match="has ended"):
            access_token(place, now=lambda: 100)
        assert issuer.asked == []


def test_logging_out_forgets_the_login_although_the_issuer_cannot_be_told(place: Path) -> None:
    with ScriptedIssuer() as issuer:
        stored(issuer, place)
        issuer.script("/revoke", Answer(b"", 503))
        with pytest.raises(IssuerError, match="forgotten here"):
            log_out(place)
    assert LoginStore(place).read() is None


@pytest.mark.parametrize(
    "answer", [{}, {"issuer": "https://x", "client_id": "", "audience": "b", "scopes": []}, {"issuer": 5}]
)
def test_a_gateway_that_does_not_say_where_to_log_in(answer: dict[str, object]) -> None:
    with pytest.raises(IssuerError):
        Registration.told(answer)


def test_what_the_gateway_says_is_where_to_log_in() -> None:
    told = Registration.told({"issuer": "https://x", "client_id": "c", "audience": "b", "scopes": ["openid"]})
    assert told == Registration("https://x", "c", "b", ("openid",))
