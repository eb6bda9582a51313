"""Commands about the policy: whether it holds together, and what it says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bastion.cli.output import OUT
from bastion.cli.reach import Json, TargetName, TokenFile, reach

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

_BROKEN = 78


@app.callback()
def policy() -> None:
    """Check the policy and explain its verdicts."""


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A policy file or directory; the configured one otherwise.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the configuration and a policy, and point at each mistake.

    Each line says file, line and column, what was expected and what was found. A rule that could never match is a
    mistake too. Nothing is changed; exits with 78 when there is a mistake.
    """
    from bastion.cli.checking import checked

    problems, rules = checked(path)
    if as_json:
        OUT.data({"ok": not problems, "rules": rules, "problems": problems})
    else:
        for problem in problems:
            OUT.line(str(problem["text"]))
            if problem["hint"]:
                OUT.line(f"  {problem['hint']}")
        if not problems:
            OUT.line(f"{rules} rules and masks, no mistake")
    if problems:
        raise typer.Exit(_BROKEN)


@app.command()
def explain(
    target: TargetName,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The statement.")],
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Say what the policy would answer, by which rule, and why the others did not decide.

    The gateway reads the statement as it would in a session of yours, and runs nothing.
    """
    found = reach(token_file).explain(target, text)
    if as_json:
        OUT.data(found)
        return
    _verdict(found.get("verdict") or {})
    _understood(found.get("understood") or {})
    OUT.line()
    OUT.heading("rules")
    OUT.table(
        ("RULE", "EFFECT", "DECIDED", "WHY"),
        [(r.get("name"), r.get("effect"), r.get("decided"), r.get("why")) for r in found.get("rules", ())],
        empty="the policy has no rule",
    )


def _verdict(verdict: Mapping[str, Any]) -> None:
    demands = verdict.get("demands") or ()
    wanted = [f"{d.get('votes')} of {' or '.join(d.get('approvers', ()))} ({d.get('rule')})" for d in demands]
    OUT.fields(
        [
            ("verdict", verdict.get("is")),
            ("by", verdict.get("rule") or ", ".join(verdict.get("rules") or ())),
            ("reason", verdict.get("reason")),
            ("wants", "; ".join(wanted)),
            ("masks", verdict.get("masks")),
        ]
    )


def _understood(understood: Mapping[str, Any]) -> None:
    from bastion.cli.requests import described

    OUT.line()
    OUT.heading(f"understood as {understood.get('verb')} ({understood.get('access')})")
    for resource in understood.get("resources", ()):
        OUT.line(f"    {described(resource)}")
