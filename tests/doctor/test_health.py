"""`bastion doctor` without an option."""

import json

import pytest

from tests.doctor.conftest import Operator

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_a_new_set_up_is_sound(operator: Operator) -> None:
    status, out, err = operator.run("--json")
    assert status == 0, err
    told = {one["what"]: one for one in json.loads(out)["findings"]}
    assert told["program"]["found"].endswith("the loops over rows are not compiled")
    assert told["configuration"]["found"].endswith("with a policy of 1 rules and masks")
    assert told["gateway"]["found"].startswith("none runs")
    assert told["recordings"]["found"] == "there are none yet"
    assert told["login"]["found"] == "nobody is logged in"


def test_mistake_in_the_policy_is_wrong(operator: Operator) -> None:
    (operator.home / "policy.yaml").write_text("version: 1\nrules:\n  - {name: x, effect: maybe}\n")
    status, out, err = operator.run()
    assert status == 1
    assert "WRONG: " in out
    assert "bastion policy check" in err
