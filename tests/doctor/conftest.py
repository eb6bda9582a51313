"""A target that may be tested, and the configuration of an operator who has one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.kit.postgres import PASSWORD, Server
from tests.kit.rig import loaded, target

Doctor = Callable[..., "subprocess.Popen[str]"]


@dataclass
class Operator:
    """Somebody on the gateway's machine."""

    home: Path
    server: Server
    database: str

    def configure(self, *, address: str = "", **more: object) -> None:
        """Write a configuration whose one target is `tested`."""
        settings = {**target(self.server, self.database), "labels": {"leak-test": "yes"}, **more}
        if address:
            settings["address"] = address
        identity = {"issuer": "http://127.0.0.1:9", "client_id": "bastion-cli"}
        self._write("bastion.yaml", yaml.safe_dump({"identity": identity, "targets": {"tested": settings}}))
        rule = {"name": "read", "effect": "allow", "sql": {"access": "read"}}
        self._write("policy.yaml", yaml.safe_dump({"version": 1, "rules": [rule]}))

    def _write(self, name: str, text: str) -> None:
        path = self.home / name
        path.touch(mode=0o600)
        path.write_text(text)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "BASTION_CONFIG": str(self.home / "bastion.yaml"),
            "BASTION_STATE_DIR": str(self.home / "state"),
            "BASTION_RUNTIME_DIR": str(self.home / "run"),
            "TARGET_PASSWORD": PASSWORD,
            "TMPDIR": str(self.home / "tmp"),
            **more,
        }

    def start(self, *arguments: str, more: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start `bastion doctor`."""
        return subprocess.Popen(
            [sys.executable, "-m", "bastion", "doctor", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(more or {}),
            cwd="/",
        )

    def run(self, *arguments: str, more: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run `bastion doctor` to its end; return its exit status and what it said."""
        with self.start(*arguments, more=more) as process:
            out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def left(self) -> list[str]:
        """Return what is left of tests at the target, and on this machine."""
        query = "select nspname from pg_namespace where nspname like 'bastion%'"
        found = [name for (name,) in self.server.execute(query, database=self.database)]
        return found + [path.name for path in (self.home / "tmp").iterdir()]


@pytest.fixture
def operator(postgres: Server, tmp_path: Path) -> Iterator[Operator]:
    """An operator, with an empty database that `app_rw` owns."""
    tmp_path.chmod(0o700)
    (tmp_path / "tmp").mkdir(mode=0o700)
    with loaded(postgres, "tested", "select 1") as database:
        made = Operator(tmp_path, postgres, database)
        made.configure()
        yield made
