import json
import os
import stat
from pathlib import Path

import pytest

from bastion.model.text import decode
from tests.cli.running import bastion
from tests.client.stand_in import ROW_OF_APPROVAL, StandIn

HOSTILE = ROW_OF_APPROVAL["action"]["text"]


def test_whoami_and_targets(stand_in: StandIn) -> None:
    assert "alice" in bastion(stand_in, "whoami").stdout
    assert json.loads(bastion(stand_in, "whoami", "--json").stdout)["subject"] == "alice"
    listed = bastion(stand_in, "targets").stdout.splitlines()
    assert listed[0].split() == ["TARGET", "PROTOCOL", "LABELS", "ACCESS"]
    assert listed[1].split() == ["prod-db", "postgres", "env=prod", "allow"]


def test_a_token_comes_from_a_file_too(stand_in: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(stand_in.environment["BASTION_TOKEN"] + "\n")
    done = bastion(stand_in, "whoami", "--token-file", str(file), more={"BASTION_TOKEN": ""})
    assert "alice" in done.stdout
    done = bastion(stand_in, "whoami", "--token-file", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


def test_a_bad_token_is_no_access(stand_in: StandIn) -> None:
    done = bastion(stand_in, "whoami", more={"BASTION_TOKEN": "another"})
    assert done.returncode == 77
    assert done.stderr == "bastion: no identity was proven\n  log in with `bastion login`\n"
    assert done.stdout == ""


def test_errors_are_json_for_programs(stand_in: StandIn) -> None:
    done = bastion(stand_in, "whoami", "--json", more={"BASTION_TOKEN": "another"})
    assert json.loads(done.stderr)["error"] == {
        "code": "access.authentication",
        "message": "no identity was proven",
        "hint": "log in with `bastion login`",
        "exit_status": 77,
    }


def test_no_gateway_is_a_clear_error(stand_in: StandIn, tmp_path: Path) -> None:
    done = bastion(stand_in, "targets", more={"BASTION_RUNTIME_DIR": str(tmp_path / "none")})
    assert done.returncode == 69
    assert "no gateway runs in" in done.stderr


def test_usage_is_status_two(stand_in: StandIn) -> None:
    assert bastion(stand_in, "approve").returncode == 2
    mistyped = bastion(stand_in, "approvls")
    assert mistyped.returncode == 2
    assert "approvals" in mistyped.stderr


def test_a_request_is_shown_whole_and_harmless(stand_in: StandIn) -> None:
    done = bastion(stand_in, "approve", "ap-1", "--yes")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    shown = [line.removeprefix("    ") for line in done.stdout.splitlines()]
    first = shown.index("delete from orders")
    assert decode("\n".join(shown[first : first + 2])) == HOSTILE
    for part in (
        "Bob (bob)",
        "prod-db (postgres), env=prod",
        "cleaning up",
        "$1  '42'",
        "$2  null",
        "00ff (binary)",
        "writes-need-a-dba (wants 1 of dba, 1 missing)",
        "counted rows",
        "selective: yes",
        "d" * 64,
    ):
        assert part in done.stdout, part


def test_an_approval_sends_the_digest_that_was_shown(stand_in: StandIn) -> None:
    done = bastion(stand_in, "approve", "ap-1", "--yes", "--reason", "fine")
    assert done.stdout.endswith("ap-1: approved\n")
    assert stand_in.votes == [{"act": "approve", "digest": "d" * 64, "reason": "fine"}]


def test_a_denial_needs_a_reason(stand_in: StandIn) -> None:
    assert bastion(stand_in, "deny", "ap-1", "--yes").returncode == 2
    assert bastion(stand_in, "deny", "ap-1", "--yes", "--reason", "no").returncode == 0
    assert stand_in.votes == [{"act": "deny", "digest": "d" * 64, "reason": "no"}]


def test_without_a_terminal_nothing_is_decided_unasked(stand_in: StandIn) -> None:
    done = bastion(stand_in, "approve", "ap-1", stdin="y\n")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert stand_in.votes == []


@pytest.mark.parametrize(
    ("state", "votes", "told"),
    [
        ("approved", [{"voter": "carol", "approves": True}], "approved already, by carol"),
        ("denied", [{"voter": "carol", "approves": False}], "denied by carol"),
        ("expired", [], "has expired"),
        ("withdrawn", [], "withdrawn by whoever asked"),
    ],
)
def test_a_settled_request_says_how(stand_in: StandIn, state: str, votes: list[object], told: str) -> None:
    stand_in.approval.update(state=state, votes=votes)
    done = bastion(stand_in, "approve", "ap-1", "--yes")
    assert done.returncode == 77
    assert told in done.stderr
    assert stand_in.votes == []


def test_a_lost_race_is_told(stand_in: StandIn) -> None:
    said = {"code": "approval", "message": "ap-1 was denied by carol a moment ago", "hint": "", "exit_status": 77}
    stand_in.answers["/v1/approvals/ap-1/approve"] = (409, {"error": said})
    done = bastion(stand_in, "approve", "ap-1", "--yes")
    assert done.returncode == 77
    assert "denied by carol a moment ago" in done.stderr


def test_a_quorum_not_yet_met_says_who_is_missing(stand_in: StandIn) -> None:
    after = {**ROW_OF_APPROVAL, "demands": [{"rule": "r", "approvers": ["dba"], "votes": 2, "missing": 1}]}
    stand_in.answers["/v1/approvals/ap-1/approve"] = (200, after)
    assert "still missing: 1 of dba" in bastion(stand_in, "approve", "ap-1", "--yes").stdout


def test_json_of_an_approval_is_the_answer_alone(stand_in: StandIn) -> None:
    done = bastion(stand_in, "approve", "ap-1", "--yes", "--json")
    assert json.loads(done.stdout)["state"] == "approved"


def test_sessions_and_their_story(stand_in: StandIn) -> None:
    assert "s-1" in bastion(stand_in, "sessions").stdout
    story = bastion(stand_in, "show", "s-1").stdout
    assert "\x1b" not in story
    for part in (
        "held by writes-need-a-dba",
        "delete from orders where id = $1",
        "'42'",
        "waits for approval as ap-1",
        "approved by Carol (carol): go\\x1b[2J on",
        "approved: allow",
        "tag DELETE 1",
        "the client hung up",
    ):
        assert part in story, part
    assert len(json.loads(bastion(stand_in, "show", "s-1", "--json").stdout)["entries"]) == 8


def test_an_export_is_private_and_replaces_nothing(stand_in: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "s.cast"
    done = bastion(stand_in, "export", "s-1", "-o", str(file))
    assert done.returncode == 0
    assert file.read_bytes() == b'{"version": 2}\n'
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    again = bastion(stand_in, "export", "s-1", "-o", str(file))
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_failed_export_leaves_no_file(stand_in: StandIn, tmp_path: Path) -> None:
    said = {"code": "usage", "message": "there is no session 'none'", "hint": "", "exit_status": 2}
    stand_in.answers["/v1/sessions/none/export"] = (404, {"error": said})
    done = bastion(stand_in, "export", "none", "-o", str(tmp_path / "x"))
    assert done.returncode == 2
    assert not (tmp_path / "x").exists()


def test_an_explanation_names_the_rule_and_the_others(stand_in: StandIn) -> None:
    said = bastion(stand_in, "policy", "explain", "prod-db", "drop table users").stdout
    for part in ("deny", "no-schema-changes", "drop relation public.users (admin)", "sql: matches nothing"):
        assert part in said, part


def test_a_secret_is_never_an_argument(stand_in: StandIn) -> None:
    assert bastion(stand_in, "secret", "set", "db", "hunter2").returncode == 2
    assert bastion(stand_in, "secret", "set", "db", stdin="hunter2\n").stdout == "db is kept\n"
    listed = bastion(stand_in, "secret", "list")
    assert listed.stdout.split() == ["NAME", "db"]
    assert bastion(stand_in, "secret", "remove", "db").returncode == 0
    assert bastion(stand_in, "secret", "remove", "db").returncode == 2


def test_gateway_status_of_a_running_and_an_absent_one(stand_in: StandIn, tmp_path: Path) -> None:
    assert str(os.getpid()) in bastion(stand_in, "gateway", "status").stdout
    gone = bastion(stand_in, "gateway", "stop", more={"BASTION_RUNTIME_DIR": str(tmp_path / "none")})
    assert gone.returncode == 69
