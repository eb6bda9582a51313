"""What a command imports is what it costs to start, and unlike time it can be counted the same on every machine."""

import subprocess
import sys

import pytest

from tests.client.stand_in import StandIn

HEAVY = (
    "pydantic",
    "rich",
    "yaml",
    "httpx2",
    "psycopg",
    "pgcli",
    "prompt_toolkit",
    "authlib",
    "joserfc",
    "sqlite_utils",
    "starlette",
    "uvicorn",
    "asyncio",
    "keyring",
    "segno",
    "postgast",
    "cryptography",
)
COMMAND = 330
COUNT = (
    "import sys, atexit; atexit.register(lambda: print('\\n#', *sorted(sys.modules), file=sys.__stdout__));"
    "sys.argv[0] = 'bastion'; from bastion.__main__ import run; run()"
)


def loaded(stand_in: StandIn, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", COUNT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **stand_in.environment},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("\n#")[2].split())


@pytest.mark.parametrize(
    ("most", "arguments"),
    [
        (110, ["--version"]),
        (190, ["--help"]),
        (COMMAND, ["approve", "ap-1", "--yes"]),
        (COMMAND, ["approvals"]),
        (COMMAND, ["whoami"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_light_commands_import_little(stand_in: StandIn, most: int, arguments: list[str]) -> None:
    modules = loaded(stand_in, *arguments)
    # Typer itself validates a command's arguments by pydantic; the help of all commands does without.
    heavy = set(HEAVY) - ({"pydantic"} if most == COMMAND else set())
    assert not modules.intersection(heavy)
    assert len(modules) <= most, len(modules)


def test_version_is_answered_before_the_commands_are_known(stand_in: StandIn) -> None:
    assert "typer" not in loaded(stand_in, "--version")
