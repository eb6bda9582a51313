"""The demo as people run it: the whole tour, and what is left when it ends in whatever way."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from bastion.demo.cluster import embedded_installation
from bastion.demo.running import Unexpected
from bastion.demo.stage import Stage
from bastion.demo.tour import Tour
from tests.kit.rig import until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]
DEMO = [sys.executable, "-m", "bastion", "demo"]


class Pages:
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str = "") -> None:
        self.lines.append(text)

    def heading(self, text: str) -> None:
        self.lines.append(text)

    def statement(self, text: str) -> None:
        self.lines.append(text)


def members(home: Path) -> list[str]:
    """Return the processes that belong to the demo in `home`: they name it, or stand in it."""
    return [p.name for p in Path("/proc").iterdir() if p.name.isdecimal() and _belongs(p, str(home))]


def _belongs(process: Path, home: str) -> bool:
    try:
        return home in (process / "cmdline").read_text(errors="replace") or str(
            (process / "cwd").readlink()
        ).startswith(home)
    except OSError:
        return False


def gone(home: Path) -> Callable[[], bool]:
    return lambda: not home.exists() and not members(home)


@pytest.fixture
def demo() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A demo that nobody watches, with its directory, when it is up."""
    with subprocess.Popen(
        DEMO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        while "stays up" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        home = re.search(r"/\S*/bastion-demo-\w+", said)
        assert home is not None
        yield process, Path(home[0])
        process.kill()


def test_the_tour_does_what_it_says() -> None:
    done = subprocess.run([*DEMO, "--check"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every step did what it should." in done.stdout
    home = re.search(r"/\S*/bastion-demo-\w+", done.stdout)
    assert home is not None
    assert gone(Path(home[0]))()


def test_it_works_with_the_embedded_database() -> None:
    screen = Pages()
    with Stage(embedded_installation()) as stage:
        home = stage.home
        assert stage.database.description == "PostgreSQL 18 (embedded)"
        Tour(stage, screen, attended=False).walk()
    assert gone(home)()


def test_a_step_that_fails_fails_the_tour() -> None:
    class Broken(Tour):
        def _read(self) -> None:
            self._expect("the impossible", kept=False)

    with Stage() as stage, pytest.raises(Unexpected, match="the impossible"):
        Broken(stage, Pages(), attended=False).walk()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_leaves_nothing(demo: tuple["subprocess.Popen[str]", Path], number: signal.Signals) -> None:
    process, home = demo
    assert len(members(home)) >= 4
    process.send_signal(number)
    assert process.wait(60) == 0
    assert gone(home)()


def test_a_violent_end_leaves_nothing(demo: tuple["subprocess.Popen[str]", Path]) -> None:
    process, home = demo
    os.kill(process.pid, signal.SIGKILL)
    until(gone(home), "everything to end and to be deleted", 60)


def test_a_person_walks_through_with_enter() -> None:
    terminal = pexpect.spawn(DEMO[0], DEMO[1:], encoding="utf-8", dimensions=(50, 160), timeout=90)
    home = None
    try:
        terminal.expect(r"(/\S*/bastion-demo-\w+)")
        home = Path(terminal.match.group(1))
        while terminal.expect([r"[Pp]ress Enter (to go on|here)", "Press Enter to end"]) == 0:
            terminal.sendline()
        terminal.sendline()
        terminal.expect("Everything was stopped and deleted")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0
    assert gone(home)()
