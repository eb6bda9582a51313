"""What happens inside: judging a statement, and how long the command line takes to start."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from bastion import config
from bastion.gateway.judging import Judging
from bastion.model.action import Action
from bastion.policy import document
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.loading import load
from tests.kit import nouns
from tests.kit.rig import ALICE, Rig

_SEEN = b"select abalance from pgbench_accounts where aid = $1"
_COLUMN = "sum(case when a.abalance > {n} and b.bbalance < {n} then a.abalance * {n} else 0 end) as bucket_{n}"


def _new(number: int) -> bytes:
    """Return a statement of 2 kB that nobody has seen."""
    columns = ", ".join(_COLUMN.format(n=n) for n in range(20))
    text = (
        f"select b.bid, {columns} from pgbench_accounts a join pgbench_branches b using (bid) "
        f"where a.aid > {number} and a.filler is not null group by b.bid having count(*) > {number} order by 1"
    )
    return text.encode()


def judging(dsn: str, rig: Rig) -> dict[str, float]:
    """Return microseconds for judging a statement that was seen before, and milliseconds for a new one of 2 kB."""

    async def read() -> Catalog:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            return await load(connection)

    analyst = CatalogAnalyst(asyncio.run(read()))
    settings = config.load(rig.config, rig.environment)
    kinds = config.kinds_of_mask()
    policy = document.load(settings.policy_path, config.clauses(), settings.targets, kinds=kinds)
    session = nouns.session(nouns.identity("alice", *ALICE.groups))
    judge = Judging(session, lambda: policy)
    paths = frozenset({analyst.catalog.path})

    def understood(text: bytes) -> Action:
        return analyst.compose(analyst.read(text, paths), {}, {}).action

    judge.judge(understood(_SEEN).called_with(("1",)))
    seen = _quickest(lambda: judge.judge(understood(_SEEN).called_with(("1",))), 20_000)
    numbers = iter(range(10_000_000))
    assert 1900 < len(_new(1)) < 2600
    new = _quickest(lambda: judge.judge(understood(_new(next(numbers)))), 100)
    return {"judging a seen statement, µs": seen * 1e6, "judging a new one of 2 kB, ms": new * 1e3}


def _quickest(act: object, times: int) -> float:
    """Return the seconds of CPU for each call, in the quickest of five batches."""
    assert callable(act)
    batches = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            act()
        batches.append((time.process_time() - began) / times)
    return min(batches)


def starting(rig: Rig) -> dict[str, float]:
    """Return the milliseconds of CPU that a bare interpreter and some commands take."""
    bastion = [sys.executable, "-m", "bastion"]
    environment = {**rig.environment, "BASTION_TOKEN": rig.token(ALICE)}
    commands = {
        "python -c pass, ms CPU": [sys.executable, "-c", "pass"],
        "bastion --help, ms CPU": [*bastion, "--help"],
        "bastion approve (nothing to approve), ms CPU": [*bastion, "approve", "AAAAAA", "--yes"],
    }
    return {name: min(_cpu(command, environment) for _ in range(7)) * 1e3 for name, command in commands.items()}


def _cpu(command: list[str], environment: dict[str, str]) -> float:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path("/")
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime
