"""Runs the leak test of a target and prints what came of it."""

from collections.abc import Sequence
from contextlib import closing

from bastion.cli.output import OUT
from bastion.demo.ending import end_in_order
from bastion.doctor.leaking import LeakTesting
from bastion.doctor.report import Report
from bastion.paths import config_file


def leak_test(target: str, drivers: Sequence[str], *, yes: bool, as_json: bool) -> int:
    """Run it and return the exit status: 1 where something is wrong."""
    end_in_order()
    testing = LeakTesting.of(target, config_file(), yes=yes)
    names, missing = testing.chosen(drivers)
    report = testing.report(names, missing)
    OUT.say(f"testing {target} with {', '.join(names)}")
    with testing.planted(), closing(testing.attempts(names)) as tries:
        for tried in tries:
            report.tried.append(tried)
            OUT.progress(len(report.tried), f"tries, now {tried.driver}: {tried.shape}")
        OUT.progress_ended()
    if as_json:
        OUT.data(report.told())
    else:
        _print(report)
    return 1 if report.wrong else 0


def _print(report: Report) -> None:
    for family, rows in report.families():
        OUT.heading(family)
        OUT.table(("SHAPE", *(driver.upper() for driver in report.drivers)), rows, empty="nothing")
        OUT.line()
    for one in report.wrong:
        OUT.line(f"{one.outcome}: {one.shape}, by {one.driver}: {one.detail}")
    for driver, why in report.missing.items():
        OUT.line(f"not run: {driver}; {why}")
    told = ", ".join(f"{count} {outcome}" for outcome, count in report.counts.items())
    OUT.line(f"{told}: {'the masks do not hold' if report.wrong else 'the masks hold'}")
