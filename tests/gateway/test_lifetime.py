"""One gateway a directory, and a directory that is nobody else's."""

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from bastion.errors import BastionError, ConfigError
from bastion.gateway.lifetime import Lifetime, private_directory


def test_a_second_gateway_is_refused(tmp_path: Path) -> None:
    first = Lifetime(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "gateway.pid").read_text()) == {"pid": os.getpid()}
    with pytest.raises(BastionError, match="already runs"):
        Lifetime(tmp_path / "run")
    first.end()
    Lifetime(tmp_path / "run").end()


def test_somebody_who_only_looks_keeps_no_gateway_from_starting(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    Lifetime(directory).end()
    with (directory / "gateway.pid").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        letting_go = threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN))
        letting_go.start()
        Lifetime(directory).end()
        letting_go.join()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(ConfigError, match="mode 0700"):
        private_directory(directory)


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError):
        private_directory(tmp_path / "run")


def test_a_link_in_place_of_the_pid_file_is_not_followed(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    private_directory(directory)
    (tmp_path / "victim").write_text("precious")
    (directory / "gateway.pid").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        Lifetime(directory)
    assert (tmp_path / "victim").read_text() == "precious"
