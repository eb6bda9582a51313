import os
import socket
from pathlib import Path

import pytest
from starlette.responses import Response

from bastion import errors
from bastion.client.gateway import Gateway, GatewayAbsent, GatewayUntrusted
from bastion.client.wire import connect
from tests.client.stand_in import TOKEN, StandIn


def api(stand_in: StandIn, token: str = TOKEN) -> Gateway:
    return Gateway(stand_in.directory, lambda: token)


def test_answers_arrive(stand_in: StandIn) -> None:
    gateway = api(stand_in)
    assert gateway.whoami()["subject"] == "alice"
    assert gateway.targets()[0]["name"] == "prod-db"
    assert gateway.approval("ap-1")["digest"] == "d" * 64
    assert len(gateway.entries("s-1")) == 8
    assert b"".join(gateway.export("s-1", "cast")) == b'{"version": 2}\n'


def test_a_token_is_sent_only_where_one_is_needed(stand_in: StandIn) -> None:
    def refuse() -> str:
        raise AssertionError("asked for a token")

    assert "pid" in Gateway(stand_in.directory, refuse).status()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("access.authentication", errors.AuthenticationFailed),
        ("access.refused", errors.AccessRefused),
        ("approval", errors.ApprovalError),
        ("target.unreachable", errors.TargetUnreachable),
        ("recording", errors.RecordingError),
        ("usage", errors.UsageError),
    ],
)
def test_errors_keep_their_class(stand_in: StandIn, code: str, kind: type[errors.BastionError]) -> None:
    said = {"code": code, "message": "said", "hint": "do", "exit_status": 9}
    stand_in.answers["/v1/whoami"] = (409, {"error": said})
    with pytest.raises(kind) as caught:
        api(stand_in).whoami()
    assert (caught.value.code, caught.value.message, caught.value.hint) == (code, "said", "do")


def test_every_error_of_the_gateway_has_a_home(stand_in: StandIn) -> None:
    for kind in _below(errors.BastionError):
        said = {"code": kind.code, "message": "said", "hint": "", "exit_status": kind.exit_status}
        stand_in.answers["/v1/whoami"] = (500, {"error": said})
        with pytest.raises(errors.BastionError) as caught:
            api(stand_in).whoami()
        assert (caught.value.code, caught.value.exit_status) == (kind.code, kind.exit_status)


def _below(kind: type[errors.BastionError]) -> list[type[errors.BastionError]]:
    return [
        found for sub in kind.__subclasses__() if sub.__module__ == errors.__name__ for found in (sub, *_below(sub))
    ]


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense", b"[]", b'{"error": 3}', b'{"targets": 3}'],
    ids=lambda answer: answer.decode() or "empty",
)
@pytest.mark.parametrize("status", [200, 500])
def test_nonsense_is_a_clear_error(stand_in: StandIn, answer: bytes, status: int) -> None:
    stand_in.answers["/v1/targets"] = (0, Response(answer, status))
    with pytest.raises(errors.GatewayError):
        api(stand_in).targets()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b", "a\r\nb", "\u202e", ""])
def test_an_identifier_stays_one_segment(stand_in: StandIn, name: str) -> None:
    with pytest.raises(errors.BastionError):
        api(stand_in).approval(name)
    assert stand_in.votes == []


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(GatewayAbsent):
        Gateway(tmp_path / "none", lambda: TOKEN).status()
    tmp_path.chmod(0o700)
    with pytest.raises(GatewayAbsent):
        Gateway(tmp_path, lambda: TOKEN).status()


def test_a_dead_socket_is_nobody(short_directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(short_directory / "control.sock"))
    with pytest.raises(GatewayAbsent):
        Gateway(short_directory, lambda: TOKEN).status()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777, 0o720])
def test_a_directory_that_others_can_write_is_not_trusted(stand_in: StandIn, mode: int) -> None:
    stand_in.directory.chmod(mode)
    with pytest.raises(GatewayUntrusted):
        api(stand_in).whoami()


def test_a_directory_of_somebody_else_is_not_trusted(stand_in: StandIn) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test gives a directory away, which takes root")
    os.chown(stand_in.directory, 54321, -1)
    with pytest.raises(GatewayUntrusted, match="54321"):
        api(stand_in).whoami()


def test_a_linked_directory_is_not_trusted(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(stand_in.directory)
    with pytest.raises(GatewayUntrusted):
        Gateway(tmp_path / "link", lambda: TOKEN).whoami()


def test_a_listener_of_another_user_is_not_trusted(short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(short_directory / "control.sock"))
        listener.listen()
        monkeypatch.setattr("bastion.client.wire.trusted_owner", lambda _: 54321)
        with pytest.raises(GatewayUntrusted, match="uid"):
            connect(short_directory, "control.sock", 5)


def test_a_gateway_that_says_nothing_is_given_up(short_directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(short_directory / "control.sock"))
        listener.listen()
        with pytest.raises(errors.GatewayError, match=r"within 0\.1 s"):
            Gateway(short_directory, lambda: TOKEN, timeout=0.1).status()
