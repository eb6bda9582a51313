"""What people reach by name: a system behind the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CredentialSource:
    """Where the vault finds a target's credential. Holds a reference, never the secret."""

    kind: str
    """`env`, `file`, `command` or `secret`; `none` for a target that asks for nothing."""
    reference: tuple[str, ...] = ()
    """The variable, the path, the argument vector, or the name in the secret store."""


@dataclass(frozen=True, slots=True)
class Target:
    """A system that identities are admitted to."""

    name: str
    protocol: str
    host: str
    """Host name or address; an absolute path means a directory of unix sockets."""
    port: int
    user: str
    credential: CredentialSource
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    """What only the target's protocol understands, as its own settings model validated it."""
