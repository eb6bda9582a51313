"""Tickets: random, bound, short-lived, spent once."""

from datetime import datetime, timedelta

import pytest

from bastion.errors import AccessRefused, AuthenticationFailed
from bastion.identity.tickets import Tickets
from tests.kit import nouns


class Clock:
    seconds = 0.0

    def now(self) -> datetime:
        return nouns.NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    return Tickets(now=clock.now, monotonic=clock.monotonic)


def issue(tickets: Tickets) -> str:
    return tickets.issue(nouns.identity(), "prod-db", "why", "psql").secret


def test_a_ticket_admits_once(tickets: Tickets) -> None:
    secret = issue(tickets)
    assert tickets.spend(secret, "prod-db").identity == nouns.identity()
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret, "prod-db")


def test_a_ticket_shown_for_another_target_is_gone(tickets: Tickets) -> None:
    secret = issue(tickets)
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret, "web-1")
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret, "prod-db")


def test_a_ticket_ends_after_a_minute_by_the_clock_that_cannot_be_set(tickets: Tickets, clock: Clock) -> None:
    secret = issue(tickets)
    clock.seconds = 60
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret)


def test_a_ticket_does_not_sleep_past_its_end_with_the_machine(clock: Clock) -> None:
    """A suspended machine's monotonic clock stands still; the time of day goes on."""
    tickets = Tickets(now=clock.now, monotonic=lambda: 0.0)
    secret = issue(tickets)
    clock.seconds = 60
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret)


def test_a_ticket_does_not_outlive_the_token(tickets: Tickets, clock: Clock) -> None:
    clock.seconds = 3590
    secret = issue(tickets)
    clock.seconds = 3600
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret)
    with pytest.raises(AuthenticationFailed, match="expired"):
        issue(tickets)


def test_the_gateway_keeps_no_secret_of_a_ticket(tickets: Tickets) -> None:
    secret = issue(tickets)
    assert secret not in repr(vars(tickets))
    assert tickets.spend(secret).secret == ""


def test_open_tickets_are_bounded(tickets: Tickets, clock: Clock) -> None:
    for _ in range(256):
        issue(tickets)
    with pytest.raises(AccessRefused):
        issue(tickets)
    tickets.issue(nouns.identity("bob"), "prod-db", "", "")
    clock.seconds = 61
    issue(tickets)


def test_guesses_find_nothing(tickets: Tickets) -> None:
    secret = issue(tickets)
    for guess in ("", secret[:-1], secret + "x", secret.swapcase(), "\ud800"):
        with pytest.raises(AuthenticationFailed):
            tickets.spend(guess)
    assert len(secret) >= 43


def test_void_tickets_open_nothing(tickets: Tickets) -> None:
    secret = issue(tickets)
    tickets.void()
    with pytest.raises(AuthenticationFailed):
        tickets.spend(secret, "prod-db")
