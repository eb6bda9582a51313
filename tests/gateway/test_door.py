"""The door: who is let in, how many, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastion.config import Limits
from bastion.errors import AccessRefused, AuthenticationFailed
from bastion.gateway.desk import Desk
from bastion.gateway.door import GatewayDoor
from bastion.gateway.hub import Hub
from bastion.gateway.ledger import StoreLedger
from bastion.gateway.refusals import Refusals
from bastion.identity.tickets import Tickets
from bastion.model.mask import Cover, CoverKind, Mask
from bastion.model.session import Session
from bastion.model.target import Target
from bastion.policy.bearing import Where
from bastion.policy.document import Policy, Rule
from bastion.policy.marks import Place
from bastion.policy.masks import MaskRule
from bastion.protocols.contract import Claim, End, Side
from bastion.store.reader import Reader
from bastion.store.writer import Recorder
from bastion.vault.sources import Vault
from tests.kit import nouns, toy

POLICY = Policy((Rule("reads", "allow", Place("policy.yaml", 1, 1)),), frozenset(), "v1", "")
NOTHING = Policy((), frozenset(), "v2", "")


class House:
    """A door with everything behind it but listeners."""

    def __init__(self, directory: Path, **limits: Any) -> None:
        self.recorder = Recorder.open(directory, now=lambda: 1_000_000)
        self.tickets = Tickets(now=lambda: nouns.NOON, monotonic=lambda: 0.0)
        self.targets = {"prod-db": nouns.target()}
        self.policy = POLICY
        ledger = StoreLedger(self.recorder)
        self.door = GatewayDoor(
            recorder=self.recorder,
            hub=Hub(self.recorder, lambda error: self.door.recording_broke(error)),
            desk=Desk(ledger, lambda: nouns.NOON, capacity=2, per_session=2, per_identity=2),
            refusals=Refusals(self.recorder.audit, lambda: 0.0),
            tickets=self.tickets,
            vault=Vault(directory / "secrets", {}),
            targets=lambda: self.targets,
            policy=lambda: self.policy,
            limits=Limits.model_validate(limits),
            now=lambda: nouns.NOON,
        )

    def claim(self, subject: str = "alice") -> Claim:
        return Claim(self.tickets.issue(nouns.identity(subject), "prod-db", "why", "tests").secret, "prod-db")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path, sessions=3, sessions_per_identity=2, session_lifetime="1s")
    yield built
    built.recorder.close()


async def test_who_is_let_in_is_on_the_record_first(house: House, tmp_path: Path) -> None:
    session = await house.door.admit(house.claim())
    with Reader.open(tmp_path) as reader:
        assert [e.kind for e in reader.entries(session.id)] == ["opened"]
    assert session.identity == nouns.identity()


async def test_a_ticket_opens_one_session(house: House) -> None:
    claim = house.claim()
    await house.door.admit(claim)
    with pytest.raises(AuthenticationFailed):
        await house.door.admit(claim)


async def test_a_target_that_is_gone_admits_nobody(house: House) -> None:
    claim = house.claim()
    house.targets = {}
    with pytest.raises(AccessRefused, match="no target prod-db any more"):
        await house.door.admit(claim)


async def test_a_ticket_from_before_a_new_policy_opens_nothing_that_the_new_one_keeps_shut(house: House) -> None:
    claim = house.claim()
    house.policy = NOTHING
    with pytest.raises(AccessRefused, match="no rule"):
        await house.door.admit(claim)


@pytest.mark.parametrize("now", [{}, {"prod-db": nouns.target(env="secret")}])
async def test_a_session_ends_when_its_target_is_configured_anew(house: House, now: dict[str, Target]) -> None:
    session = await house.door.admit(house.claim())
    conversing, log = converse(house, session)
    await asyncio.sleep(0)
    house.door.end_changed()
    assert not conversing.done()
    house.targets = now
    house.door.end_changed()
    reason = await asyncio.wait_for(conversing, 5)
    assert "prod-db" in reason
    assert ("client", "failed: access.refused\n") in log


async def test_a_session_ends_when_masks_name_other_columns_of_its_target(house: House) -> None:
    session = await house.door.admit(house.claim())
    conversing, log = converse(house, session)
    await asyncio.sleep(0)
    house.policy = replace(POLICY, masks=(mask("elsewhere", "a.b.c", target="other"), mask("found", detectors=True)))
    house.door.end_changed()
    assert not conversing.done()
    house.policy = replace(POLICY, masks=(mask("here", "public.users.email"),))
    assert house.door.masked(session.target) == {"public.users.email"}
    house.door.end_changed()
    assert "prod-db" in await asyncio.wait_for(conversing, 5)
    assert ("client", "failed: access.refused\n") in log


async def test_a_session_ends_when_masks_changed_while_its_target_was_dialled(house: House) -> None:
    session = await house.door.admit(house.claim())
    house.policy = replace(POLICY, masks=(mask("here", "public.users.email"),))
    conversing, log = converse(house, session, early=b"write 1\n")
    assert "prod-db" in await asyncio.wait_for(conversing, 5)
    assert ("target", "write 1\n") not in log


def mask(name: str, *columns: str, target: str = "prod-db", detectors: bool = False) -> MaskRule:
    made = Mask(name, Cover(CoverKind.FULL), columns, ("email",) if detectors else ())
    return MaskRule(made, Place("policy.yaml", 1, 1), Where(frozenset({target})))


async def test_a_target_that_changed_while_it_was_dialled_hears_nothing(house: House) -> None:
    session = await house.door.admit(house.claim())
    house.targets = {}
    conversing, log = converse(house, session, early=b"write 1\n")
    assert "prod-db" in await asyncio.wait_for(conversing, 5)
    assert ("target", "write 1\n") not in log


async def test_sessions_are_bounded_for_each_and_for_all(house: House) -> None:
    await house.door.admit(house.claim())
    await house.door.admit(house.claim())
    with pytest.raises(AccessRefused, match="you have 2 sessions"):
        await house.door.admit(house.claim())
    await house.door.admit(house.claim("bob"))
    with pytest.raises(AccessRefused, match="as many sessions as it takes"):
        await house.door.admit(house.claim("carol"))


async def test_a_session_that_could_not_begin_makes_room(house: House, tmp_path: Path) -> None:
    for _ in range(5):
        session = await house.door.admit(house.claim())
        await house.door.failed(session, "unreachable")
    with Reader.open(tmp_path) as reader:
        row = reader.session(session.id)
    assert row is not None
    assert row.end_reason == "unreachable"


async def test_a_session_ends_with_its_lifetime(house: House) -> None:
    session = await house.door.admit(house.claim())
    conversing, log = converse(house, session)
    reason = await asyncio.wait_for(conversing, 5)
    assert "has lasted 0:00:01" in reason
    assert ("client", "failed: access.refused\n") in log


def converse(house: House, session: Session, early: bytes = b"") -> tuple["asyncio.Task[str]", toy.Log]:
    log: toy.Log = []
    wires = {Side.CLIENT: toy.Wire(log, "client"), Side.TARGET: toy.Wire(log, "target")}
    ends = {side: End(wire, toy.Lines()) for side, wire in wires.items()}
    ends[Side.CLIENT] = End(wires[Side.CLIENT], toy.Lines(), early)
    return asyncio.ensure_future(house.door.converse(session, ends, toy.Toy(), _never)), log


async def _never(name: str, question: object) -> object:
    return await asyncio.get_running_loop().create_future()


async def test_refusals_are_on_the_record(house: House, tmp_path: Path) -> None:
    await house.door.refused(Claim("x", "prod-db", "peer"), "the ticket was not accepted")
    with Reader.open(tmp_path) as reader:
        assert b"refused" in [e.data for e in reader.entries("gateway")][-1]
