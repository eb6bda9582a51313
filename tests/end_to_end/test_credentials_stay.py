"""The credential of a target appears nowhere that anybody but the gateway can look, in no spelling."""

import base64
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest

from bastion.store.reader import Reader
from tests.kit import pgwire, shop
from tests.kit.issuer import Issuer
from tests.kit.pgwire import Closed
from tests.kit.postgres import Server
from tests.kit.rig import ALICE, CAROL, DAVE, Rig, loaded, target

pytestmark = [pytest.mark.live, pytest.mark.slow]

PASSWORD = "Zq7/+Kp2 ü&=%x9_vT4"
OTHER = "Wm3+/Rj8 ö?#%y5-kL6"


def spellings(secret: str) -> dict[str, bytes]:
    """Return a secret as it is, and in the spellings that somebody might have given it."""
    raw = secret.encode()
    # Base64 differs with where the secret begins; what does not depend on what surrounds it is looked for.
    shifted = {f"base64+{n}": base64.b64encode(b"\0" * n + raw)[4 if n else 0 : -4] for n in range(3)}
    urlsafe = {f"{name} urlsafe": text.replace(b"+", b"-").replace(b"/", b"_") for name, text in shifted.items()}
    return {
        "raw": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "URL": quote(secret, safe="").encode(),
        "form": quote_plus(secret).encode(),
        "utf-16": secret.encode("utf-16-le"),
        "json": secret.encode("ascii", "backslashreplace"),
        "latin-1": secret.encode("latin-1"),
        **shifted,
        **urlsafe,
    }


@pytest.fixture(scope="module")
def rig(postgres: Server, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    place = tmp_path_factory.mktemp("credentials")
    for name, secret in (("good", PASSWORD), ("bad", OTHER)):
        (place / name).write_text(secret)
        (place / name).chmod(0o600)
    postgres.execute("drop role if exists keeper")
    quoted = psycopg.sql.SQL("create role keeper login password {}").format(PASSWORD)
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        # Not even into the server's log, which this test reads as well.
        connection.execute("set log_statement = 'none'")
        connection.execute(quoted)
    with loaded(postgres, "kept", shop.SQL, "keeper") as database:
        targets = {
            "shop": target(postgres, database, "keeper", credential={"file": str(place / "good")}),
            "by-command": target(
                postgres, database, "keeper", credential={"command": ["/bin/cat", str(place / "good")]}
            ),
            "refused": target(postgres, database, "keeper", credential={"file": str(place / "bad")}),
            "unreachable": target(
                postgres, database, "keeper", credential={"file": str(place / "bad")}, address="127.0.0.1:1"
            ),
        }
        with Rig(issuer, targets, shop.GUARDED) as made:
            yield made
    postgres.execute("drop role keeper")


class Heard:
    """Everything that anybody was told."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, bytes]] = []

    def add(self, where: str, what: bytes | str) -> None:
        self.pieces.append((where, what if isinstance(what, bytes) else what.encode()))

    def hits(self) -> list[str]:
        """Return where a secret was found, and how it was spelled."""
        wanted = [(name, form) for secret in (PASSWORD, OTHER) for name, form in spellings(secret).items()]
        return [f"{where}: {name}" for where, what in self.pieces for name, form in wanted if form in what]


def test_credential_appears_nowhere(rig: Rig, postgres: Server) -> None:
    heard = Heard()
    processes = _Processes(heard)
    for name in ("shop", "by-command", "refused", "unreachable"):
        _work_by_wire(rig, name, heard)
        processes.look()
    _work_by_command_line(rig, heard)
    processes.look()
    _work_by_api(rig, heard)
    rig.reload("version: 1\nrules: [")
    rig.reload(shop.GUARDED)
    processes.look()
    heard.add("the gateway's log", rig.log.read_bytes())
    heard.add("the target's log", postgres.log)
    with Reader.open(rig.state) as reader:
        for row in reader.sessions(limit=1000):
            for entry in reader.entries(row.id):
                heard.add(f"session {row.id}, entry {entry.seq}", entry.data)
    for path in (*rig.state.rglob("*"), *rig.runtime.rglob("*"), *_temporary_files()):
        if path.is_file():
            heard.add(str(path), path.read_bytes())
    # The proof that this looks at something: the words of people are found where they belong.
    everything = b"".join(what for _, what in heard.pieces)
    assert b"a reason to remember" in everything
    assert len(heard.pieces) > 100
    assert heard.hits() == []


def test_scan_finds_every_spelling() -> None:
    for name, form in spellings(PASSWORD).items():
        heard = Heard()
        heard.add("somewhere", b"x" * 5 + form + b"y" * 5)
        assert heard.hits(), name


def _work_by_wire(rig: Rig, name: str, heard: Heard) -> None:
    connection = rig.knock(ALICE, name)
    with connection, contextlib.suppress(Closed):
        connection.login(user="alice", database=name)
        for text in (
            "select * from people",
            "select current_user, session_user, inet_server_port()",
            "select rolpassword from pg_authid",
            "select passwd from pg_shadow",
            "select usename, query from pg_stat_activity",
            "select * from pg_settings",
            "show all",
            "drop table people",
            "nonsense",
            "select 1 / 0",
        ):
            connection.ask(text)
        connection.send(pgwire.query("delete from orders"))
        connection.until("N")
        request = rig.waiting()
        heard.add("a request", str(request))
        heard.add("a vote", rig.vote(CAROL, request, "deny", "a reason to remember").text)
        connection.until("Z")
        connection.send(pgwire.function_call(1))
        connection.until("Z")
    heard.add(f"a client of {name}", bytes(connection.raw))


def _work_by_command_line(rig: Rig, heard: Heard) -> None:
    session = rig.sessions("shop")[0]["id"]
    for who, arguments in (
        (ALICE, ("whoami",)),
        (ALICE, ("targets",)),
        (ALICE, ("targets", "--json")),
        (ALICE, ("exec", "shop", "--json", "--", "select * from orders")),
        (ALICE, ("connect", "shop", "-c", "select 1")),
        (ALICE, ("connect", "refused", "-c", "select 1")),
        (ALICE, ("connect", "unreachable", "-c", "select 1")),
        (ALICE, ("policy", "explain", "shop", "delete from orders")),
        (CAROL, ("approvals", "--all", "--json")),
        (DAVE, ("sessions", "--json")),
        (DAVE, ("show", session)),
        (DAVE, ("export", session, "--format", "cast")),
        (DAVE, ("export", session, "--format", "jsonl")),
        (ALICE, ("gateway", "status", "--json")),
        (ALICE, ("verify", "--store", str(rig.state))),
        (ALICE, ("--help",)),
    ):
        done = rig.run(who, *arguments)
        heard.add(f"bastion {' '.join(arguments)}", done.stdout + done.stderr)


def _work_by_api(rig: Rig, heard: Heard) -> None:
    for who in (ALICE, CAROL, DAVE):
        with rig.api(who) as api:
            for path in ("status", "issuer", "whoami", "targets", "approvals?all=1", "sessions?limit=1000", "nothing"):
                heard.add(path, api.get(path).content)
    for session in rig.sessions():
        heard.add(f"export of {session['id']}", str(rig.entries(session["id"])))


class _Processes:
    """What the list of processes shows of everything that runs on this machine."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def look(self) -> None:
        """Take down the arguments and environment of every process, the gateway among them."""
        for place in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    self._heard.add(f"{place}/{name}", (place / name).read_bytes())


def _temporary_files() -> list[Path]:
    """Return what lies directly in the temporary directory and is new enough to come from here."""
    young = time.time() - 300
    found = []
    for path in Path(tempfile.gettempdir()).iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_uid == os.geteuid() and young < path.stat().st_mtime:
                found.append(path)
    return found
