"""The configuration and the policy that README.md and the manual show: both load as they stand there."""

import re
from pathlib import Path

import pytest

from bastion import config
from bastion.policy import document
from tests import man

README = (Path(__file__).parent.parent / "README.md").read_text()
SHOWN = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
EXAMPLES = {"README.md": (SHOWN[0], SHOWN[1]), "man": (man.CONFIGURATION, man.POLICY)}


@pytest.mark.parametrize("where", EXAMPLES)
def test_what_is_shown_loads(where: str, tmp_path: Path) -> None:
    configuration, policy = EXAMPLES[where]
    (tmp_path / "bastion.yaml").write_text(configuration)
    (tmp_path / "policy.yaml").write_text(policy)
    loaded = config.load(tmp_path / "bastion.yaml", {"HOME": str(tmp_path)})
    found = document.load(loaded.policy_path, config.clauses(), loaded.targets, kinds=config.kinds_of_mask())
    assert len(found.rules) == 3
    assert len(found.masks) == 2
