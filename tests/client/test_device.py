"""The device grant, by RFC 8628, against written answers: every wait, every refusal, every lost answer."""

import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from bastion.client import device
from bastion.client.oauth import IssuerClient, Refused, Tokens, Unanswered
from bastion.errors import AuthenticationFailed, IssuerError
from bastion.identity.discovery import Provider
from tests.kit.scripted_issuer import NOTHING, Answer, ScriptedIssuer, error

PENDING = error("authorization_pending")
TOKENS = Answer({"access_token": "a.b.c", "token_type": "Bearer", "expires_in": 300, "refresh_token": "r-1"})


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as running:
        running.script("/device", code(running))
        yield running


def code(issuer: ScriptedIssuer, **changes: Any) -> Answer:
    ordinary = {
        "device_code": "d-1",
        "user_code": "ABCD-EFGH",
        "verification_uri": f"{issuer.url}/activate",
        "expires_in": 600,
    }
    return Answer({name: value for name, value in {**ordinary, **changes}.items() if value is not None})


def provider(issuer: ScriptedIssuer, *methods: str) -> Provider:
    return Provider(
        issuer.url, f"{issuer.url}/jwks", f"{issuer.url}/token", f"{issuer.url}/device", "", frozenset(methods)
    )


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def begin(issuer: ScriptedIssuer, *methods: str, audience: str = "bastion") -> device.Waiting:
    with IssuerClient(issuer.url, "bastion-cli") as client:
        return device.begin(client, provider(issuer, *methods), ("openid", "groups"), audience)


def login(issuer: ScriptedIssuer, clock: Clock, *methods: str) -> Tokens:
    with IssuerClient(issuer.url, "bastion-cli") as client:
        offered = provider(issuer, *methods)
        waiting = device.begin(client, offered, ("openid",), "bastion")
        return device.wait(client, offered, waiting, monotonic=lambda: clock.seconds, sleep=clock.sleep)


def test_the_interval_is_five_seconds_where_the_issuer_names_none(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", PENDING, PENDING, TOKENS)
    clock = Clock()
    assert login(issuer, clock) == Tokens("a.b.c", 300, "r-1")
    assert clock.slept == [5, 5, 5]


def test_the_issuers_interval_is_kept(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", code(issuer, interval=2))
    issuer.script("/token", PENDING, TOKENS)
    clock = Clock()
    login(issuer, clock)
    assert clock.slept == [2, 2]


def test_an_interval_of_nothing_is_still_a_second(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", code(issuer, interval=0))
    issuer.script("/token", TOKENS)
    clock = Clock()
    login(issuer, clock)
    assert clock.slept == [1]


def test_slow_down_adds_five_seconds_for_good(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", error("slow_down"), PENDING, error("slow_down"), TOKENS)
    clock = Clock()
    login(issuer, clock)
    assert clock.slept == [5, 10, 10, 15]


def test_a_token_is_asked_for_no_more_once_it_came(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", PENDING, TOKENS)
    login(issuer, Clock())
    assert len(issuer.forms("/token")) == 2


def test_each_question_names_the_code_and_the_client(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", TOKENS)
    login(issuer, Clock())
    (asked,) = issuer.forms("/token")
    assert asked["grant_type"] == device.GRANT_TYPE
    assert (asked["device_code"], asked["client_id"], asked["audience"]) == ("d-1", "bastion-cli", "bastion")


def test_an_issuer_out_of_reach_is_asked_again_ever_more_slowly(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", NOTHING, NOTHING, error("busy", 503), error("busy", 429), PENDING, TOKENS)
    issuer.answers["/token"][3] = Answer(b"<html>slow</html>", 429)
    issuer.answers["/token"][2] = Answer(b"<html>away</html>", 503)
    clock = Clock()
    login(issuer, clock)
    assert clock.slept == [5, 10, 20, 40, 60, 5]


def test_an_answer_cut_short_is_asked_for_again(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", Answer(b'{"error":', 400, length=500), TOKENS)
    login(issuer, Clock())


def test_a_token_that_got_lost_is_told_as_that(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", Answer(b'{"access', 200, length=500), error("invalid_grant"))
    with pytest.raises(IssuerError, match="lost"):
        login(issuer, Clock())


def test_a_refusal_ends_the_login(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", PENDING, error("access_denied"))
    with pytest.raises(AuthenticationFailed, match="refused"):
        login(issuer, Clock())
    assert len(issuer.forms("/token")) == 2


def test_a_code_that_ended_ends_the_login(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", PENDING, error("expired_token"))
    with pytest.raises(AuthenticationFailed, match="nobody agreed"):
        login(issuer, Clock())


def test_nobody_asks_beyond_the_end_of_the_code(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", code(issuer, expires_in=12))
    issuer.script("/token", PENDING)
    clock = Clock()
    with pytest.raises(AuthenticationFailed, match="nobody agreed"):
        login(issuer, clock)
    assert clock.slept == [5, 5, 5]


@pytest.mark.parametrize("reason", ["invalid_client", "invalid_grant", "unauthorized_client", "whatever"])
def test_any_other_refusal_ends_the_login(issuer: ScriptedIssuer, reason: str) -> None:
    issuer.script("/token", error(reason))
    with pytest.raises(Refused) as caught:
        login(issuer, Clock())
    assert caught.value.reason == reason
    assert len(issuer.forms("/token")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"not json"),
        Answer([1]),
        Answer({}),
        Answer({"access_token": 5, "token_type": "Bearer"}),
        Answer({"access_token": "a b", "token_type": "Bearer"}),
        Answer({"access_token": "a\nb", "token_type": "Bearer"}),
        Answer({"access_token": "a.b.c"}),
        Answer({"access_token": "a.b.c", "token_type": "DPoP"}),
        Answer({"access_token": "a.b.c", "token_type": "Bearer", "refresh_token": ["r"]}),
        Answer(b"[" * 100_000),
    ],
)
def test_an_answer_that_makes_no_sense_could_have_been_the_token_and_is_not_asked_for_again(
    issuer: ScriptedIssuer, answer: Answer
) -> None:
    issuer.script("/token", answer, TOKENS)
    with pytest.raises(IssuerError):
        login(issuer, Clock())
    assert len(issuer.forms("/token")) == 1


@pytest.mark.parametrize("said", ["300", 300, 300.0])
def test_a_lifetime_is_read_as_issuers_write_it(issuer: ScriptedIssuer, said: object) -> None:
    issuer.script("/token", Answer({"access_token": "a", "token_type": "bearer", "expires_in": said}))
    assert login(issuer, Clock()).lifetime == 300


def test_a_lifetime_that_is_not_said_is_short(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", Answer({"access_token": "a", "token_type": "bearer"}))
    assert login(issuer, Clock()).lifetime == 300


def test_a_redirect_is_not_followed(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", Answer({}, 307, {"location": f"{issuer.url}/elsewhere"}))
    with pytest.raises(IssuerError):
        login(issuer, Clock())
    assert issuer.forms("/elsewhere") == []


def test_an_answer_without_end_is_not_read(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", Answer(b" " * 300_000 + b"{}"))
    with pytest.raises(Unanswered):
        begin(issuer)


def test_a_packed_answer_is_not_unpacked(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", Answer(b"\x1f\x8b\x08\0", 200, {"content-encoding": "gzip"}))
    with pytest.raises(IssuerError):
        begin(issuer)


def test_a_challenge_goes_with_the_code_and_its_secret_with_the_question(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", TOKENS)
    login(issuer, Clock(), "plain", "S256")
    (begun,), (asked,) = issuer.forms("/device"), issuer.forms("/token")
    digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
    assert begun["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert begun["code_challenge_method"] == "S256"
    assert len(asked["code_verifier"]) >= 43
    assert "code_verifier" not in begun


@pytest.mark.parametrize("methods", [(), ("plain",)])
def test_no_challenge_where_the_issuer_does_not_offer_a_good_one(
    issuer: ScriptedIssuer, methods: tuple[str, ...]
) -> None:
    issuer.script("/token", TOKENS)
    login(issuer, Clock(), *methods)
    assert "code_challenge" not in issuer.forms("/device")[0]
    assert "code_verifier" not in issuer.forms("/token")[0]


@pytest.mark.parametrize("audience", ["https://bastion.test/api", "api://0f3", "urn:bastion"])
def test_an_audience_that_is_an_address_is_asked_for_as_resource_too(issuer: ScriptedIssuer, audience: str) -> None:
    begin(issuer, audience=audience)
    (begun,) = issuer.forms("/device")
    assert (begun["resource"], begun["audience"]) == (audience, audience)


def test_an_audience_that_is_a_name_is_no_resource(issuer: ScriptedIssuer) -> None:
    begin(issuer, audience="bastion")
    assert "resource" not in issuer.forms("/device")[0]


def test_an_issuer_that_knows_no_resource_is_asked_without(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", error("invalid_request"), code(issuer))
    waiting = begin(issuer, audience="https://bastion.test/api")
    assert [("resource" in form) for form in issuer.forms("/device")] == [True, False]
    assert "resource" not in waiting.extra


def test_an_issuer_that_knows_another_resource_is_not_asked_for_less(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", error("invalid_target"))
    with pytest.raises(Refused):
        begin(issuer, audience="https://bastion.test/api")
    assert len(issuer.forms("/device")) == 1


def test_an_issuer_without_the_grant_is_told_as_that() -> None:
    lacking = Provider("https://login.example.com", "https://login.example.com/jwks", "https://login.example.com/token")
    with IssuerClient("https://login.example.com", "bastion-cli") as client, pytest.raises(IssuerError, match="8628"):
        device.begin(client, lacking, ("openid",), "bastion")


def test_the_person_is_shown_what_the_issuer_says(issuer: ScriptedIssuer) -> None:
    whole = f"{issuer.url}/activate?user_code=ABCD-EFGH"
    issuer.script("/device", code(issuer, verification_uri_complete=whole))
    assert begin(issuer).prompt == device.Prompt(f"{issuer.url}/activate", "ABCD-EFGH", whole, timedelta(seconds=600))


@pytest.mark.parametrize(
    "changes",
    [
        {"verification_uri": "http://login.example.com/activate"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri": "file:///etc/passwd"},
        {"verification_uri": "https://login.example.com/\x1b[2J"},
        {"verification_uri": "https://login.example.com/a b"},
        {"verification_uri": None},
        {"verification_uri_complete": "--browser=evil"},
        {"verification_uri_complete": "https://[::1/"},
        {"user_code": "A\x1b[31mB"},
        {"user_code": "A" * 65},
        {"user_code": ""},
        {"user_code": None},
        {"device_code": None},
        {"expires_in": None},
        {"expires_in": -1},
        {"expires_in": True},
        {"interval": "5"},
        {"interval": -5},
    ],
)
def test_a_code_that_cannot_be_shown_safely_is_refused(issuer: ScriptedIssuer, changes: dict[str, object]) -> None:
    issuer.script("/device", code(issuer, **changes))
    with pytest.raises(IssuerError):
        begin(issuer)


def test_what_the_issuer_says_of_a_refusal_draws_nothing(issuer: ScriptedIssuer) -> None:
    issuer.script("/device", Answer({"error": "no\x1b[2J", "error_description": "a\x1b]0;b" + "x" * 5000}, 400))
    with pytest.raises(Refused) as caught:
        begin(issuer)
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 500


def test_no_secret_shows_in_what_is_printed(issuer: ScriptedIssuer) -> None:
    issuer.script("/token", TOKENS)
    shown = repr(begin(issuer, "S256")) + repr(login(issuer, Clock()))
    for secret in ("d-1", "a.b.c", "r-1"):
        assert secret not in shown
