"""The compiled form of the loops over rows, built as an installation builds it: it does what the source does."""

import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bastion.errors import ProtocolError
from bastion.protocols.postgres.covering import rows
from tests.protocols.postgres.covering.test_rows import COVERINGS, encoded

ROOT = Path(__file__).parent.parent
TESTED = [f"tests/protocols/postgres/covering/test_{name}.py" for name in ("rows", "copied")]
CASES = 5_000

# The package of the wheel has to be imported before pytest looks for the tests beside that of the source.
_COMPILED_FIRST = """import sys
sys.path.insert(0, sys.argv.pop(1))
from bastion.protocols.postgres.covering import rows
assert rows.__file__.endswith((".so", ".pyd")), rows.__file__
sys.path.insert(0, sys.argv.pop(1))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def outcomes() -> list[str]:
    """Return what comes of covering random runs, most of which have a flaw, with the form that was imported."""
    chance = random.Random(19)
    found = []
    for _ in range(CASES):
        coverings = chance.choices(COVERINGS, k=chance.randrange(5))
        run = bytearray(b"left over"[: chance.randrange(9)])
        start = len(run)
        for _ in range(chance.randrange(5)):
            cells = [
                None if chance.random() < 0.2 else chance.randbytes(chance.choice([0, 1, 9, 300])) for _ in coverings
            ]
            run += encoded(cells)
        for _ in range(chance.randrange(3) if len(run) > start else 0):
            run[chance.randrange(start, len(run))] = chance.choice([0, 1, 4, 127, 128, 255, chance.randrange(256)])
        end = len(run) - chance.choice([0, 0, 0, 0, chance.randrange(len(run) - start + 1)])
        type_ = chance.choice([rows.DATA_ROW] * 9 + [ord("d")])
        try:
            found.append(rows.cover_rows(bytes(run), start, end, coverings, type_).hex())
        except ProtocolError as error:
            found.append(str(error))
    return found


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel with the compiled form holds."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"},
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    assert "none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "unpacked")
    return folder / "unpacked"


def run(unpacked: Path, script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _COMPILED_FIRST + script, str(unpacked), str(ROOT), *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_both_forms_do_the_same_whatever_the_bytes(unpacked: Path) -> None:
    assert rows.__file__.endswith(".py")
    told = run(unpacked, "import json\nfrom tests.test_compiled import outcomes\nprint(json.dumps(outcomes()))")
    expected = outcomes()
    assert json.loads(told) == expected
    assert {outcome.startswith("expected") for outcome in expected} == {True, False}


def test_the_compiled_form_passes_the_tests_of_the_source(unpacked: Path) -> None:
    script = "import pytest\nsys.exit(pytest.main(sys.argv[1:]))"
    told = run(unpacked, script, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTED)
    assert " passed" in told
    assert "skipped" not in told
