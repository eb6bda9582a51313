"""`bastion doctor --leak-test` as an operator runs it."""

import json
import re
import signal
import subprocess
import sys

import pytest

from bastion.protocols.postgres.leaks.shapes import shapes
from tests.doctor.conftest import Operator
from tests.kit.postgres import PASSWORD
from tests.kit.rig import until

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_masks_hold(operator: Operator) -> None:
    status, out, err = operator.run("--leak-test", "tested", "--json", "--driver", "psycopg", "--driver", "asyncpg")
    assert status == 0, out + err
    told = json.loads(out)
    assert (told["ok"], told["target"], told["drivers"]) == (True, "tested", ["psycopg", "asyncpg"])
    assert len(told["shapes"]) == len(shapes())
    by_shape = {one["shape"]: one["outcomes"] for one in told["shapes"]}
    assert by_shape["star"]["asyncpg"] == {"outcome": "covered"}
    assert by_shape["open columns"]["psycopg"] == {"outcome": "shown"}
    assert by_shape["order"]["psycopg"]["outcome"] == "refused"
    assert told["counts"].keys() == {"covered", "refused", "shown"}
    assert PASSWORD not in out + err
    assert operator.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_schema_is_dropped_when_it_is_interrupted(operator: Operator, number: signal.Signals) -> None:
    with operator.start("--leak-test", "tested", "--driver", "psycopg") as process:
        until(lambda: _planted(operator), "the canaries")
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode not in (0, 1)
    assert operator.left() == []


def _planted(operator: Operator) -> bool:
    query = "select 1 from pg_class where relname = 'kept_open' and relispopulated"
    return bool(operator.server.execute(query, database=operator.database))


def test_what_to_do_is_said_where_the_target_went_away(operator: Operator) -> None:
    with operator.start("--leak-test", "tested", "--driver", "psycopg") as process:
        until(lambda: _planted(operator), "the canaries")
        operator.server.execute("alter role app_rw nologin")
        try:
            operator.server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app_rw' and datname = 'tested'"
            )
            _, err = process.communicate(timeout=60)
        finally:
            operator.server.execute("alter role app_rw login")
    assert process.returncode == 69
    assert "run this there as its owner: drop schema if exists bastion_leak_test_" in err
    (schema,) = operator.left()
    operator.server.execute(f"drop schema {schema} cascade", database=operator.database)


def test_target_without_the_label_is_left_alone(operator: Operator) -> None:
    operator.configure(labels={"env": "prod"})
    status, out, err = operator.run("--leak-test", "tested", "--driver", "psycopg")
    assert (status, out) == (77, "")
    assert '`leak-test: "yes"`, or give --yes' in err
    assert operator.left() == []


def test_yes_tests_it_all_the_same_with_a_credential_of_the_encrypted_store(operator: Operator) -> None:
    operator.configure(labels={"env": "prod"}, credential={"secret": "tested"})
    kept = subprocess.run(
        [sys.executable, "-m", "bastion", "secret", "set", "tested"],
        input=PASSWORD,
        text=True,
        env=operator.environment({}),
        check=True,
        capture_output=True,
    )
    assert kept.returncode == 0
    status, out, err = operator.run("--leak-test", "tested", "--yes", "--driver", "asyncpg portal")
    assert status == 0, out + err
    assert err.startswith("testing tested with asyncpg portal")
    assert re.search(r"^SHAPE +ASYNCPG PORTAL$", out, re.MULTILINE)
    assert re.search(r"^star +covered$", out, re.MULTILINE)
    assert out.splitlines()[-1].endswith("the masks hold")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--leak-test", "nowhere"], 2, "there is no target named nowhere"),
        (["--leak-test", "tested", "--driver", "jdbc"], 2, "there is no driver named jdbc"),
    ],
)
def test_what_cannot_be_meant_is_said(operator: Operator, arguments: list[str], status: int, told: str) -> None:
    found = operator.run(*arguments)
    assert found[0] == status
    assert told in found[2]
    assert operator.left() == []


def test_without_psql_it_is_not_run_and_cannot_be_asked_for(operator: Operator) -> None:
    without = {"PATH": "/nonexistent"}
    status, _, err = operator.run("--leak-test", "tested", "--driver", "psql", more=without)
    assert (status, "this machine has no psql" in err) == (2, True)


def test_unreachable_target_is_an_error_and_not_a_pass(operator: Operator) -> None:
    operator.configure(address="127.0.0.1:9")
    status, out, err = operator.run("--leak-test", "tested", "--driver", "psycopg")
    assert (status, out) == (69, "")
    assert "Connection refused" in err
    # Nothing was planted, so nothing is to be taken away.
    assert "drop schema" not in err
