"""Refusals are all on the record, and a flood of them is on it in few words."""

import asyncio

import orjson

from bastion.gateway.refusals import Refusals


class Record:
    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []
        self.now = 0.0
        self.refusals = Refusals(lambda data: self.entries.append(orjson.loads(data)), lambda: self.now, at_most=3)

    def refuse(self, times: int) -> int:
        return sum(self.refusals.note("refused", "peer", {"reason": "no ticket"}) for _ in range(times))


async def test_a_few_refusals_are_told_one_by_one() -> None:
    record = Record()
    assert record.refuse(3) == 3
    assert record.entries == [{"what": "refused", "by": "peer", "reason": "no ticket"}] * 3


async def test_a_flood_is_counted_and_the_count_comes_before_what_follows() -> None:
    record = Record()
    assert record.refuse(1000) == 3
    record.now = 60.0
    assert record.refuse(1) == 1
    assert record.entries[3:] == [
        {"what": "refusals not told one by one", "by": "", "count": 997},
        {"what": "refused", "by": "peer", "reason": "no ticket"},
    ]


async def test_the_count_is_written_also_when_nothing_follows() -> None:
    record = Record()
    record.refuse(5)
    record.refusals.settle()
    record.refusals.settle()
    assert record.entries[3:] == [{"what": "refusals not told one by one", "by": "", "count": 2}]


async def test_the_count_is_written_by_itself_after_a_minute() -> None:
    record = Record()
    counted = asyncio.Event()
    record.refusals = Refusals(
        lambda data: counted.set() if b"count" in data else None, lambda: 0.0, at_most=1, seconds=0.01
    )
    record.refuse(2)
    await asyncio.wait_for(counted.wait(), 5)


async def test_what_was_asked_for_is_not_kept_at_any_length() -> None:
    record = Record()
    record.refusals.note("refused", "x" * 9000, {"target": "y" * 9000, "bad": "\ud800"})
    (entry,) = record.entries
    assert len(orjson.dumps(entry)) < 1000
    assert str(entry["target"]).startswith("yyy")
