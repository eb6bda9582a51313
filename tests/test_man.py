"""The manual in man/ is what the code says: every command, option, key, variable and exit status, and nothing else."""

import re
from pathlib import Path

from bastion import errors
from tests import man
from tests.kit.roff import Page, formatted

SOURCE = Path(errors.__file__).parent


def every_error(kind: type[errors.BastionError] = errors.BastionError) -> list[type[errors.BastionError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every_error(below))]


def test_every_page_is_current_and_none_is_too_many() -> None:
    assert man.stale() == []


def test_every_exit_status_is_explained() -> None:
    assert {kind.exit_status for kind in every_error() if kind.__module__ == errors.__name__} <= set(man.EXIT_STATUSES)


def test_every_variable_is_explained_and_exists() -> None:
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    used = set(re.findall(r"\b(?:BASTION|XDG)_[A-Z][A-Z_]*\b|\bNO_COLOR\b", source))
    assert {name for names in man.ENVIRONMENT for name in names.split(", ")} == used


def test_text_cannot_become_a_request() -> None:
    page = Page("x", 1, "summary")
    page.text(".so /etc/passwd\n\n'br and a\\b")
    assert "\n\\&.so" in page.finished()
    assert "\n\\&'br and a\\eb" in page.finished()


def test_backticks_are_bold_and_dashes_can_be_copied() -> None:
    assert formatted("use `--json` well-kept") == "use \\fB\\-\\-json\\fR well\\-kept"
