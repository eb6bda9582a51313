"""Runs every measurement side by side and prints ratios: `python -m tests.bench [--quick] [--json FILE]`."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import bulk, detecting, inside, loads
from tests.bench.place import Place, Way, machine, place

MODES = ("simple", "extended", "prepared")


@dataclass
class Row:
    """One thing that was measured, each way."""

    name: str
    values: dict[str, float]
    more_is_better: bool = False
    goal: str = ""


@dataclass
class Report:
    """Everything that was measured."""

    machine: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, values: dict[str, float], **more: Any) -> None:
        """Add a row, and print it at once."""
        self.rows.append(Row(name, values, **more))
        _print_row(self.rows[-1])


def main() -> None:
    """Measure, print, and write the figures where asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run: shorter loads, fewer sessions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    chosen = parser.parse_args()
    sessions = 100 if chosen.quick else 1000
    with place(sessions) as running:
        report = Report(machine(), notes=list(running.notes))
        _say(report.machine)
        for note in report.notes:
            _say(note)
        _say(f"{'':44}{'direct':>12}{'pgbouncer':>12}{'bastion':>12}{'/pgbouncer':>12}{'/direct':>10}  goal")
        # First, while nobody has memory left over from a load that idle sessions could use.
        _sessions(report, running, sessions, logins=20 if chosen.quick else 100)
        _statements(report, running, seconds=1 if chosen.quick else 3, rounds=1 if chosen.quick else 3)
        _bulk(report, running, rounds=1 if chosen.quick else 3)
        for name, value in {**inside.judging(running.dsn, running.rig), **inside.starting(running.rig)}.items():
            report.add(name, {"bastion": value}, goal=_GOALS.get(name, ""))
        for name, (_, speed) in detecting.speeds().items():
            report.add(f"detectors, {name}: MB/s", {"bastion": speed}, more_is_better=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


_GOALS = {
    "judging a seen statement, µs": "< 10",
    "judging a new one of 2 kB, ms": "< 2",
    "bastion --help, ms CPU": "< 150",
    "bastion approve (nothing to approve), ms CPU": "< 300",
}


def _statements(report: Report, running: Place, *, seconds: int, rounds: int) -> None:
    pgbench = running.bin / "pgbench"
    for clients in (1, 8, 32):
        for mode in MODES:
            measured = _in_turn(
                running.ways,
                rounds,
                lambda way, mode=mode, clients=clients: loads.run(  # type: ignore[misc]
                    pgbench, way, mode=mode, clients=clients, seconds=seconds
                ),
            )
            middle = {name: loads.middle(found) for name, found in measured.items()}
            what = f"{mode}, {clients} client{'s' if clients > 1 else ''}"
            report.add(
                f"{what}: statements/s",
                {name: load.tps for name, load in middle.items()},
                more_is_better=True,
                goal="≥ 0.9 of pgbouncer" if clients > 1 and mode != "extended" else "",
            )
            if clients <= 8:
                ceilings = ("≤ 1.3 of pgbouncer", "≤ 2 of pgbouncer") if clients == 1 else ("", "")
                report.add(f"{what}: p50, µs", {n: load.p50 for n, load in middle.items()}, goal=ceilings[0])
                report.add(f"{what}: p99, µs", {n: load.p99 for n, load in middle.items()}, goal=ceilings[1])
            between = {name: load.cpu for name, load in middle.items() if name != "direct"}
            report.add(f"{what}: CPU a statement, µs", between)
    writes = _in_turn(
        running.ways,
        rounds,
        lambda way: loads.run(pgbench, way, mode="prepared", clients=8, seconds=seconds, writes=True),
    )
    report.add(
        "writes, prepared, 8 clients: statements/s",
        {name: loads.middle(found).tps for name, found in writes.items()},
        more_is_better=True,
    )


def _bulk(report: Report, running: Place, *, rounds: int) -> None:
    data = bulk.rows(running.ways[0])
    for name, act in (
        ("1 M rows by SELECT, s", lambda way: bulk.out(way, bulk.SELECT)),
        ("1 M rows by COPY out, s", lambda way: bulk.out(way, bulk.COPY_OUT)),
        ("1 M rows × 5, s", lambda way: bulk.out(way, bulk.FIVE)),
        ("1 M rows × 5, one text masked, s", lambda way: bulk.out(way, bulk.MASKED)),
        ("1 M rows × 5 by COPY, one text masked, s", lambda way: bulk.out(way, bulk.COPY_MASKED)),
        ("1 M rows by COPY in, s", lambda way: bulk.into(way, data)),
    ):
        taken = _in_turn(running.ways, rounds, act)
        values = {way: statistics.median(found) for way, found in taken.items()}
        report.add(name, values, goal="≤ 2 of pgbouncer" if "masked" in name else "≤ 1.11 of pgbouncer")


def _sessions(report: Report, running: Place, sessions: int, *, logins: int) -> None:
    taken = _in_turn(running.ways, 1, lambda way: bulk.logins(way, logins))
    report.add("a new session, ms", {n: found[0] * 1e3 for n, found in taken.items()}, goal="< 3 of direct")
    report.add("new sessions/s", {n: 1 / found[0] for n, found in taken.items()}, more_is_better=True)
    between = [way for way in running.ways if way.process is not None]
    memory = _in_turn(between, 1, lambda way: bulk.idle(way, sessions))
    report.add(
        f"memory of an idle session ({sessions}), kB",
        {name: found[0] / 1024 for name, found in memory.items()},
        goal="< 100 MB for 1,000",
    )
    whole = {way.name: way.resident() / 1e6 for way in between}
    report.add(f"memory of the whole process after {sessions} sessions, MB", whole)


def _in_turn(ways: list[Way], rounds: int, act: Callable[[Way], Any]) -> dict[str, list[Any]]:
    """Measure each way in each round, one after another, so that what disturbs one disturbs all."""
    found: dict[str, list[Any]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way.name].append(act(way))
    return found


def _print_row(row: Row) -> None:
    ours = row.values.get("bastion")
    cells = [_number(row.values.get(name)) for name in ("direct", "pgbouncer", "bastion")]
    for name, width in (("pgbouncer", 12), ("direct", 10)):
        other = row.values.get(name)
        cells.append(f"{ours / other:.2f}".rjust(width) if ours is not None and other else " " * width)
    _say(f"{row.name:44}{''.join(cells)}  {row.goal}".rstrip())


def _number(value: float | None) -> str:
    if value is None:
        return " " * 12
    return f"{value:12,.0f}" if value >= 100 else f"{value:12.2f}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
