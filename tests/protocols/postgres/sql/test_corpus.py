"""Everything that ever got through, or might, and everything that ordinary tools send."""

import json
from typing import Any

import psycopg
import pytest
import yaml

from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from tests.protocols.postgres.sql.conftest import CORPUS
from tests.protocols.postgres.sql.conversation import Conversation
from tests.protocols.postgres.sql.policies import POLICIES, READ, worst

CASES = yaml.safe_load((CORPUS / "attacks.yaml").read_text())["cases"]
MORE = yaml.safe_load((CORPUS / "sql_attacks.yaml").read_text())
HARMLESS = json.loads((CORPUS / "harmless_sql.json").read_text())

NOT_IN_THE_TEXT = {
    "SQL-P-009": "decided at start-up",
    "SQL-P-011": "decided at start-up",
    "SQL-P-054": "a budget of writes, kept where executions are counted",
    "SQL-P-059": "maps follow the server's answers",
    "SQL-P-060": "maps follow the server's answers",
    "SQL-P-063": "what follows a failed COPY is the wire's",
    **{f"SQL-P-{n:03}": "a message, or the start-up packet" for n in range(64, 77)},
}
"""Cases whose decision lies elsewhere than in what a text means."""


def _texts(family: str) -> list[Any]:
    """Return the cases whose decision lies in the text. Those that masking decides are not refused by their text."""
    found = []
    for case in CASES:
        if case["family"] != family or case["id"] in NOT_IN_THE_TEXT:
            continue
        if not any({"q", "parse", "batch", "q_hex", "q_repeat", "msg"} & step.keys() for step in case["steps"]):
            continue
        if "mask" in case["expect"]["decision"]:
            continue
        found.append(pytest.param(case, id=case["id"]))
    return found


def _played(case: dict[str, Any], analyst: CatalogAnalyst) -> str:
    conversation = Conversation(analyst, POLICIES[case["policy"]])
    for step in case["steps"]:
        conversation.play(step)
    return worst(conversation.decisions)


@pytest.mark.parametrize("case", _texts("sql"))
def test_case_is_decided_as_expected(
    case: dict[str, Any], analyst: CatalogAnalyst, super_analyst: CatalogAnalyst
) -> None:
    reader = super_analyst if case["policy"] == "sql_super" else analyst
    assert _played(case, reader) in case["expect"]["decision"]


@pytest.mark.parametrize("case", _texts("mask"))
def test_masking_case_that_its_text_decides(case: dict[str, Any], analyst: CatalogAnalyst) -> None:
    decision = _played(case, analyst)
    if case["kind"] == "control":
        assert decision == "allow"
    else:
        assert decision in case["expect"]["decision"]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["name"]) for c in MORE["attacks"]])
def test_trick_does_not_get_through(case: dict[str, Any], analyst: CatalogAnalyst) -> None:
    conversation = Conversation(analyst, POLICIES[case["policy"]])
    for text in case["sql"]:
        conversation.say(text)
    assert worst(conversation.decisions) == case["expect"]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["sql"][0][:60]) for c in MORE["harmless"]])
def test_harmless_inverse_passes(case: dict[str, Any], analyst: CatalogAnalyst) -> None:
    conversation = Conversation(analyst, POLICIES[case["policy"]])
    for text in case["sql"]:
        assert conversation.say(text) == "allow", text


def test_what_ordinary_tools_send_passes_under_a_plain_read_rule(analyst: CatalogAnalyst, dsn: str) -> None:
    """psql's \\d family, pg_dump, pgcli's completion, SQLAlchemy's reflection, preambles of drivers.

    They were heard at a 15 and an 18; what another server takes of them has to pass there as well.
    """
    major = analyst.catalog.version // 10000
    conversation = Conversation(analyst, READ)
    with psycopg.connect(dsn) as connection:
        sent = [one for one in HARMLESS if one["server"] == major or _takes(connection, one["sql"])]
    assert len(sent) > 200
    assert [(one["tool"], one["sql"]) for one in sent if conversation.say(one["sql"]) != "allow"] == []


def _takes(connection: psycopg.Connection[Any], text: str) -> bool:
    result = connection.pgconn.prepare(b"", text.encode())
    connection.rollback()
    return result.status == psycopg.pq.ExecStatus.COMMAND_OK
