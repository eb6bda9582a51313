"""Files of one user alone."""

import os
import threading
from pathlib import Path

import pytest

from bastion import private
from bastion.errors import ConfigError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "private"
    private.directory(made)
    return made


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nothing_is_open_to_others_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = tmp_path / "a" / "b"
        private.directory(made)
        private.replace(made / "file", b"x")
        with private.locked(made / "lock"):
            pass
    finally:
        os.umask(before)
    assert [mode(path) for path in (made, made / "file", made / "lock")] == [0o700, 0o600, 0o600]


def test_what_was_written_is_read(place: Path) -> None:
    private.replace(place / "file", b"one")
    private.replace(place / "file", b"two")
    assert private.read(place / "file", 10) == b"two"
    assert private.read(place / "none", 10) is None
    assert [path.name for path in place.iterdir()] == ["file"]


@pytest.mark.parametrize("bits", [0o604, 0o640, 0o660, 0o602])
def test_a_file_that_others_may_open_is_not_read(place: Path, bits: int) -> None:
    private.replace(place / "file", b"x")
    (place / "file").chmod(bits)
    with pytest.raises(ConfigError, match="0600"):
        private.read(place / "file", 10)


def test_a_directory_that_others_may_enter_is_refused(place: Path) -> None:
    place.chmod(0o750)
    with pytest.raises(ConfigError, match="0700"):
        private.directory(place)


def test_links_are_not_followed(place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    elsewhere.chmod(0o600)
    (place / "file").symlink_to(elsewhere)
    with pytest.raises(ConfigError):
        private.read(place / "file", 10)
    with pytest.raises(ConfigError), private.locked(place / "file"):
        pass
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(ConfigError):
        private.directory(tmp_path / "link")
    private.replace(place / "file", b"ours")
    assert elsewhere.read_bytes() == b"theirs"


def test_a_file_of_somebody_else_is_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private.replace(place / "file", b"x")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="owner"):
        private.read(place / "file", 10)
    with pytest.raises(ConfigError, match="owner"):
        private.directory(place)
    with pytest.raises(ConfigError, match="owner"), private.locked(place / "lock"):
        pass


def test_what_is_no_file_is_not_read(place: Path) -> None:
    os.mkfifo(place / "pipe", 0o600)
    (place / "folder").mkdir(0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(ConfigError):
            private.read(place / name, 10)
    (place.parent / "plain").touch()
    with pytest.raises(ConfigError):
        private.directory(place.parent / "plain")


def test_a_file_is_read_up_to_a_bound(place: Path) -> None:
    private.replace(place / "file", b"x" * 11)
    with pytest.raises(ConfigError, match="at most 10 bytes"):
        private.read(place / "file", 10)


def test_what_cannot_be_written_leaves_the_old_content(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private.replace(place / "file", b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        private.replace(place / "file", b"new")
    assert [path.name for path in place.iterdir()] == ["file"]
    assert private.read(place / "file", 10) == b"old"


def test_a_directory_that_is_gone_is_told(place: Path) -> None:
    with pytest.raises(ConfigError):
        private.replace(place / "none" / "file", b"x")


def test_a_lock_is_held_by_one(place: Path) -> None:
    inside = 0
    most = 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            with private.locked(place / "lock"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


# Files that say what is to be done: others may read them, and nobody else may write them.


def test_what_others_may_read_can_govern(place: Path) -> None:
    place.chmod(0o755)
    (place / "policy").write_bytes(b"rules")
    (place / "policy").chmod(0o644)
    assert private.governing(place / "policy") == b"rules"
    (place / "linked").symlink_to("policy")
    assert private.governing(place / "linked") == b"rules"


@pytest.mark.parametrize("bits", [0o646, 0o602, 0o666])
def test_what_anybody_may_write_governs_nothing(place: Path, bits: int) -> None:
    (place / "policy").write_bytes(b"rules")
    (place / "policy").chmod(bits)
    with pytest.raises(ConfigError, match="nobody else can write"):
        private.governing(place / "policy")


def test_what_a_group_may_write_governs_only_if_it_is_our_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each user has a group of their own, files are made writable for it."""
    (place / "policy").write_bytes(b"rules")
    (place / "policy").chmod(0o664)
    assert private.governing(place / "policy") == b"rules"
    monkeypatch.setattr(os, "getegid", lambda: (place / "policy").stat().st_gid + 1)
    with pytest.raises(ConfigError, match="nobody else can write"):
        private.governing(place / "policy")


def test_what_anybody_may_put_in_its_place_governs_nothing(place: Path) -> None:
    (place / "policy").write_bytes(b"rules")
    place.chmod(0o777)
    with pytest.raises(ConfigError, match="nobody else can write"):
        private.governing(place / "policy")
    place.chmod(0o1777)
    assert private.governing(place / "policy") == b"rules"


def test_what_somebody_else_owns_governs_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "policy").write_bytes(b"rules")
    os.chown(place / "policy", 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="owner"):
        private.governing(place / "policy")


def test_a_pipe_is_not_waited_for(place: Path) -> None:
    os.mkfifo(place / "policy")
    with pytest.raises(ConfigError, match="a file"):
        private.governing(place / "policy")


def test_what_is_not_there_is_said_to_be_missing(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        private.governing(place / "policy")
