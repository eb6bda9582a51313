"""The leak test of a target: a gateway of its own in front of it, canaries behind it, and every way to get at them.

Nothing of the operator's gateway, policy or recordings is used or touched; only the target is the real one.
"""

import os
import shutil
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from bastion import config as configuration
from bastion import private
from bastion.client import starting
from bastion.client.gateway import Gateway
from bastion.config import Config
from bastion.demo.accounts import Account
from bastion.demo.cluster import short_directory
from bastion.demo.gateway import Place
from bastion.demo.idp import IdentityProvider
from bastion.demo.issuing import AUDIENCE, CLIENT_ID
from bastion.doctor.report import Report
from bastion.errors import AccessRefused, BastionError, ConfigError, GatewayError, TargetError, UsageError
from bastion.model.target import Target
from bastion.policy.marks import Problems
from bastion.protocols.clientside import PLANTER, PROBER, IssuedTicket, LeakTest, Tried
from bastion.protocols.contract import installed, load
from bastion.vault.secrets import SecretStore

LABEL: Final = "leak-test"
"""The label of targets that may be tested; its value there is `yes`."""
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ACCOUNTS: Final = {
    who: Account(who, who, f"{who}@example.com", (), role)
    for who, role in ((PLANTER, "plants canaries"), (PROBER, "looks for them"))
}


@dataclass
class LeakTesting:
    """One run of the leak test: planted while the `with` block of `planted` runs."""

    target: Target
    config: Config
    kind: type[LeakTest]
    test: LeakTest = field(init=False)

    @classmethod
    def of(cls, name: str, path: Path, *, yes: bool) -> "LeakTesting":
        """Return the test of a target of the configuration at `path`.

        Raises `UsageError` for one that is not known or has no such test, and `AccessRefused` for one whose labels do
        not say that it is there to be tested, unless `yes` says so.
        """
        try:
            config = configuration.load(path, os.environ, private.governing)
        except Problems as problems:
            raise configuration.first(problems) from None
        target = config.targets.get(name)
        if target is None:
            raise UsageError(f"there is no target named {name}", hint=f"known are: {', '.join(sorted(config.targets))}")
        leaks = installed()[target.protocol].client.leaks
        if not leaks:
            raise UsageError(f"{name} speaks {target.protocol}, for which there is no leak test")
        if target.labels.get(LABEL) != "yes" and not yes:
            raise AccessRefused(
                f"the labels of {name} do not say that it may be tested: the test makes a schema there and drops it",
                hint=f'label it `{LABEL}: "yes"`, or give --yes',
            )
        return cls(target, config, load(leaks))

    @contextmanager
    def planted(self) -> Iterator["LeakTesting"]:
        """Start everything and plant the canaries; take them away and stop everything afterwards, however it ends.

        Raises `TargetError` where they could not be taken away, which says what to run by hand.
        """
        with ExitStack() as stack:
            home = short_directory("bastion-doctor-")
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            self._place = Place(home / "gateway")
            self._provider = stack.enter_context(IdentityProvider({}))
            self._keep_credential()
            directory = home / "tap"
            directory.mkdir(mode=0o700)
            self.test = self.kind(self._ticket, directory)
            self._configure([])
            stack.enter_context(self._place.start(self._environment()))
            try:
                self.test.plant()
                self._configure(self._masks())
                self._reload()
                yield self
            finally:
                if self.test.planted:
                    self._remove()

    def attempts(self, drivers: Sequence[str]) -> Generator[Tried, None, None]:
        """Try everything."""
        yield from self.test.attempts(drivers)

    def chosen(self, wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the drivers to use, and why others are not; all there are unless some are `wanted`.

        Raises `UsageError` for a wanted one that is unknown or cannot be used here.
        """
        missing = dict(self.kind.missing())
        for name in wanted:
            if name not in self.kind.drivers:
                known = ", ".join(self.kind.drivers)
                raise UsageError(f"there is no driver named {name}", hint=f"known are: {known}")
            if name in missing:
                raise UsageError(f"{name} cannot be used: {missing[name]}")
        names = [name for name in self.kind.drivers if name not in missing and (not wanted or name in wanted)]
        return names, {} if wanted else missing

    def report(self, drivers: Sequence[str], missing: dict[str, str]) -> Report:
        """Return an empty report."""
        return Report(self.target.name, tuple(drivers), missing)

    def _remove(self) -> None:
        """Take the canaries away; another Ctrl-C has to wait for that."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDINGS}
        try:
            # Without masks, none of which may then name what is gone.
            self._configure([])
            self._reload()
            self.test.remove()
        except BastionError as error:
            raise TargetError(
                f"what was planted at {self.target.name} could not be taken away: {error.message}",
                hint=f"run this there as its owner: {self.test.removal}",
            ) from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _masks(self) -> list[dict[str, object]]:
        _, masks = self.test.rules(PLANTER, PROBER)
        return [{**mask, "unless": {"subjects": [PLANTER]}, "predicates": "deny"} for mask in masks]

    def _configure(self, masks: list[dict[str, object]]) -> None:
        """Write the files of the gateway; with no masks as long as there is nothing that they could name."""
        rules, _ = self.test.rules(PLANTER, PROBER)
        policy: dict[str, object] = {"version": 1, "rules": rules}
        if masks:
            policy["masks"] = masks
        identity = {
            "issuer": self._provider.url,
            "client_id": CLIENT_ID,
            "audience": AUDIENCE,
            "groups_claim": "groups",
        }
        document = {"identity": identity, "targets": {self.target.name: self._settings()}}
        self._place.configure(yaml.safe_dump(document), yaml.safe_dump(policy))

    def _settings(self) -> Any:
        """Return what the operator's configuration says of the target, as it stands there."""
        return yaml.safe_load(private.governing(self.config.path))["targets"][self.target.name]

    def _keep_credential(self) -> None:
        """Hand a credential of the encrypted store on, by the name that the target's settings refer to."""
        source = self.target.credential
        if source.kind == "secret":
            (name,) = source.reference
            SecretStore(self._place.state / "secrets").put(name, SecretStore(self.config.secrets_path).reveal(name))

    def _environment(self) -> dict[str, str]:
        """Return the variable that holds the credential, where one does."""
        source = self.target.credential
        if source.kind != "env":
            return {}
        (name,) = source.reference
        if name not in os.environ:
            raise ConfigError(name, expected=f"the credential of {self.target.name}", found="no such variable")
        return {name: os.environ[name]}

    def _ticket(self, who: str) -> IssuedTicket:
        granted = self._provider.issuer.grant
        found = Gateway(self._place.runtime, lambda: granted(_ACCOUNTS[who])).ticket(
            self.target.name, reason="leak test", client="bastion doctor"
        )
        return IssuedTicket(
            str(found["ticket"]), str(found["target"]), Path(str(found["directory"])), int(found["port"])
        )

    def _reload(self) -> None:
        found = starting.reload(Gateway(self._place.runtime, str))
        if found.get("policy_error"):
            raise GatewayError(f"the policy of the leak test does not load: {found['policy_error']}")
