"""Run everything that has to hold: `python -m tests`. Ends with pytest's own closing line."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKS = (
    ("style", ("ruff", "check", ".")),
    ("format", ("ruff", "format", "--check", ".")),
    ("types", ("mypy",)),
    ("man pages", ("tests.man", "--check")),
    ("tests", ("pytest", "--numprocesses", "auto", "--dist", "loadfile", "--no-skips")),
)


def main(arguments: list[str]) -> int:
    """Run every check, whatever the ones before found; further arguments are pytest's."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    failed: list[str] = []
    for name, (module, *options) in CHECKS:
        if module == "pytest":
            options += arguments
            # Said now, so that the last line is pytest's.
            print(f"==> failed so far: {', '.join(failed) or 'nothing'}", flush=True)
        print(f"==> {name}", flush=True)
        command = [sys.executable, "-m", module, *options]
        if subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
            failed.append(name)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
