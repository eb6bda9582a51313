"""What is withheld of errors, notices, settings and notifications while a mask is in reach."""

from typing import Any

import pytest

from bastion.model.action import Access, Action, Resource
from bastion.model.mask import Cover, CoverKind, Mask
from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.coverage import Coverage
from bastion.protocols.postgres.sql.reading import Origin, Reading
from bastion.protocols.postgres.withholding import Withholding

COLUMNS = Mask("pii", Cover(CoverKind.FULL), columns=("public.users.email",))
CARDS = Mask("cards", Cover(CoverKind.FULL), detectors=("payment_card",))
CARD = b"4111111111111111"


class Nothing:
    """What is known of a database without any watched column."""

    def __init__(self) -> None:
        self.types: dict[int, Any] = {}
        self.count = 0

    def watched_at(self, relation: int, number: int) -> frozenset[Origin]:
        return frozenset()

    def type_of(self, origin: Origin) -> int:
        return 0


def coverage(*masks: Mask) -> Coverage:
    action = Action("postgres", "select", "text", (Resource("relation", "public.users", "select", Access.READ),))
    return Coverage(Reading(action), masks, Nothing(), b"key")


def error(text: bytes) -> dict[str, bytes]:
    return {"S": b"ERROR", "V": b"ERROR", "C": b"22P02", "M": text}


def notification(payload: bytes) -> bytes:
    return m.frame(m.NOTIFICATION_RESPONSE, bytes(4) + b"news\0" + payload + b"\0")


def test_words_are_withheld_until_the_transaction_is_over() -> None:
    held = Withholding()
    assert held.said(m.ERROR_RESPONSE, error(b"x")) is None
    held.reached(coverage(COLUMNS))
    said = held.said(m.ERROR_RESPONSE, error(b"912-66-4821"))
    assert said is not None
    assert b"912" not in said
    held.rested([coverage(COLUMNS)])
    assert held.said(m.ERROR_RESPONSE, error(b"x")) is not None
    held.rested([None])
    assert held.said(m.ERROR_RESPONSE, error(b"x")) is None


def test_words_beside_a_search_are_withheld_if_something_is_found() -> None:
    held = Withholding()
    held.reached(coverage(CARDS))
    assert held.said(m.NOTICE_RESPONSE, error(b"nothing")) is None
    said = held.said(m.NOTICE_RESPONSE, error(b"see " + CARD))
    assert said is not None
    assert CARD not in said
    held.rested([])
    assert held.said(m.NOTICE_RESPONSE, error(b"see " + CARD)) is None


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        (b"DateStyle", b"ISO, DMY", True),
        (b"TimeZone", b"Europe/Berlin", True),
        (b"TimeZone", b"America/Argentina/Buenos_Aires", True),
        (b"TimeZone", b"<912-66>5", False),
        (b"TimeZone", b"canary", False),
        (b"application_name", b"Europe/Berlin", False),
        (b"application_name", b"912-66-4821", False),
        (b"search_path", b"ssn", False),
        (b"default_transaction_read_only", b"on", True),
        (b"scram_iterations", b"9126", False),
    ],
)
def test_a_setting_passes_beside_a_mask_if_it_can_be_nothing_else(name: bytes, value: bytes, passes: bool) -> None:
    held = Withholding()
    assert held.set(name, value) is None
    held.reached(coverage(COLUMNS))
    assert (held.set(name, value) is None) is passes


def test_a_setting_beside_a_search_passes_if_nothing_is_found() -> None:
    held = Withholding()
    held.reached(coverage(CARDS))
    assert held.set(b"application_name", b"psql") is None
    assert held.set(b"application_name", CARD) == b""


def test_notifications_lose_their_payload_for_whoever_listens_beside_a_mask() -> None:
    held = Withholding()
    data = notification(CARD)
    assert held.notified(data, 0, len(data)) is None
    held.listens(coverage(CARDS))
    assert held.notified(data, 0, len(data)) == notification(b"")
    other = notification(b"hello")
    assert held.notified(other, 0, len(other)) is None
    held.listens(coverage(COLUMNS))
    assert held.notified(other, 0, len(other)) == notification(b"")
