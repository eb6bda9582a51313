"""The hostile cases in SQL on a real server behind a real gateway: what they need, and what became of them."""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.kit.issuer import Issuer
from tests.kit.pgwire import Connection
from tests.kit.postgres import PASSWORD, Server
from tests.kit.rig import ENVIRONMENT, Person, Rig, target, until
from tests.kit.steps import Place, Run

CORPUS = Path(__file__).parents[1] / "corpus"
CASES: list[dict[str, Any]] = yaml.load((CORPUS / "attacks.yaml").read_text(), yaml.CSafeLoader)["cases"]
SQL = {case["id"]: case for case in CASES if case["family"] == "sql"}
MASK = {case["id"]: case for case in CASES if case["family"] == "mask"}

ALICE = Person("alice", ("engineers",))
APPROVER = Person("carol", ("sql-approvers",))

_TEMPLATE = "attacked"
_ROLES = f"""
do $$ begin
  create role gw_app login; create role gw_super login superuser; create role other_app; grant other_app to gw_app;
exception when duplicate_object then null; end $$;
do $$ begin create role gw_repl login replication; exception when duplicate_object then null; end $$;
alter role gw_app password '{PASSWORD}'; alter role gw_super password '{PASSWORD}';
alter role gw_repl password '{PASSWORD}';
"""
_EXTENSIONS = ("dblink", "pgcrypto", "file_fdw", "postgres_fdw", "adminpack", "tablefunc", "lo", "xml2", "pgrowlocks")


class Range:
    """A gateway with a target for each case, and the server where each case gets a database of its own."""

    def __init__(self, server: Server, rig: Rig) -> None:
        self.server = server
        self.rig = rig
        self.bystander = rig.wire(ALICE, "bystander")
        """A session that every case has to leave alone."""

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Make the database of one case."""
        self.server.execute(f'create database "{name}" template {_TEMPLATE} owner gw_app')
        try:
            yield name
        finally:
            self.server.execute(f'drop database "{name}" with (force)')

    def place(self, name: str, role: str, held: Callable[[str], None]) -> Place:
        """Return where a case runs."""
        return Place(
            socket=self.rig.socket,
            database=name,
            role=role,
            port=self.server.port,
            ticket=lambda: self.rig.ticket(ALICE, name),
            admin=lambda sql: self.admin(name, sql),
            held=held,
            running=lambda text: self._running(name, text),
        )

    def admin(self, database: str, sql: str) -> list[Any]:
        """Run something straight at the server, with every value as text."""
        with psycopg.connect(self.server.dsn(database), autocommit=True) as connection:
            rows = psycopg.RawCursor(connection).execute(sql)
            return [tuple(map(_text, row)) for row in rows.fetchall()] if rows.description else []

    def deny(self, approval: str) -> None:
        """Deny a request, so that its session goes on."""
        with self.rig.api(APPROVER) as api:
            found = api.get(f"approvals/{approval}").raise_for_status().json()
            api.post(f"approvals/{approval}/deny", digest=found["digest"], reason="").raise_for_status()

    def _running(self, database: str, text: str) -> None:
        query = "select 1 from pg_stat_activity where datname = %s and state = 'active' and query = %s"
        until(lambda: self.server.execute(query, (database, text)), "the statement to run")


@contextmanager
def firing_range(server: Server, issuer: Issuer, cases: Mapping[str, dict[str, Any]], policy: str) -> Iterator[Range]:
    """Set up the template database and a gateway under a policy of the corpus."""
    server.execute(_ROLES)
    server.execute(f"create database {_TEMPLATE} owner gw_app")
    # Not every server comes with all of them.
    available = {name for (name,) in server.execute("select name from pg_available_extensions")}
    for extension in available.intersection(_EXTENSIONS):
        server.execute(f"create extension {extension}", database=_TEMPLATE)
    grants = "alter schema public owner to gw_app; grant pg_read_all_stats to gw_app;"
    if "postgres_fdw" in available:
        grants += "grant usage on foreign data wrapper postgres_fdw to gw_app"
    server.execute(grants, database=_TEMPLATE)
    with psycopg.connect(server.dsn(_TEMPLATE, "gw_app"), autocommit=True) as connection:
        connection.execute((CORPUS / "fixture.sql").read_text())
    server.execute(f"create database bystander template {_TEMPLATE}")
    targets = {"bystander": target(server, "bystander", "gw_app", labels={"policy": "sql_ro"})}
    for name, case in cases.items():
        label = {"sql_super": "sql_dev", "mask_pii": "sql_ro"}.get(case["policy"], case["policy"])
        labels = {"policy": label, **({"sleeps": "yes"} if case.get("policy_override") else {})}
        targets[name.lower()] = target(server, name.lower(), case["db_role"], labels=labels)
    policy_text = (CORPUS / "policies" / f"{policy}.yaml").read_text()
    try:
        with Rig(issuer, targets, policy_text, environment=ENVIRONMENT) as rig:
            made = Range(server, rig)
            with made.bystander:
                yield made
    finally:
        for name in ("bystander", _TEMPLATE):
            server.execute(f"drop database {name} with (force)")


@dataclass
class Outcome:
    """What became of one case."""

    verdict: str
    problems: list[str]


def played(range_: Range, case: dict[str, Any]) -> Outcome:
    """Play a case and return what is wrong with how it went: nothing, in the end."""
    name, expect = case["id"].lower(), case["expect"]
    problems: list[str] = []
    with range_.database(name):

        def effect(when: str) -> None:
            if "effect" in expect and (found := _effect(range_, name, expect["effect"])):
                problems.append(f"{when}: {found}")

        def held(approval: str) -> None:
            if case["kind"] == "attack":
                effect("while it was held")
            range_.deny(approval)

        runs: list[Run] = []
        try:
            for steps in case.get("variants", [case["steps"]]):
                runs.append(Run(range_.place(name, case["db_role"], held)))
                runs[-1].steps(steps)
            effect("afterwards")
        finally:
            for run in runs:
                run.close()
    for run in runs:
        if not _expected(run.verdict, expect["decision"]):
            problems.append(f"the verdict was {run.verdict}, not one of {expect['decision']}: {_said(run)}")
        problems += _shown(run, case)
    if not _alive(range_.bystander):
        problems.append("another session did not survive")
    return Outcome(runs[-1].verdict, problems)


def _expected(verdict: str, decisions: list[str]) -> bool:
    # What is masked runs; that it shows nothing is looked at by itself.
    return verdict in decisions or (verdict == "allow" and "mask" in decisions)


def _shown(run: Run, case: dict[str, Any]) -> list[str]:
    """Return what the client saw that it must not see, and the other way round."""
    expect = case["expect"]
    unseen = [text for text in expect.get("client_must_see", []) if text.encode() not in run.raw]
    seen = [text for text in expect.get("client_must_not_see", []) if _saw(run, case, text)]
    joined = b"".join(cell for m in run.messages for cell in m.row if cell is not None)
    seen += [text for text in expect.get("client_must_not_see_concatenated", []) if text.encode() in joined]
    return [f"the client saw {text!r}" for text in seen] + [f"the client did not see {text!r}" for text in unseen]


def _effect(range_: Range, name: str, effect: dict[str, Any]) -> str:
    found = range_.admin(name, effect["query"])[0][0]
    if "at_least" in effect and int(found) < effect["at_least"]:
        return f"{effect['query']} gives {found}, less than {effect['at_least']}"
    if "must_equal" in effect and found != effect["must_equal"]:
        return f"{effect['query']} gives {found}, not {effect['must_equal']}"
    return ""


def _saw(run: Run, case: dict[str, Any], text: str) -> bool:
    """Tell whether a forbidden value reached the client; where the client sent it itself, in data only."""
    cells = [cell for m in run.messages for cell in m.row if cell is not None]
    cells += [m.body for m in run.messages if m.type in "dVAS"]
    wanted = text.encode()
    forms = {wanted, wanted.hex().encode(), base64.b64encode(wanted)}
    if any(form in cell for cell in cells for form in forms):
        return True
    return text not in str(case["steps"]) and wanted in run.raw


def _said(run: Run) -> str:
    return "; ".join(f"{m.type} {m.fields.get('C')} {m.fields.get('M')}" for m in run.messages if m.type in "EN")[:600]


def _alive(connection: Connection) -> bool:
    return [m.row for m in connection.ask("select 'alive'") if m.type == "D"] == [[b"alive"]]


def _text(value: Any) -> str:
    return ("t" if value else "f") if isinstance(value, bool) else str(value)
