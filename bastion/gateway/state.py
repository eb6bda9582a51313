"""What the gateway was told: configuration and policy, read whole or not at all, and again when asked to."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bastion import config as configuration
from bastion import private
from bastion.config import Config
from bastion.errors import BastionError, ConfigError
from bastion.gateway.clock import Clock
from bastion.identity.keys import KeyCache
from bastion.identity.verification import TokenVerifier
from bastion.model.entry import Entry
from bastion.policy import document
from bastion.policy.document import Policy
from bastion.policy.marks import Problems
from bastion.protocols.contract import installed, load
from bastion.store.export import asciicast, json_lines
from bastion.store.reader import Reader, SessionRow, shown


@dataclass(slots=True)
class State:
    """Configuration, policy and verifier, changed together."""

    config: Config
    policy: Policy
    verifier: TokenVerifier
    environment: Mapping[str, str]
    loaded: datetime
    """When what is in force was read."""
    reload_error: str = ""
    """Why the last attempt to read them again failed; empty if it did not."""
    reloads: int = 0
    """How often it was tried."""

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str] | None = None) -> "State":
        """Read everything. Raises `ConfigError` with all that is wrong."""
        known = dict(os.environ) if environment is None else environment
        config, policy = _read(path, known)
        return cls(config, policy, _verifier(config), known, Clock().now())

    def reload(self) -> str:
        """Read everything again; keep what there is, and return why, if something is wrong."""
        self.reloads += 1
        try:
            config, policy = _read(self.config.path, self.environment)
            if (config.state_dir, config.runtime_dir) != (self.config.state_dir, self.config.runtime_dir):
                raise ConfigError("directories", expected="the ones it started with", found="others")
        except BastionError as error:
            self.reload_error = error.message
            return self.reload_error
        if config.issuer != self.config.issuer:
            self.verifier = _verifier(config)
        self.verifier.forget()
        self.config, self.policy, self.reload_error = config, policy, ""
        self.loaded = Clock().now()
        return ""


def exported(row: SessionRow, form: str, directory: Path) -> Iterator[str]:
    """Yield a recording's lines as `cast` or `jsonl`."""
    with Reader.open(directory) as reader:
        entries = reader.entries(row.id)
        if form == "jsonl":
            yield from json_lines(row, entries)
            return
        transcript = load(installed()[row.protocol].transcript)()
        yield from asciicast(row, transcript.moments(_shown(entries)))


def _shown(entries: Iterator[Entry]) -> Iterator[Entry]:
    return (shown(entry) for entry in entries)


def _read(path: Path, environment: Mapping[str, str]) -> tuple[Config, Policy]:
    try:
        # Whoever can write one of these files decides what everybody may do.
        config = configuration.load(path, environment, private.governing)
        kinds = configuration.kinds_of_mask()
        policy = document.load(
            config.policy_path, configuration.clauses(), config.targets, private.governing, kinds=kinds
        )
    except Problems as problems:
        raise configuration.first(problems) from None
    except OSError as error:
        raise ConfigError(str(error.filename), expected="a policy", found=error.strerror or "an error") from error
    return config, policy


def _verifier(config: Config) -> TokenVerifier:
    keys = KeyCache(config.issuer.issuer, config.issuer.keys_survive, time.monotonic)
    return TokenVerifier(config.issuer, keys, Clock().now)
