"""Runs the command line as a process of its own, as people and programs do."""

import subprocess
import sys
from collections.abc import Mapping

from tests.client.stand_in import StandIn


def environment(stand_in: StandIn, more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        "PATH": "/usr/lib/postgresql/15/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        **stand_in.environment,
        **(more or {}),
    }


def bastion(
    stand_in: StandIn, *arguments: str, stdin: str = "", more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bastion", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(stand_in, more),
    )
