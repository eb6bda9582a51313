"""What install.sh touches, and what it leaves alone; that it installs is proved by installing."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "install.sh"


def run(prefix: str, *words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(SCRIPT), *words],
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "BASTION_PREFIX": prefix},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A prefix with a space in it, as an installation leaves it, beside things of other people."""
    prefix = tmp_path / "my prefix"
    home = prefix / "lib" / "bastion"
    (home / "venv" / "bin").mkdir(parents=True)
    (home / "venv" / "bin" / "bastion").touch()
    (prefix / "bin").mkdir()
    (prefix / "bin" / "bastion").symlink_to(home / "venv" / "bin" / "bastion")
    (home / "manifest").write_text(f"{prefix}/bin/bastion\n")
    (prefix / "bin" / "other").touch()
    return prefix


@pytest.mark.parametrize("is_relative", [False, True])
def test_uninstall_removes_what_was_installed_and_nothing_else(installed: Path, is_relative: bool) -> None:
    done = run(installed.name if is_relative else str(installed), "uninstall", cwd=installed.parent)
    assert done.returncode == 0, done.stderr
    assert f"removed {installed}/lib/bastion" in done.stdout
    assert not (installed / "lib" / "bastion").exists()
    assert [path.name for path in (installed / "bin").iterdir()] == ["other"]


def test_uninstall_leaves_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "lib" / "bastion" / "data"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    done = run(str(tmp_path), "uninstall", cwd=tmp_path)
    assert done.returncode == 1
    assert "nothing is installed" in done.stderr
    assert theirs.read_text() == "precious"


def test_uninstall_leaves_what_others_put_into_our_directory(installed: Path) -> None:
    (installed / "lib" / "bastion" / "notes").write_text("precious")
    done = run(str(installed), "uninstall", cwd=installed.parent)
    assert done.returncode == 0, done.stderr
    assert (installed / "lib" / "bastion" / "notes").read_text() == "precious"
    assert not (installed / "lib" / "bastion" / "venv").exists()


def test_uninstall_leaves_a_command_that_somebody_else_linked_since(installed: Path) -> None:
    (installed / "bin" / "bastion").unlink()
    (installed / "bin" / "bastion").symlink_to("other")
    assert run(str(installed), "uninstall", cwd=installed.parent).returncode == 0
    assert (installed / "bin" / "bastion").is_symlink()
