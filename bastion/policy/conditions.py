"""The `when` of a rule: a CEL expression over the identity, the target and the action.

Checked and type-checked at load. At run time an evaluation has three outcomes, and an error is never taken for one of
the other two: CEL returns errors as values whose text is truthy, so only the value True of type BOOL is a yes.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any

from cel_expr_python import cel

from bastion.model.action import Action, Resource
from bastion.model.identity import Identity
from bastion.model.target import Target

_ENVIRONMENT = None
_SIZE_AT_MOST = 4096
_NAMES = ("identity", "target", "action", "resource")


def _environment() -> Any:
    global _ENVIRONMENT
    if _ENVIRONMENT is None:
        _ENVIRONMENT = cel.NewEnv(variables=dict.fromkeys(_NAMES, cel.Type.DYN))
    return _ENVIRONMENT


class Condition:
    """One compiled expression. Raises `ValueError` for one that does not compile or cannot be a boolean."""

    def __init__(self, text: str) -> None:
        if len(text) > _SIZE_AT_MOST:
            raise ValueError(f"expected at most {_SIZE_AT_MOST} characters, found {len(text)}")
        self.text = text
        try:
            self._expression = _environment().compile(text)
        except Exception as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"expected a CEL expression, found one that does not compile: {said}") from None
        kind = self._expression.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            raise ValueError(f"expected a condition that is true or false, found one of type {kind.name()}")

    @cached_property
    def uses_arguments(self) -> bool:
        """Whether the outcome can differ between two executions of one form."""
        return "arguments" in self.text or "facts" in self.text

    def holds(self, identity: Identity, target: Target, action: Action, resource: Resource) -> bool | None:
        """Return what the condition says, or None if it could not be evaluated."""
        try:
            value = self._expression.eval(data=_values(identity, target, action, resource))
            if value.type() != cel.Type.BOOL:
                return None
            said = value.value()
        except Exception:  # the engine raises whatever it likes; an error has its own outcome here
            return None
        return said if isinstance(said, bool) else None


def _values(identity: Identity, target: Target, action: Action, resource: Resource) -> Mapping[str, object]:
    return {
        "identity": {
            "issuer": identity.issuer,
            "subject": identity.subject,
            "name": identity.name,
            "groups": sorted(identity.groups),
            "kind": str(identity.kind),
            "actor": identity.actor,
            "owner": identity.owner,
            "proven": _seconds(identity.proven),
        },
        "target": {"name": target.name, "protocol": target.protocol, "labels": dict(target.labels)},
        "action": {
            "verb": action.verb,
            "access": action.access.name.lower(),
            "text": action.text,
            "arguments": [a.hex() if isinstance(a, bytes) else a for a in action.arguments],
            "facts": dict(action.facts),
        },
        "resource": {
            "kind": resource.kind,
            "name": resource.name,
            "verb": resource.verb,
            "access": resource.access.name.lower(),
            "facts": dict(resource.facts),
        },
    }


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
