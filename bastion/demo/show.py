"""The demo as a whole: raises the stage, walks the tour, and stays for whoever wants to look around."""

import signal
import sys

from bastion.demo.accounts import ACCOUNTS, ENGINEER
from bastion.demo.ending import end_in_order
from bastion.demo.running import Unexpected
from bastion.demo.stage import TARGET, Stage
from bastion.demo.tour import Screen, Tour, exports


def check(screen: Screen) -> None:
    """Walk the tour with nobody there; raises a `BastionError` at the first step that does not do what it should."""
    end_in_order()
    with Stage() as stage:
        _welcome(stage, screen)
        Tour(stage, screen, attended=False).walk()
    screen.line()
    screen.line("Every step did what it should.")


def play(screen: Screen) -> None:
    """Walk the tour with the person at this terminal, and stay up until Enter or Ctrl-C."""
    end_in_order()
    screen.line("Starting an identity provider, a database and a gateway …")
    with Stage() as stage:
        _welcome(stage, screen)
        try:
            if sys.stdin.isatty():
                _tour(stage, screen)
                screen.line("Everything is still up for you to try. Press Enter to end it.")
                sys.stdin.readline()
            else:
                screen.line("It stays up until Ctrl-C.")
                signal.pause()
        except KeyboardInterrupt:
            screen.line()
    screen.line("Everything was stopped and deleted.")


def _tour(stage: Stage, screen: Screen) -> None:
    try:
        Tour(stage, screen, attended=True).walk()
    except Unexpected as error:
        # Somebody plays along in another terminal; what they did may well be why.
        screen.line(f"The tour ends here: {error.message}.")
    screen.line()


def _welcome(stage: Stage, screen: Screen) -> None:
    screen.line()
    screen.heading(f"A bastion in front of {stage.database.description}, all on this machine, in {stage.home}")
    for account in ACCOUNTS.values():
        screen.line(f"  {account.subject:6} {account.name}, {account.role}, of the group {', '.join(account.groups)}")
    screen.line(f"The target is {TARGET}: an invented web shop with customers, orders, payments and staff.")
    screen.line()
    screen.line(f"To work in another terminal as {ENGINEER.name}, paste:")
    screen.statement(exports(stage, ENGINEER))
    screen.statement(f"bastion login && bastion connect {TARGET}")
