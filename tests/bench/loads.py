"""Statements: throughput, latency and CPU, measured by pgbench's select-only script."""

import contextlib
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.place import SCALE, Way

_ATTEMPTS = 10
_SCRIPT = r"""
\set id random(1, 100000 * :scale)
select abalance from pgbench_accounts where aid = :id;
"""
_WRITES = r"""
\set id random(1, 100000 * :scale)
update pgbench_accounts set abalance = abalance + 1 where aid = :id;
"""


class _NotConnected(Exception):
    pass


@dataclass
class Load:
    """What one run of pgbench measured."""

    tps: float
    p50: float
    """Microseconds."""
    p99: float
    cpu: float
    """Microseconds of CPU that the process between used for each statement."""


def run(pgbench: Path, way: Way, *, mode: str, clients: int, seconds: int, writes: bool = False) -> Load:
    """Run the load once."""
    # Connecting counts towards pgbench's time; what it counts begins when all are connected.
    length = ("-T", str(seconds + clients // 8))
    logged, used = _pgbench(pgbench, way, mode, clients, length, _WRITES if writes else _SCRIPT)
    once, logins = _pgbench(pgbench, way, mode, clients, ("-t", "1"), _SCRIPT)
    times = sorted(took for took, _ in logged)
    ends = sorted(end for _, end in logged)
    return Load(
        tps=(len(ends) - 1) / (ends[-1] - ends[0]),
        p50=times[len(times) // 2],
        p99=times[len(times) * 99 // 100],
        cpu=max(used - logins, 0) / (len(times) - len(once)) * 1e6,
    )


def _pgbench(
    pgbench: Path, way: Way, mode: str, clients: int, length: tuple[str, str], text: str
) -> tuple[list[tuple[int, float]], float]:
    """Run pgbench, again if a connection came before its ticket: on a busy machine the tickets may be fed late."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(_NotConnected):
            return _once(pgbench, way, mode, clients, length, text)
    raise AssertionError(f"pgbench could not connect through {way.name} in {_ATTEMPTS} attempts")


def _once(
    pgbench: Path, way: Way, mode: str, clients: int, length: tuple[str, str], text: str
) -> tuple[list[tuple[int, float]], float]:
    """Return how long each statement took in microseconds and when it ended, and the CPU used between."""
    with tempfile.TemporaryDirectory() as folder, way.environment(clients + 4) as environment:
        script = Path(folder) / "script"
        script.write_text(text)
        before = way.cpu()
        done = subprocess.run(
            [
                *(str(pgbench), "-n", "-M", mode, "-c", str(clients), "-j", "1", *length),
                *("-D", f"scale={SCALE}", "-f", str(script), "-l", "--log-prefix", f"{folder}/log"),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        used = way.cpu() - before
        if "could not create connection" in done.stderr:
            raise _NotConnected
        if done.returncode != 0:
            raise AssertionError(f"pgbench through {way.name}: {done.stderr[-800:]}")
        lines = [line.split(" ") for log in Path(folder).glob("log*") for line in log.read_text().splitlines()]
    return [(int(line[2]), int(line[4]) + int(line[5]) / 1e6) for line in lines], used


def middle(loads: list[Load]) -> Load:
    """Return the median of several runs, member by member."""
    return Load(*(statistics.median(getattr(load, name) for load in loads) for name in ("tps", "p50", "p99", "cpu")))
