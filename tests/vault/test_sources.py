"""Where credentials come from, and everything that keeps them from coming."""

import os
import sys
from pathlib import Path

import pytest

from bastion.errors import TargetError
from bastion.model.target import CredentialSource
from bastion.vault import sources
from bastion.vault.secrets import SecretStore
from bastion.vault.sources import CredentialUnavailable, Vault

SECRET = b"hunter2-hunter2"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    environment = {"DB_PASSWORD": SECRET.decode(), "EMPTY": "", "PATH": os.environ["PATH"], "OTHER_SECRET": "x"}
    return Vault(tmp_path / "secrets", environment)


def python(program: str) -> CredentialSource:
    return CredentialSource("command", (sys.executable, "-I", "-c", program))


async def refusal(vault: Vault, source: CredentialSource) -> str:
    with pytest.raises(TargetError) as caught:
        await vault.resolve(source)
    assert SECRET.decode() not in caught.value.message + caught.value.hint
    return caught.value.message


async def test_a_target_that_asks_for_nothing_gets_nothing(vault: Vault) -> None:
    assert await vault.resolve(CredentialSource("none")) == b""


async def test_a_credential_from_the_environment(vault: Vault) -> None:
    assert await vault.resolve(CredentialSource("env", ("DB_PASSWORD",))) == SECRET
    for name in ("EMPTY", "MISSING"):
        assert name in await refusal(vault, CredentialSource("env", (name,)))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
async def test_a_credential_from_a_file_comes_without_the_line_end(vault: Vault, tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(b" " + SECRET + b"\n" + SECRET + end)
    path.chmod(0o600)
    assert await vault.resolve(CredentialSource("file", (str(path),))) == b" " + SECRET + b"\n" + SECRET


async def test_a_file_is_read_anew_each_time(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "password"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        path.chmod(0o600)
        assert await vault.resolve(CredentialSource("file", (str(path),))) == content


async def test_files_that_hold_no_credential(vault: Vault, tmp_path: Path) -> None:
    path = tmp_path / "password"

    async def said() -> str:
        return await refusal(vault, CredentialSource("file", (str(path),)))

    assert "cannot be read" in await said()
    path.write_bytes(SECRET)
    path.chmod(0o604)
    assert "everybody" in await said()
    path.chmod(0o600)
    path.write_bytes(b"\n")
    assert "nothing" in await said()
    path.write_bytes(SECRET * 5000)
    assert "larger" in await said()
    path.unlink()
    path.mkdir()
    assert "not a file" in await said()
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "not a file" in await said()


async def test_a_credential_from_a_command(vault: Vault) -> None:
    assert await vault.resolve(python(f"print({SECRET.decode()!r})")) == SECRET


async def test_a_command_sees_no_shell_and_little_of_the_environment(vault: Vault) -> None:
    program = "import os, sys; print(sorted(os.environ), sys.stdin.read(), os.getcwd(), sys.argv[1:])"
    source = CredentialSource("command", (sys.executable, "-I", "-c", program, "$(id); `id` *"))
    said = (await vault.resolve(source)).decode()
    assert "OTHER_SECRET" not in said
    assert "DB_PASSWORD" not in said
    assert "'PATH'" in said
    assert said.endswith("/ ['$(id); `id` *']")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (f"import sys; print({SECRET.decode()!r}); sys.exit(3)", "status 3"),
        (f"raise SystemExit({SECRET.decode()!r})", "status 1"),
        ("pass", "nothing"),
        ("print('x' * 100_000)", "more than"),
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
    ],
)
async def test_commands_that_give_no_credential(vault: Vault, program: str, reason: str) -> None:
    assert reason in await refusal(vault, python(program))


async def test_a_program_that_is_not_there(vault: Vault) -> None:
    assert "cannot be run" in await refusal(vault, CredentialSource("command", ("/no/such/program",)))


@pytest.mark.parametrize("last", ["sleep 600", "exit 0"])
async def test_what_a_slow_command_started_ends_with_it(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    monkeypatch.setattr(sources, "_COMMAND_SECONDS", 1.0)
    pipe = tmp_path / "alive"
    os.mkfifo(pipe)
    # Its child holds the pipe open for as long as it lives.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    program = f"exec 3>{pipe}; echo started >&3; sleep 600 & {last}"
    assert "longer than" in await refusal(vault, CredentialSource("command", ("/bin/sh", "-c", program)))
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"started\n"


@pytest.mark.parametrize(
    "program", ["print('x' * 1_000_000)", "import subprocess; subprocess.Popen(['sleep', '600'])"], ids=["much", "late"]
)
async def test_a_command_that_gave_nothing_leaves_no_file_open(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sources, "_COMMAND_SECONDS", 1.0)
    with pytest.raises(CredentialUnavailable):
        await vault.resolve(python("pass"))  # which has asyncio open what it keeps open
    before = os.listdir("/dev/fd")
    with pytest.raises(CredentialUnavailable):
        await vault.resolve(python(program))
    assert os.listdir("/dev/fd") == before


async def test_a_credential_from_the_encrypted_store(vault: Vault, tmp_path: Path) -> None:
    SecretStore(tmp_path / "secrets").put("db", SECRET)
    assert await vault.resolve(CredentialSource("secret", ("db",))) == SECRET
    assert "there is no secret" in await refusal(vault, CredentialSource("secret", ("other",)))


async def test_a_source_that_is_unknown_gives_nothing(vault: Vault) -> None:
    with pytest.raises(CredentialUnavailable):
        await vault.resolve(CredentialSource("magic", ("x",)))
