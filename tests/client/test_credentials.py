"""The login that is kept on this machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bastion.client.credentials import Login, LoginStore
from bastion.errors import AuthenticationFailed, ConfigError

LOGIN = Login(
    issuer="https://login.example.com",
    client_id="bastion-cli",
    token_endpoint="https://login.example.com/token",
    revocation_endpoint="",
    extra={"audience": "bastion"},
    access_token="a.b.c",
    renew=90.5,
    expires=100,
    refresh_token="r-1",
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(place: Path) -> LoginStore:
    return LoginStore(place)


def test_what_is_kept_is_read_by_the_next_command(store: LoginStore, place: Path) -> None:
    assert store.read() is None
    store.write(LOGIN)
    assert LoginStore(place).read() == LOGIN
    store.write(replace(LOGIN, access_token="d.e.f"))
    assert LoginStore(place).read() == replace(LOGIN, access_token="d.e.f")


def test_the_file_is_its_owners_alone(store: LoginStore, place: Path) -> None:
    with store.locked():
        store.write(LOGIN)
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
    assert place.stat().st_mode & 0o777 == 0o700


def test_a_login_that_others_may_read_is_not_used(store: LoginStore, place: Path) -> None:
    store.write(LOGIN)
    (place / "login.json").chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        store.read()


def test_a_login_that_a_link_leads_to_is_not_used(store: LoginStore, place: Path, tmp_path: Path) -> None:
    store.write(LOGIN)
    (place / "login.json").rename(tmp_path / "theirs")
    (place / "login.json").symlink_to(tmp_path / "theirs")
    with pytest.raises(ConfigError):
        store.read()
    assert store.remove()
    assert (tmp_path / "theirs").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"issuer": "x"}).encode(),
    ],
)
def test_a_file_that_is_no_login_is_told_and_can_be_removed(store: LoginStore, place: Path, content: bytes) -> None:
    store.write(LOGIN)
    (place / "login.json").write_bytes(content)
    with pytest.raises(AuthenticationFailed, match="cannot be read"):
        store.read()
    assert store.remove()
    assert store.read() is None


@pytest.mark.parametrize("changes", [{"renew": "soon"}, {"access_token": 5}, {"extra": []}, {"extra": {"a": 1}}])
def test_a_login_with_a_wrong_member_is_none(store: LoginStore, place: Path, changes: dict[str, object]) -> None:
    store.write(LOGIN)
    path = place / "login.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(AuthenticationFailed, match="cannot be read"):
        store.read()


def test_removing_tells_whether_there_was_one(store: LoginStore) -> None:
    store.write(LOGIN)
    assert store.remove()
    assert not store.remove()


def test_no_token_shows_in_what_is_printed() -> None:
    assert "a.b.c" not in repr(LOGIN)
    assert "r-1" not in repr(LOGIN)
