from pathlib import Path

import pytest

from bastion.client.token import source
from bastion.errors import AuthenticationFailed, UsageError


def login() -> str:
    return "from-login"


def test_a_file_comes_before_the_environment_and_that_before_the_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert source(file, login, {"BASTION_TOKEN": "from-env"})() == "from-file"
    assert source(None, login, {"BASTION_TOKEN": " from-env\n"})() == "from-env"
    assert source(None, login, {"BASTION_TOKEN": ""})() == "from-login"
    assert source(None, login, {})() == "from-login"


def test_a_rotated_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    token = source(file, login, {})
    assert token() == "one"
    file.write_text("two")
    assert token() == "two"


@pytest.mark.parametrize("content", ["", " \n", "two words", "a\r\nX-Header: b", "t\u00f6ken", "x" * 70_000])
def test_what_cannot_be_a_token_is_not_sent(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(AuthenticationFailed):
        source(file, login, {})()


def test_an_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        source(tmp_path / "none", login, {})()
