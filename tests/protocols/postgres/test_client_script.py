"""Scripts print what psql prints and end as psql ends; what the gateway refuses has its own exit statuses."""

import io
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from bastion.model.verdict import Deny
from bastion.protocols.clientside import ConnectRequest, LoopbackAddress, Step
from bastion.protocols.postgres import messages, refusal
from bastion.protocols.postgres.outcomes import EXPIRED, Message
from bastion.protocols.postgres.script import Script, run
from tests.kit.postgres import Database

SET_UP = """
create table t (id int primary key, name text, note text, n numeric, at date);
insert into t values (1, 'one', E'two\\nlines', 1.50, '2026-05-04'), (2, 'größer 日本', null, -3, null),
  (3, E'tab\\there', 'bell' || chr(7), 12345678901234567890, '0044-03-15 BC');
"""


class Told:
    """A printer that keeps what it is told."""

    terminal = False

    def __init__(self) -> None:
        self.out = io.StringIO()
        self.err = io.StringIO()
        self.document: object = None

    def write(self, text: str) -> None:
        self.out.write(text)

    def write_bytes(self, data: bytes) -> None:
        self.out.write(data.decode())

    def data(self, value: object) -> None:
        self.document = json.loads(json.dumps(value))

    def say(self, text: str) -> None:
        self.err.write(text + "\n")


@pytest.fixture
def filled(database: Database) -> Database:
    database.execute(SET_UP)
    return database


@pytest.fixture(autouse=True)
def _straight_to_the_server(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the client: its endpoint is the server itself."""
    monkeypatch.setattr("bastion.protocols.postgres.conversation._USER", "postgres")


def ran(
    database: Database, *steps: str | Path, terminal: bool = False, **options: object
) -> tuple[int, str, str, object]:
    told = Told()
    told.terminal = terminal  # type: ignore[misc]
    address = LoopbackAddress(database.name, str(database.server.directory), database.server.port)
    parsed = tuple(Step(path=str(s)) if isinstance(s, Path) else Step(text=s) for s in steps)
    request = ConnectRequest(address, told, steps=parsed, **options)  # type: ignore[arg-type]
    return run(request), told.out.getvalue(), told.err.getvalue(), told.document


def psql(database: Database, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["psql", "-X", *arguments, database.dsn()], input=stdin, capture_output=True, text=True, check=False
    )


QUERIES = (
    "select * from t order by id",
    "select id from t where false",
    "select",
    "select 1 as \"two\nlines\", 'x' as x",
    "select name, n from t order by id; select 1",
    "update t set note = note",
    "select array['a', null, 'b'], row(1, 'x'), true, null, ''",
    "select repeat('x', 200) as wide",
)


@pytest.mark.parametrize(
    ("form", "flags"), [("aligned", []), ("unaligned", ["-A"]), ("csv", ["--csv"])], ids=["aligned", "unaligned", "csv"]
)
@pytest.mark.parametrize("tuples_only", [False, True], ids=["whole", "tuples"])
@pytest.mark.parametrize("query", QUERIES)
def test_rows_look_as_psql_shows_them(
    filled: Database, query: str, form: str, flags: list[str], tuples_only: bool
) -> None:
    status, out, _, _ = ran(filled, query, form=form, tuples_only=tuples_only)
    expected = psql(filled, *flags, *(["-t"] if tuples_only else []), "-c", query)
    assert (status, out) == (expected.returncode, expected.stdout)


def test_expanded_rows_look_as_psql_shows_them(filled: Database, tmp_path: Path) -> None:
    file = tmp_path / "x.sql"
    file.write_text("\\x\nselect * from t order by id;\nselect id from t where false;\n\\x off\nselect 1 as a \\gx\n")
    status, out, _, _ = ran(filled, file)
    expected = psql(filled, "-q", "-f", str(file))
    assert (status, out) == (expected.returncode, expected.stdout)


SCRIPTS = {
    "fine": "select 1;\nselect 2;\n",
    "error": "select 1;\nselect 1/0;\nselect 2;\n",
    "stopping": "\\set ON_ERROR_STOP on\nselect 1;\nselect 1/0;\nselect 2;\n",
    "unfinished": "select 1;\nselect 3",
    "copy in": "create temp table c (a int, b text);\n"
    "copy c from stdin;\n1\tx\n2\ty\n\\.\nselect * from c order by a;\n",
    "copy out": "copy t to stdout with (format csv);\nselect 1;\n",
    "bad copy": "create temp table c (a int);\ncopy c from stdin;\nx\n\\.\nselect 4;\n",
    "quit": "select 1;\n\\q\nselect 2;\n",
    "echo": "\\echo hello there\n",
    "transaction": "begin;\nselect 1/0;\nselect 2;\nrollback;\nselect 3;\n",
    "unknown": "\\nonsense\nselect 1;\n",
}


@pytest.mark.parametrize("stop", [False, True], ids=["going on", "stopping"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_end_as_psql_ends_them(filled: Database, tmp_path: Path, name: str, stop: bool) -> None:
    file = tmp_path / "script.sql"
    file.write_text(SCRIPTS[name])
    status, out, err, _ = ran(filled, file, stop_on_error=stop)
    expected = psql(filled, *(["-v", "ON_ERROR_STOP=1"] if stop else []), "-f", str(file))
    assert (status, out) == (expected.returncode, expected.stdout)
    assert bool(err) == bool(expected.stderr)


@pytest.mark.parametrize("commands", [["select 1"], ["select 1/0"], ["select 1/0", "select 2"], ["select 1", "\\bad"]])
@pytest.mark.parametrize("stop", [False, True])
def test_commands_end_as_psql_ends_them(database: Database, commands: list[str], stop: bool) -> None:
    status, out, _, _ = ran(database, *commands, stop_on_error=stop)
    flags = [word for command in commands for word in ("-c", command)]
    expected = psql(database, *(["-v", "ON_ERROR_STOP=1"] if stop else []), *flags)
    assert (status, out) == (expected.returncode, expected.stdout)


@pytest.mark.parametrize(
    "setting",
    ["set ON_ERROR_ROLLBACK on", "set QUIET 1", "set VERBOSITY verbose", "set ECHO all", "pset pager always"],
)
def test_a_setting_that_would_have_no_effect_is_not_taken(database: Database, tmp_path: Path, setting: str) -> None:
    file = tmp_path / "script.sql"
    file.write_text(f"\\{setting}\nselect 1;\n")
    status, out, err, _ = ran(database, file, stop_on_error=True)
    assert (status, out) == (3, "")
    assert "expected" in err or "only ON_ERROR_STOP" in err


def test_a_missing_file_and_a_missing_server(database: Database, tmp_path: Path) -> None:
    assert ran(database, tmp_path / "none")[0] == psql(database, "-f", str(tmp_path / "none")).returncode == 1
    gone = Database(SimpleNamespace(directory=tmp_path, port=1), "x")  # type: ignore[arg-type]
    assert ran(gone, "select 1")[0] == 2


def test_a_lost_connection_is_status_two(database: Database) -> None:
    status, _, err, _ = ran(database, "select pg_terminate_backend(pg_backend_pid())", "select 1")
    assert status == 2
    assert "terminat" in err or "closed" in err


def test_files_include_files_and_no_circle_is_endless(database: Database, tmp_path: Path) -> None:
    (tmp_path / "inner.sql").write_text("select 'inner';\n")
    outer = tmp_path / "outer.sql"
    outer.write_text(f"\\i {tmp_path}/inner.sql\nselect 'outer';\n")
    assert ran(database, outer, form="unaligned", tuples_only=True)[1].split() == ["inner", "outer"]
    circle = tmp_path / "circle.sql"
    circle.write_text(f"\\i {circle}\n")
    assert "deep" in ran(database, circle)[2]


def test_copy_goes_through_files_of_this_side(filled: Database, tmp_path: Path) -> None:
    file = tmp_path / "it's.csv"
    quoted = str(file).replace("'", "''")
    status, out, _, _ = ran(
        filled,
        f"\\copy (select id, name from t where id in (1, 2) order by id) to '{quoted}' with (format csv)",
        "create table copied (id int, name text)",
        f"\\copy copied from '{quoted}' csv",
        "select count(*) from copied",
        form="unaligned",
        tuples_only=True,
    )
    assert (status, out.splitlines()[-1]) == (0, "2")
    assert file.read_text().splitlines()[0] == "1,one"
    assert "expected TABLE" in ran(filled, "\\copy t to program 'touch x'")[2]


def test_catalog_commands(filled: Database) -> None:
    status, out, _, _ = ran(filled, "\\dt", "\\d t")
    assert status == 0
    assert "public" in out
    assert "t_pkey" in out


def test_a_terminal_is_drawn_on_by_nobody(database: Database) -> None:
    hostile = "select E'\\x1b]0;owned\\x07\\u202e' as x, E'\\x1b[2J' as \"\x1b[1m\""
    for form in ("aligned", "unaligned", "csv"):
        _, out, _, _ = ran(database, hostile, f"copy ({hostile}) to stdout", form=form, terminal=True)
        assert all(c in "\n\t" or c.isprintable() for c in out), form


def test_a_pipe_gets_what_the_target_sent(database: Database) -> None:
    assert ran(database, "select E'\\x1b[1m'", form="unaligned", tuples_only=True)[1] == "\x1b[1m\n"


def test_json_has_types_errors_and_notices(filled: Database) -> None:
    status, out, _, document = ran(
        filled,
        "do $$begin raise notice 'hear me'; end$$",
        "select 1::int8 as a, true as b, 1.5::float8 as c, 'NaN'::float8 as d, null as e,"
        " '{\"x\": [1]}'::jsonb as f, 1.10 as g",
        "select 1/0",
        "copy t (id) to stdout",
        form="json",
    )
    assert (status, out) == (0, "")
    assert isinstance(document, dict)
    assert document["notices"][0]["message"] == "hear me"
    assert [c["type"] for c in document["results"][1]["columns"]] == [
        "int8",
        "bool",
        "float8",
        "float8",
        "text",
        "jsonb",
        "numeric",
    ]
    assert document["results"][1]["rows"] == [[1, True, 1.5, "NaN", None, {"x": [1]}, "1.10"]]
    assert document["results"][2]["error"]["sqlstate"] == "22012"
    assert document["results"][3]["copied"] == "1\n2\n3\n"


def test_nul_is_refused_here_and_not_cut_off(database: Database) -> None:
    assert "NUL" in ran(database, "select 1\0; drop table t")[2]


def test_a_refusal_of_the_gateways_is_understood() -> None:
    said = refused(Deny("no-schema-changes", 'say "please"'))
    assert said.denial() == ("no-schema-changes", 'say "please"')
    assert Message("ERROR", "42501", "permission denied for table t").denial() is None
    assert Message("ERROR", "42501", said.text).denial() is None


@pytest.mark.parametrize(("rule", "status"), [("no-schema-changes", 126), (EXPIRED, 124)])
def test_a_refusal_has_an_exit_status_for_programs(database: Database, rule: str, status: int) -> None:
    told = Told()
    address = LoopbackAddress(database.name, str(database.server.directory), database.server.port)
    request = ConnectRequest(address, told, steps=(Step(text="x"),), once=True)  # type: ignore[arg-type]
    script = Script(request)
    script._failed(refused(Deny(rule, "no")))
    assert script.run(()) == status
    script.close()


def refused(deny: Deny) -> Message:
    """Return what a client hears of a denial, by way of the bytes of the gateway."""
    body = refusal.denied(deny).encoded()
    assert body[0] == messages.ERROR_RESPONSE
    fields = {part[:1].decode(): part[1:].decode() for part in body[5:].split(b"\0") if part}
    return Message("ERROR", fields["C"], fields["M"], fields.get("D", ""), fields.get("H", ""))
