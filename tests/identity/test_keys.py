"""The issuer's keys: asked for as seldom as can be, and trusted without it for a bounded time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey, KeySet

from bastion.errors import IssuerError
from bastion.identity.keys import KeyCache

OLD = ECKey.generate_key("P-256", {"kid": "old"})
NEW = ECKey.generate_key("P-256", {"kid": "new"})


class Issuer:
    """An issuer whose keys change, that goes away, and that can be slow to answer."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.keys = [OLD]
        self.away = False
        self.asked = 0
        self.slow: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.cache = KeyCache("https://idp.test", timedelta(hours=24), lambda: self.seconds, self._fetch)

    async def _fetch(self, issuer: str) -> dict[str, Any]:
        self.asked += 1
        if self.slow is not None:
            self.reached.set()
            await self.slow.wait()
        if self.away:
            raise IssuerError("away")
        return dict(KeySet(list(self.keys)).as_dict(private=False))

    async def knows(self, kid: str) -> bool:
        return await self.cache.find(kid) is not None


async def test_keys_are_fetched_once_and_again_after_a_while() -> None:
    issuer = Issuer()
    for second in range(0, 600, 100):
        issuer.seconds = second
        assert await issuer.knows("old")
    assert issuer.asked == 1
    issuer.seconds = 601
    assert await issuer.knows("old")
    assert issuer.asked == 2


async def test_an_unknown_key_is_asked_for_at_most_every_ten_seconds() -> None:
    issuer = Issuer()
    assert not await issuer.knows("new")
    issuer.keys = [OLD, NEW]
    issuer.seconds = 9
    assert not await issuer.knows("new")
    issuer.seconds = 10
    assert await issuer.knows("new")
    assert issuer.asked == 2


async def test_a_key_that_was_withdrawn_stops_counting() -> None:
    issuer = Issuer()
    assert await issuer.knows("old")
    issuer.keys = [NEW]
    issuer.seconds = 601
    assert not await issuer.knows("old")


async def test_an_issuer_that_is_away_is_asked_once_a_minute_and_not_by_each_request() -> None:
    issuer = Issuer()
    await issuer.knows("old")
    issuer.away = True
    for second in range(601, 661):
        issuer.seconds = second
        assert await issuer.knows("old")
    assert issuer.asked == 2
    issuer.seconds = 662
    assert await issuer.knows("old")
    assert issuer.asked == 3


async def test_an_outage_is_survived_for_a_bounded_time() -> None:
    issuer = Issuer()
    await issuer.knows("old")
    issuer.away = True
    issuer.seconds = 24 * 3600
    assert await issuer.knows("old")
    issuer.seconds += 1
    with pytest.raises(IssuerError):
        await issuer.knows("old")
    issuer.away = False
    issuer.seconds += 100
    assert await issuer.knows("old")


async def test_an_issuer_that_was_never_reached_is_asked_again_soon() -> None:
    issuer = Issuer()
    issuer.away = True
    for _ in range(10):
        with pytest.raises(IssuerError):
            await issuer.knows("old")
    assert issuer.asked == 1
    issuer.away = False
    issuer.seconds = 2
    assert await issuer.knows("old")


async def test_a_slow_issuer_holds_up_nobody_whose_key_is_known() -> None:
    issuer = Issuer()
    await issuer.knows("old")
    issuer.slow = asyncio.Event()
    issuer.seconds = 601
    first = asyncio.ensure_future(issuer.knows("old"))
    await issuer.reached.wait()
    assert await issuer.knows("old")
    assert not first.done()
    issuer.slow.set()
    assert await first
    assert issuer.asked == 2


async def test_requests_at_once_ask_once() -> None:
    issuer = Issuer()
    assert await asyncio.gather(*(issuer.knows("old") for _ in range(20))) == [True] * 20
    assert issuer.asked == 1


@pytest.mark.parametrize("document", [{}, {"keys": {}}, {"keys": "x"}])
async def test_a_document_without_keys_does_not_replace_those_there_are(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [dict(KeySet([OLD]).as_dict(private=False)), document]

    async def fetch(issuer: str) -> dict[str, Any]:
        return answers.pop(0)

    seconds = [0.0]
    cache = KeyCache("https://idp.test", timedelta(hours=24), lambda: seconds[0], fetch)
    assert await cache.find("old") is not None
    seconds[0] = 601
    assert await cache.find("old") is not None
    assert answers == []
