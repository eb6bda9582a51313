"""The encrypted store of credentials."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bastion.errors import ConfigError, TargetError
from bastion.vault.secrets import SecretStore

SECRET = b"correct horse battery staple"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


@pytest.fixture
def store(place: Path) -> SecretStore:
    made = SecretStore(place)
    made.put("db", SECRET)
    return made


def files(place: Path) -> bytes:
    return b"".join(path.read_bytes() for path in place.iterdir())


def test_a_secret_is_revealed_as_it_was_kept(store: SecretStore, place: Path) -> None:
    store.put("other", b"\x00\xff\n")
    again = SecretStore(place)
    assert (again.reveal("db"), again.reveal("other")) == (SECRET, b"\x00\xff\n")
    assert again.names() == ["db", "other"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.binary(min_size=1, max_size=2000))
def test_any_bytes_can_be_kept(store: SecretStore, secret: bytes) -> None:
    store.put("any", secret)
    assert store.reveal("any") == secret


def test_a_secret_is_not_in_the_files(store: SecretStore, place: Path) -> None:
    assert SECRET not in files(place)


def test_the_same_secret_never_looks_the_same(store: SecretStore, place: Path) -> None:
    before = (place / "sealed.json").read_bytes()
    store.put("db", SECRET)
    assert (place / "sealed.json").read_bytes() != before


def test_a_removed_secret_is_gone(store: SecretStore) -> None:
    assert store.remove("db")
    assert not store.remove("db")
    assert store.names() == []
    with pytest.raises(TargetError, match="there is no secret"):
        store.reveal("db")


def test_there_is_nothing_at_first(place: Path) -> None:
    empty = SecretStore(place)
    assert empty.names() == []
    with pytest.raises(TargetError):
        empty.reveal("db")
    assert not place.exists()


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "../x", "a\n", "a" * 65, "ü", "a b"])
def test_a_name_is_plain(store: SecretStore, name: str) -> None:
    with pytest.raises(ConfigError):
        store.put(name, b"x")


@pytest.mark.parametrize("secret", [b"", b"x" * (64 * 1024 + 1)])
def test_a_secret_has_a_size(store: SecretStore, secret: bytes) -> None:
    with pytest.raises(ConfigError):
        store.put("db", secret)
    assert store.reveal("db") == SECRET


def test_files_are_their_owners_alone(store: SecretStore, place: Path) -> None:
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["key", "sealed.json"])
def test_a_file_that_others_may_read_is_not_used(store: SecretStore, place: Path, name: str) -> None:
    (place / name).chmod(0o640)
    with pytest.raises(ConfigError, match="0600"):
        store.reveal("db")


@pytest.mark.parametrize("name", ["key", "sealed.json"])
def test_a_link_is_not_followed(store: SecretStore, place: Path, tmp_path: Path, name: str) -> None:
    (place / name).rename(tmp_path / name)
    (place / name).symlink_to(tmp_path / name)
    with pytest.raises(ConfigError):
        store.reveal("db")


def test_two_secrets_cannot_be_swapped(store: SecretStore, place: Path) -> None:
    store.put("other", b"another")
    path = place / "sealed.json"
    sealed = json.loads(path.read_text())
    path.write_text(json.dumps({"db": sealed["other"], "other": sealed["db"]}))
    with pytest.raises(TargetError, match="changed"):
        store.reveal("db")


@pytest.mark.parametrize("box", ["", "AAAA", "no base64!", "A" * 100])
def test_a_box_that_was_changed_is_told(store: SecretStore, place: Path, box: str) -> None:
    (place / "sealed.json").write_text(json.dumps({"db": box}))
    with pytest.raises(TargetError, match="changed"):
        store.reveal("db")


@pytest.mark.parametrize("content", ["[]", "{", '{"db": 5}', "[" * 100_000])
def test_a_file_that_holds_no_secrets_is_told(store: SecretStore, place: Path, content: str) -> None:
    (place / "sealed.json").write_text(content)
    for use in (store.names, lambda: store.reveal("db"), lambda: store.put("x", b"y")):
        with pytest.raises(ConfigError, match="sealed secrets"):
            use()


def test_another_key_opens_nothing(store: SecretStore, place: Path) -> None:
    (place / "key").write_bytes(b"k" * 32)
    with pytest.raises(TargetError, match="key is another"):
        store.reveal("db")


@pytest.mark.parametrize("key", [None, b"", b"short", b"k" * 33])
def test_a_lost_key_is_told_and_never_replaced(store: SecretStore, place: Path, key: bytes | None) -> None:
    if key is None:
        (place / "key").unlink()
    else:
        (place / "key").write_bytes(key)
    for use in (lambda: store.reveal("db"), lambda: store.put("new", b"x")):
        with pytest.raises(ConfigError):
            use()
    assert (place / "key").exists() == (key is not None)


def test_writers_at_once_lose_nothing(place: Path) -> None:
    def keep(number: int) -> None:
        SecretStore(place).put(f"n-{number}", str(number).encode())

    writers = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    store = SecretStore(place)
    assert [store.reveal(f"n-{number}") for number in range(8)] == [str(n).encode() for n in range(8)]


def test_no_error_holds_the_secret(store: SecretStore, place: Path) -> None:
    (place / "key").write_bytes(b"k" * 32)
    with pytest.raises(TargetError) as caught:
        store.reveal("db")
    assert SECRET.decode() not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None
