"""What somebody attempts, in words that all protocols share."""

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

Argument: TypeAlias = bytes | str | None
"""A bound value as it travels: bytes in a binary format, text otherwise, None for null."""


class Access(enum.IntEnum):
    """How much an action can change, mildest first. What we cannot read, we treat as the worst."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class Resource:
    """One effect of an action on one thing.

    A policy judges each resource of an action: one that a `deny` rule matches denies the whole action,
    one that a `hold` rule matches holds it, and one that no rule allows denies it.
    """

    kind: str
    """What the thing is: `relation`, `function`, `setting`, `file`, `program`, `path` …"""
    name: str
    """Its full name in its own protocol's spelling, for instance `public.users`."""
    verb: str
    """What is done to it, in lower case: `select`, `delete`, `call` …"""
    access: Access = Access.UNKNOWN
    facts: Mapping[str, object] = field(default_factory=dict)
    """What else a rule may ask about it, such as `columns` or `selective`; JSON values only."""


@dataclass(frozen=True, slots=True)
class Action:
    """One attempt. Built by a protocol's `classify`, judged by the policy, shown to approvers, recorded."""

    protocol: str
    verb: str
    """The worst thing it does, in one word of its protocol, lower case."""
    text: str
    """What was asked, whole, as the target will read it."""
    resources: tuple[Resource, ...]
    arguments: tuple[Argument, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    """What else decides how the target will read it (parameter types and formats, session settings); JSON only."""
    secret: bool = False
    """Whether `text` or `arguments` carry a secret: then only `shown` may be stored or displayed."""
    shown: str = ""
    """The text with its secrets struck out, where `secret` is set."""
    form: "Action | None" = field(default=None, compare=False, repr=False)
    """The action without its arguments that this one was made from; judging caches by its identity."""

    @property
    def access(self) -> Access:
        """The worst thing this does; UNKNOWN when it names no resource."""
        return max((r.access for r in self.resources), default=Access.UNKNOWN)

    @property
    def safe_text(self) -> str:
        """The text that may be stored and shown: without its secrets."""
        return self.shown if self.secret else self.text

    def called_with(self, arguments: tuple[Argument, ...], facts: Mapping[str, object] | None = None) -> Self:
        """Return the same action with arguments bound, remembering this one as its form."""
        # Spelled out: this runs for every execution, and `dataclasses.replace` costs several times as much.
        return type(self)(
            self.protocol,
            self.verb,
            self.text,
            self.resources,
            arguments,
            self.facts if facts is None else facts,
            self.secret,
            self.shown,
            self.form or self,
        )

    def digest(self) -> str:
        """Return the SHA-256, in hex, of everything that decides what the target will do.

        Injective: every part is encoded with its type and length, so no two different actions share an encoding.
        """
        parts: list[object] = [self.protocol, self.verb, self.text]
        parts += [[r.kind, r.name, r.verb, int(r.access), dict(r.facts)] for r in self.resources]
        parts.append([_tagged(a) for a in self.arguments])
        parts.append(dict(self.facts))
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _tagged(argument: Argument) -> list[str]:
    """Return an argument in a JSON form that keeps text, bytes and null apart."""
    match argument:
        case None:
            return ["n"]
        case bytes():
            return ["b", argument.hex()]
        case str():
            return ["t", argument]
