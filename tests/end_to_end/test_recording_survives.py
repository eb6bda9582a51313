"""What happens to the recording when the gateway dies under a load, and to the load when the recording does.

Every statement that the target saw is in the store, whatever happened; and what could not be recorded never ran.
"""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.load import Load, recorded, seen_by_target, stored
from tests.kit import shop
from tests.kit.issuer import Issuer
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, ENVIRONMENT, Rig, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

KILLS = 10
_MIB = 1024 * 1024


@pytest.fixture
def rig(postgres: Server, own_shop: str, issuer: Issuer) -> Iterator[Rig]:
    made = Rig(issuer, {"shop": target(postgres, own_shop)}, shop.READ_WRITE, environment=ENVIRONMENT)
    with made:
        yield made


@pytest.mark.timeout(240)
def test_killed_gateway_has_recorded_whatever_the_target_saw(rig: Rig, postgres: Server, own_shop: str) -> None:
    logged = len(postgres.log)
    for turn in range(KILLS):
        with Load(rig, "shop").running() as load:
            # Each kill hits at another moment; which one, only the scheduler knows.
            load.wait_for(20 + 13 * turn)
            rig.kill()
        rig.start()
    seen, kept = seen_by_target(postgres, own_shop, logged), recorded(rig, "shop")
    assert len(seen) > 20 * KILLS
    assert seen - kept == set()
    assert stored(postgres, own_shop) <= len(kept)
    _verify(rig)


def test_sessions_of_a_killed_gateway_are_marked_as_interrupted(rig: Rig) -> None:
    with Load(rig, "shop", clients=2).running() as load:
        load.wait_for(4)
        rig.kill()
    rig.start()
    sessions = rig.sessions("shop")
    assert len(sessions) == 2
    assert all(session["ended"] and session["end_reason"] for session in sessions)


def test_sessions_end_when_the_disk_is_full(postgres: Server, own_shop: str, issuer: Issuer) -> None:
    logged = len(postgres.log)
    rig = Rig(issuer, {"shop": target(postgres, own_shop)}, shop.READ_WRITE, environment=ENVIRONMENT)
    with _small_disk(rig.state) as enlarge, rig:
        with Load(rig, "shop").running() as load:
            load.wait_for(20)
            enlarge(rig, full=True)
        _check_end(rig, load)
        enlarge(rig, full=False)
        rig.start()
        assert seen_by_target(postgres, own_shop, logged) - recorded(rig, "shop") == set()
        _verify(rig)


def test_sessions_end_when_the_store_can_no_longer_be_written(rig: Rig, postgres: Server, own_shop: str) -> None:
    logged = len(postgres.log)
    with Load(rig, "shop").running() as load:
        load.wait_for(20)
        # No file may grow beyond what only the gateway's log needs: the store can't take another byte.
        limit = len(rig.logged) + 16_384
        assert (rig.state / "store.db-wal").stat().st_size > limit
        resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _check_end(rig, load)
    rig.start()
    assert seen_by_target(postgres, own_shop, logged) - recorded(rig, "shop") == set()
    _verify(rig)


def test_gateway_without_a_store_lets_nobody_in(postgres: Server, own_shop: str, issuer: Issuer) -> None:
    rig = Rig(issuer, {"shop": target(postgres, own_shop)}, shop.READ_WRITE, environment=ENVIRONMENT)
    rig.state.mkdir(mode=0o700)
    (rig.state / "store.db").mkdir()
    rig.launch()
    try:
        assert rig.process.wait(30) == 74
        assert "store" in rig.logged
        assert not rig.socket.exists()
    finally:
        rig.__exit__(None, None, None)


def _check_end(rig: Rig, load: Load) -> None:
    """Check that every session heard why it ended, and that the gateway ended with the status that says why."""
    assert len(load.last_words) == 4
    for words in load.last_words:
        assert (words["S"], words["C"]) == ("FATAL", "58030")
        assert "recording" in words["M"]
    assert rig.process.wait(30) == 74


def _verify(rig: Rig) -> None:
    done = rig.run(ALICE, "verify", "--store", str(rig.state))
    assert done.returncode == 0, done.stdout + done.stderr


class _Disk:
    """Fills a directory's disk, and makes room again."""

    def __init__(self, directory: Path, *, mounted: bool) -> None:
        self._directory = directory
        self._mounted = mounted
        self._ballast = directory / "ballast"

    def __call__(self, rig: Rig, *, full: bool) -> None:
        if not full:
            self._ballast.unlink(missing_ok=True)
        elif self._mounted:
            with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
                while file.write(b"\0" * 4096):
                    pass
        else:
            largest = max(path.stat().st_size for path in self._directory.iterdir())
            resource.prlimit(rig.process.pid, resource.RLIMIT_FSIZE, (largest + 65536, largest + 65536))


@contextlib.contextmanager
def _small_disk(directory: Path) -> Iterator[_Disk]:
    """Give `directory` a disk of its own where we may mount one; else what fills up is a limit on its files."""
    directory.mkdir(mode=0o700, parents=True)
    options = "size=32m,mode=0700"
    mounted = os.geteuid() == 0 and _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory))
    try:
        yield _Disk(directory, mounted=mounted)
    finally:
        if mounted:
            _run("umount", "--lazy", str(directory))


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
