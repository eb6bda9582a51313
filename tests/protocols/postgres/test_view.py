"""What a session's catalog needs after what the session has done."""

import pytest

from bastion.protocols.postgres.sql.building import Sight
from bastion.protocols.postgres.view import Need, View

IDLE, OPEN, FAILED = b"ITE"
NONE = Sight("", "read committed", "")
SOME = Sight("pg_temp_3", "read committed", "c.1")
OTHER = Sight("pg_temp_3", "read committed", "c.2")
BLIND = Sight("pg_temp_3", "repeatable read", "c.1")


def need(view: View, status: int, *, outdated: bool = False) -> Need:
    return view.need(status, outdated=outdated)


def own(view: View, sight: Sight, status: int) -> View:
    assert view.can_see(sight, status)
    view.took_own(sight, status)
    return view


def test_a_session_that_has_done_nothing_goes_by_the_shared_catalog() -> None:
    view = View()
    assert need(view, IDLE) is need(view, OPEN) is Need.NOTHING
    assert need(view, IDLE, outdated=True) is need(view, OPEN, outdated=True) is Need.SHARED
    assert not view.is_in_doubt


def test_what_a_transaction_changes_only_its_own_connection_shows() -> None:
    view = View()
    view.changed()
    assert need(view, OPEN) is Need.OWN
    own(view, NONE, OPEN)
    assert need(view, OPEN) is Need.NOTHING
    assert need(view, OPEN, outdated=True) is Need.OWN
    view.went_back()
    assert view.is_stale


def test_what_is_committed_others_see_unless_it_is_temporary() -> None:
    view = View()
    view.changed()
    assert need(view, IDLE) is Need.SIGHT
    view.saw(NONE, IDLE)
    assert need(view, IDLE) is Need.SHARED
    view.took_shared(IDLE)
    assert need(view, IDLE) is Need.NOTHING
    view.changed()
    view.saw(SOME, IDLE)
    assert need(view, IDLE) is Need.OWN
    own(view, SOME, IDLE)
    assert need(view, IDLE) is Need.NOTHING
    assert need(view, IDLE, outdated=True) is Need.OWN


def test_with_the_last_temporary_object_the_session_goes_back_to_the_shared_catalog() -> None:
    view = own(View(), SOME, IDLE)
    view.changed()
    view.saw(NONE, IDLE)
    assert need(view, IDLE) is Need.SHARED
    view.took_shared(IDLE)
    assert not view.is_own


@pytest.mark.parametrize("status", [IDLE, OPEN])
def test_a_function_costs_no_more_than_a_look_if_it_made_nothing(status: int) -> None:
    view = View()
    view.stirred()
    assert need(view, status) is Need.SIGHT
    view.saw(NONE, status)
    assert need(view, status) is Need.NOTHING
    view.stirred()
    view.saw(SOME, status)
    assert need(view, status) is Need.OWN


def test_what_a_function_changed_of_what_is_temporary_is_read() -> None:
    view = own(View(), SOME, OPEN)
    view.stirred()
    view.saw(SOME, OPEN)
    assert need(view, OPEN) is Need.NOTHING
    view.stirred()
    view.saw(OTHER, OPEN)
    assert need(view, OPEN) is Need.OWN


def test_the_end_of_a_transaction_that_changed_nothing_leaves_the_view_as_it_is() -> None:
    view = View()
    view.changed()
    view.saw(SOME, IDLE)
    own(view, SOME, IDLE)
    view.went_back()
    assert need(view, IDLE) is Need.NOTHING


def test_what_was_put_off_to_the_end_of_a_transaction_may_make_something() -> None:
    view = View()
    view.stirred()
    view.saw(NONE, OPEN)
    view.went_back()
    assert need(view, IDLE) is Need.SIGHT
    view.saw(NONE, IDLE)
    view.went_back()
    assert need(view, IDLE) is Need.NOTHING


def test_a_snapshot_that_hides_what_others_commit_is_no_view() -> None:
    view = View()
    view.changed()
    assert need(view, OPEN) is Need.OWN
    assert not view.can_see(BLIND, OPEN)
    assert view.is_stale
    assert need(view, OPEN) is Need.NOTHING
    # Where no transaction was open, the question was asked in one that saw everything.
    assert need(view, IDLE) is Need.SIGHT
    assert view.can_see(BLIND, IDLE)


def test_a_failed_transaction_is_not_asked() -> None:
    view = View()
    view.changed()
    assert need(view, FAILED) is Need.NOTHING
    assert view.is_stale


def test_where_the_shared_catalog_is_locked_the_session_asks_for_its_own() -> None:
    view = View()
    view.is_blocked = True
    assert need(view, OPEN, outdated=True) is need(view, IDLE, outdated=True) is Need.OWN
    own(view, NONE, OPEN)
    assert not view.is_blocked


def test_every_change_begins_an_epoch() -> None:
    view = View()
    view.changed()
    first = view.epoch
    view.went_back()
    assert first < view.epoch
