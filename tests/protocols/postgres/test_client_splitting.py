"""Where a script is cut, with PostgreSQL's own scanner and psql as the oracles."""

import subprocess
from pathlib import Path

import postgast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.protocols.postgres.splitting import Command, Splitter, Statement
from tests.kit.postgres import Database


def cut(text: str) -> list[str]:
    """Return statements without their semicolons, and commands."""
    splitter, found = Splitter(), []
    for line in text.splitlines(keepends=True):
        found += splitter.feed(line)
    if (rest := splitter.finish()) is not None:
        found.append(rest)
    return [piece.text.removesuffix(";") if isinstance(piece, Statement) else piece.text for piece in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        ("select ';'; select \";\"", ["select ';'", 'select ";"']),
        ("select 'it''s; fine'; x", ["select 'it''s; fine'", "x"]),
        ("select '\\'; select 2", ["select '\\'", "select 2"]),
        ("select e'\\'; select 2'", ["select e'\\'; select 2'"]),
        ("select type'\\'; select 2", ["select type'\\'", "select 2"]),
        ("select $$a;b$$; x", ["select $$a;b$$", "x"]),
        ("select $t$a;$$;b$t$; x", ["select $t$a;$$;b$t$", "x"]),
        ("select $1; select a$b; select c$$;", ["select $1", "select a$b", "select c$$"]),
        ("/* ; /* ; */ ; */ select 1; x", ["/* ; /* ; */ ; */ select 1", "x"]),
        ("select 1 -- ; no\n; x", ["select 1 -- ; no\n", "x"]),
        (
            "create rule r as on insert to t do (select 1; select 2); x",
            ["create rule r as on insert to t do (select 1; select 2)", "x"],
        ),
        (
            "create function f() returns int begin atomic select 1; select case when true then 2 end; end; x",
            ["create function f() returns int begin atomic select 1; select case when true then 2 end; end", "x"],
        ),
        ("begin; select 1; end;", ["begin", "select 1", "end"]),
        (";;; ;", []),
        ("-- nothing\n/* here */\n", []),
        ("\\echo a; b\nselect 1;", ["\\echo a; b", "select 1"]),
        ("select 1 \\g\nselect 2;", ["\\g", "select 1 \nselect 2"]),
        ("select 'a\n\\d\n'; x", ["select 'a\n\\d\n'", "x"]),
    ],
)
def test_where_a_script_is_cut(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


def test_a_command_tells_what_stood_before_it() -> None:
    splitter = Splitter()
    assert splitter.feed("select 1\n") == []
    assert splitter.feed("  \\gx\n") == [Command("\\gx", 2, "select 1")]
    splitter.forget()
    assert splitter.finish() is None


PIECES = (
    "select",
    " 1",
    ";",
    "\n",
    "'",
    '"',
    "$$",
    "$a$",
    "--",
    "/*",
    "*/",
    "(",
    ")",
    "e'",
    "\\'",
    " x ",
    "create",
    "$1",
    "é",
)


@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_statements_are_those_that_postgresql_sees(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        oracle = postgast.split(text, method="scanner")
    except postgast.PgQueryError:
        return
    found, expected = cut(text), [part.strip() for part in oracle]
    # The scanner leaves out what has no keyword, and knows neither backslash commands nor psql's parentheses.
    if set(text) & set("()") or not all(_core(piece).startswith("select ") for piece in found if _core(piece)):
        return
    assert [_core(part) for part in found] == [_core(part) for part in expected if _core(part)]


def _core(text: str) -> str:
    """Return a statement without the comments around it, about which the two need not agree."""
    return text.strip().strip(";").strip()


@given(st.text(alphabet="ab'\"$;\\\n-/*() e", max_size=60), st.data())
def test_nothing_is_lost(text: str, data: st.DataObject) -> None:
    splitter, found = Splitter(), ""
    for line in text.splitlines(keepends=True):
        for piece in splitter.feed(line):
            if isinstance(piece, Statement):
                found += piece.text
            else:
                found += piece.pending + piece.text
                splitter.forget()
    found += splitter.pending
    assert "".join(found.split()).replace(";", "") == "".join(text.split()).replace(";", "")


def test_psql_cuts_the_same_script_the_same_way(database: Database, tmp_path: Path) -> None:
    script = (
        "select 'a;b', $x$c;d$x$ -- e;f\n;\nselect 1; select 2 /* ; */;\n"
        "create function pg_temp.f() returns int language sql begin atomic select 1; select 2; end;\n"
        "select pg_temp.f();select\n3"
    )
    file = tmp_path / "script.sql"
    file.write_text(script)
    done = subprocess.run(
        ["psql", "-X", "-At", "-f", str(file), database.dsn()], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == len(cut(script))
