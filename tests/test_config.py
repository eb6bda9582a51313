"""The configuration: read whole or not at all, each mistake at its place, and no secret in what is said of it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion import config
from bastion.config import Config, clauses, first, load
from bastion.errors import ConfigError
from bastion.model.target import CredentialSource
from bastion.policy.marks import Problems
from bastion.protocols.contract import installed

WHOLE = """\
identity:
  issuer: https://login.example.com
  client_id: bastion-cli
  audience: bastion
  groups_claim: roles
  machine_clients: [ci]
  keys_survive: 2h
targets:
  prod-db:
    protocol: postgres
    address: db.internal:6432
    database: app
    user: app_rw
    credential: {env: PROD_DB_PASSWORD}
    tls: {mode: verify-full, ca: /etc/bastion/db-ca.pem}
    labels: {env: prod}
  local:
    protocol: postgres
    address: /run/postgresql
    database: app
policy: rules
limits:
  sessions: 10
  session_lifetime: 1h
"""
ENVIRONMENT = {"HOME": "/home/alice", "XDG_RUNTIME_DIR": "/run/user/1000"}


def loaded(text: str, directory: Path, environment: dict[str, str] | None = None) -> Config:
    path = directory / "bastion.yaml"
    path.write_text(text)
    return load(path, ENVIRONMENT if environment is None else environment)


def mistakes(text: str, directory: Path) -> list[tuple[str, str, str, str]]:
    """Return place, key, finding and hint of each mistake."""
    with pytest.raises(Problems) as caught:
        loaded(text, directory)
    return [(f"{p.place.line}:{p.place.column}", p.path, p.found, p.hint) for p in caught.value.found]


def with_target(lines: str) -> str:
    """Return a configuration whose one target is made of `lines`."""
    head = "identity: {issuer: https://login.example.com, client_id: c}\ntargets:\n  t:\n"
    return head + "".join(f"    {line}\n" for line in lines.splitlines())


def test_a_whole_configuration(tmp_path: Path) -> None:
    found = loaded(WHOLE, tmp_path)
    assert found.issuer.issuer == "https://login.example.com"
    assert found.issuer.groups_claim == "roles"
    assert found.issuer.machine_clients == ("ci",)
    assert found.issuer.keys_survive == timedelta(hours=2)
    target = found.targets["prod-db"]
    assert (target.name, target.protocol, target.host, target.port, target.user) == (
        "prod-db",
        "postgres",
        "db.internal",
        6432,
        "app_rw",
    )
    assert target.credential == CredentialSource("env", ("PROD_DB_PASSWORD",))
    assert target.labels == {"env": "prod"}
    assert target.options["database"] == "app"
    local = found.targets["local"]
    assert (local.host, local.port) == ("/run/postgresql", installed()["postgres"].default_port)
    assert local.credential == CredentialSource("none")
    assert found.policy_path == tmp_path / "rules"
    assert found.limits.sessions == 10
    assert found.limits.session_lifetime == timedelta(hours=1)
    assert found.state_dir == Path("/home/alice/.local/state/bastion")
    assert found.runtime_dir == Path("/run/user/1000/bastion")


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    found = loaded(with_target("protocol: postgres\naddress: db\ndatabase: app"), tmp_path)
    assert found.policy_path == tmp_path / "policy.yaml"
    assert found.issuer.audience == "bastion"
    assert found.limits == config.LimitsModel()


def test_the_environment_names_the_directories_and_nothing_else_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASTION_STATE_DIR", "/elsewhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text("not this one")
    apart = tmp_path / "apart"
    apart.mkdir()
    found = loaded(WHOLE, apart, {"BASTION_STATE_DIR": "/var/lib/bastion", "BASTION_RUNTIME_DIR": "/run/bastion"})
    assert (found.state_dir, found.runtime_dir) == (Path("/var/lib/bastion"), Path("/run/bastion"))
    assert found.policy_path == apart / "rules"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("db", "db", 5432),
        ("db.internal.", "db.internal.", 5432),
        ("db-1.internal:1", "db-1.internal", 1),
        ("db:65535", "db", 65535),
        ("10.0.0.1:5433", "10.0.0.1", 5433),
        ("'[2001:db8::1]'", "2001:db8::1", 5432),
        ("'[::1]:5433'", "::1", 5433),
        ("/run/postgresql", "/run/postgresql", 5432),
        ("/run/postgresql:5433", "/run/postgresql", 5433),
        ("/run/odd:name", "/run/odd:name", 5432),
    ],
)
def test_an_address_names_host_and_port(tmp_path: Path, text: str, host: str, port: int) -> None:
    target = loaded(with_target(f"protocol: postgres\naddress: {text}\ndatabase: app"), tmp_path).targets["t"]
    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("db:0", ""),
        ("db:65536", ""),
        ("db:123456", ""),
        ("'db:'", ""),
        ("'db:５'", ""),
        ("db:http", ""),
        ("db:1:2", ""),
        ("''", ""),
        ("':5432'", ""),
        ("run/postgresql", ""),
        ("./run", ""),
        ("'db internal'", ""),
        ("-oProxyCommand", ""),
        ("dätenbank", ""),
        ("'[::1'", ""),
        ("'[::1]5432'", ""),
        ("'[::1]:'", ""),
        ("'[db]:5432'", ""),
        ("'[fe80::1%eth0%x y]:1'", ""),
        ("2001:db8::1", "brackets"),
        ("https://db:5432", "host and port only"),
        ("postgres://u:hunter2@db/app", "host and port only"),
        ("u:hunter2@db:5432", "host and port only"),
    ],
)
def test_what_is_no_address(tmp_path: Path, text: str, hint: str) -> None:
    ((place, path, found, told),) = mistakes(
        with_target(f"protocol: postgres\naddress: {text}\ndatabase: app"), tmp_path
    )
    assert (place, path) == ("5:5", "targets.t.address")
    assert hint in told
    assert "hunter2" not in found + told


@pytest.mark.parametrize(
    ("credential", "kind", "reference"),
    [
        ("{env: A}", "env", ("A",)),
        ("{file: /etc/secret}", "file", ("/etc/secret",)),
        ("{command: /bin/pass}", "command", ("/bin/pass",)),
        ("{command: [/bin/pass, show, db]}", "command", ("/bin/pass", "show", "db")),
        ("{secret: db}", "secret", ("db",)),
    ],
)
def test_where_a_credential_comes_from(tmp_path: Path, credential: str, kind: str, reference: tuple[str, ...]) -> None:
    text = with_target(f"protocol: postgres\naddress: db\ndatabase: app\ncredential: {credential}")
    assert loaded(text, tmp_path).targets["t"].credential == CredentialSource(kind, reference)


@pytest.mark.parametrize(
    "credential",
    [
        "hunter2",
        "12345678",
        "[hunter2]",
        "{}",
        "{env: A, file: /hunter2}",
        "{file: hunter2}",
        "{command: hunter2}",
        "{command: []}",
        "{command: ['']}",
        "{env: ''}",
        "{file: ''}",
        "{secret: ''}",
        "{env: 12345678}",
        "{env: [hunter2]}",
        "{password: hunter2}",
        "*hunter2",
        "!hunter2",
        "hunter2: x",
    ],
)
def test_what_is_no_credential_is_not_repeated(tmp_path: Path, credential: str) -> None:
    text = with_target(f"protocol: postgres\naddress: db\ndatabase: app\ncredential: {credential}")
    told = mistakes(text, tmp_path)
    assert told
    assert all(place.startswith("7:") for place, *_ in told)
    assert "hunter2" not in str(told)
    assert "12345678" not in str(told)


@pytest.mark.parametrize(
    "text",
    [
        "identity: {issuer: https://u:hunter2@login.example.com, client_id: c}\ntargets: {}\n",
        "identity: {issuer: 'https://[hunter2', client_id: c}\ntargets: {}\n",
        "identity: {issuer: https://x, client_id: c}\ntargets: {t: postgres://u:hunter2@db/app}\n",
        "identity: {issuer: https://x, client_id: c}\ntargets: postgres://u:hunter2@db/app\n",
        "hunter2\n",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(Problems) as caught:
        loaded(text, tmp_path)
    assert "hunter2" not in first(caught.value).message


@pytest.mark.parametrize(
    ("issuer", "sound"),
    [
        ("https://login.example.com", True),
        ("https://login.example.com/realms/one/", True),
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000/x", True),
        ("http://login.example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("https://login.example.com?x=1", False),
        ("https://login.example.com#x", False),
        ("https://@login.example.com", False),
        ("ftp://localhost", False),
        ("https://", False),
        ("login.example.com", False),
        ("https://login.example.com:x", False),
    ],
)
def test_an_issuer_is_reached_safely(tmp_path: Path, issuer: str, sound: bool) -> None:
    text = WHOLE.replace("https://login.example.com", f"'{issuer}'")
    if sound:
        assert loaded(text, tmp_path).issuer.issuer == issuer
    else:
        assert [path for _, path, *_ in mistakes(text, tmp_path)] == ["identity"]


@pytest.mark.parametrize(
    ("old", "new", "place", "path", "hint"),
    [
        ("targets:", "tagrets:", "8:1", "tagrets", "did you mean 'targets'?"),
        ("limits:", "limit:", "22:1", "limit", "did you mean 'limits'?"),
        ("  client_id:", "  clientid:", "3:3", "identity.clientid", "did you mean 'client_id'?"),
        ("    database: app\n    user", "    databse: app\n    user", "12:5", "targets.prod-db.databse", "'database'?"),
        ("    labels:", "    lables:", "16:5", "targets.prod-db.lables", "did you mean 'labels'?"),
        ("{env: PROD", "{evn: PROD", "14:18", "targets.prod-db.credential.evn", "did you mean 'env'?"),
        ("{mode: verify-full,", "{mod: verify-full,", "15:11", "targets.prod-db.tls.mod", "did you mean 'mode'?"),
        ("mode: verify-full", "mode: verify-ful", "15:11", "targets.prod-db.tls.mode", "did you mean 'verify-full'?"),
        (
            "protocol: postgres\n    address: db",
            "protocol: postgers\n    address: db",
            "10:5",
            "targets.prod-db.protocol",
            "",
        ),
        ("  sessions: 10", "  sessions: many", "23:3", "limits.sessions", ""),
        ("  sessions: 10", "  sessions: 0", "23:3", "limits.sessions", ""),
        ("  sessions: 10", "  sessions: true", "23:3", "limits.sessions", ""),
        ("  session_lifetime: 1h", "  session_lifetime: 3600", "24:3", "limits.session_lifetime", ""),
        (
            "{env: prod}",
            "{env: true}",
            "16:14",
            "targets.prod-db.labels.env",
            "put it in quotes if it is meant as text",
        ),
        ("{env: prod}", "{env: 1}", "16:14", "targets.prod-db.labels.env", "put it in quotes"),
        ("policy: rules", "policy: [rules]", "21:1", "policy", ""),
        ("policy: rules", "policy:", "21:1", "policy", "leave out what is not meant"),
        ("  prod-db:", "  Prod DB:", "9:3", "targets.Prod DB", ""),
        ("  prod-db:", "  ../db:", "9:3", "targets.../db", ""),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, place: str, path: str, hint: str) -> None:
    assert old in WHOLE
    told = mistakes(WHOLE.replace(old, new, 1), tmp_path)
    found = {(where, key): said for where, key, _, said in told}
    assert (place, path) in found
    assert hint in found[place, path]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace("client_id", "clientid").replace("sessions: 10", "sessions: -1").replace(":6432", ":x")
    with pytest.raises(Problems) as caught:
        loaded(text, tmp_path)
    assert {p.path for p in caught.value.found} == {
        "identity.clientid",
        "identity.client_id",
        "targets.prod-db.address",
        "limits.sessions",
    }
    error = first(caught.value)
    assert isinstance(error, ConfigError)
    assert error.message.count("\n") == 3
    assert error.exit_status == 78


@pytest.mark.parametrize(
    "text", ["", "[]\n", "x\n", "{}\n", "identity: {}\n", "targets: {}\n", "identity: x\ntargets: []\n"]
)
def test_what_is_no_configuration(tmp_path: Path, text: str) -> None:
    assert mistakes(text, tmp_path)


def test_a_file_cut_within_a_line_never_loads(tmp_path: Path) -> None:
    for end in range(len(WHOLE) - 1):
        if not WHOLE[:end].endswith("\n"):
            assert mistakes(WHOLE[:end], tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a configuration, found no file") as caught:
        load(tmp_path / "none.yaml", {})
    assert "BASTION_CONFIG" in caught.value.hint
    with pytest.raises(ConfigError, match="expected a readable file"):
        load(tmp_path, {})


@given(st.binary(max_size=200))
def test_no_bytes_are_a_configuration_by_accident(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bastion.yaml"
    path.write_bytes(content)
    with pytest.raises(Problems):
        load(path, ENVIRONMENT)


def test_clauses_come_from_the_protocols_that_are_installed() -> None:
    found = clauses()
    for spec in installed().values():
        for name, model in spec.clauses.items():
            assert found[name].model is model
            assert spec.name in found[name].protocols


def test_an_empty_word_is_no_word(tmp_path: Path) -> None:
    for key in ("client_id: bastion-cli", "audience: bastion", "groups_claim: roles", "machine_clients: [ci]"):
        name = key.partition(":")[0]
        told = mistakes(WHOLE.replace(key, f"{name}: ''"), tmp_path)
        assert [path.removesuffix(".0") for _, path, *_ in told] == [f"identity.{name}"]


def test_every_key_is_explained() -> None:
    for model in (config.IdentityModel, config.CredentialModel, config.TargetModel, config.LimitsModel):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
