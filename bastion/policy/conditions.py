"""The `when` of a rule: a CEL expression over the identity, the target, the action and one resource of it.

Compiled and type-checked at load: every name is declared with its type, so a misspelt one does not compile. At run time
an evaluation has three outcomes, and an error is never taken for one of the other two: CEL returns errors as values
whose text is truthy, so only the value True of type BOOL is a yes.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cel_expr_python import cel

from bastion.model.action import Action, Resource
from bastion.model.identity import Identity
from bastion.model.target import Target
from bastion.policy.validation import suggestion

_SIZE_AT_MOST = 4096
_ARGUMENTS = "action.arguments"
_FACTS = "action.facts"
_OBJECT = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)

_STANDING: Mapping[str, tuple[cel.Type, Callable[[Identity, Target], object]]] = {
    "identity.issuer": (cel.Type.STRING, lambda identity, _: identity.issuer),
    "identity.subject": (cel.Type.STRING, lambda identity, _: identity.subject),
    "identity.name": (cel.Type.STRING, lambda identity, _: identity.name),
    "identity.groups": (cel.Type.List(cel.Type.STRING), lambda identity, _: sorted(identity.groups)),
    "identity.kind": (cel.Type.STRING, lambda identity, _: str(identity.kind)),
    "identity.actor": (cel.Type.STRING, lambda identity, _: identity.actor),
    "identity.owner": (cel.Type.STRING, lambda identity, _: identity.owner),
    "identity.proven": (cel.Type.TIMESTAMP, lambda identity, _: identity.proven),
    "target.name": (cel.Type.STRING, lambda _, target: target.name),
    "target.protocol": (cel.Type.STRING, lambda _, target: target.protocol),
    "target.labels": (cel.Type.Map(cel.Type.STRING, cel.Type.STRING), lambda _, target: dict(target.labels)),
}
"""What stays the same for a whole session."""
_ASKED: Mapping[str, tuple[cel.Type, Callable[[Action, Resource], object]]] = {
    "action.verb": (cel.Type.STRING, lambda action, _: action.verb),
    "action.access": (cel.Type.STRING, lambda action, _: action.access.name.lower()),
    "action.text": (cel.Type.STRING, lambda action, _: action.text),
    _FACTS: (_OBJECT, lambda action, _: dict(action.facts)),
    _ARGUMENTS: (cel.Type.List(cel.Type.DYN), lambda action, _: list(action.arguments)),
    "resource.kind": (cel.Type.STRING, lambda _, resource: resource.kind),
    "resource.name": (cel.Type.STRING, lambda _, resource: resource.name),
    "resource.verb": (cel.Type.STRING, lambda _, resource: resource.verb),
    "resource.access": (cel.Type.STRING, lambda _, resource: resource.access.name.lower()),
    "resource.facts": (_OBJECT, lambda _, resource: dict(resource.facts)),
}
"""What is asked anew for each resource of each action."""
_TYPES: Mapping[str, cel.Type] = {
    **{name: kind for name, (kind, _) in _STANDING.items()},
    **{name: kind for name, (kind, _) in _ASKED.items()},
}
_TEXT = "action.text"
_WITHOUT = (frozenset({_ARGUMENTS, _FACTS, _TEXT}), frozenset({_ARGUMENTS}), frozenset[str]())
"""What is kept from a condition, most first. What it cannot name it cannot depend on, however it is written."""
_DIAGNOSIS = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")


class Uncompilable(ValueError):
    """A text that is not a condition: what was expected of it, what was found, and what may have been meant."""

    def __init__(self, expected: str, found: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found
        self.hint = hint


class Condition:
    """One compiled expression. Raises `Uncompilable` for one that does not compile or is not a boolean."""

    def __init__(self, text: str) -> None:
        if len(text) > _SIZE_AT_MOST:
            raise Uncompilable(f"at most {_SIZE_AT_MOST} characters", str(len(text)))
        self.text = text
        self._expression, without = _compiled(text)
        self.uses_arguments = _FACTS not in without
        """Whether the outcome can differ between two executions of one form, whose texts differ in constants."""
        kind = self._expression.return_type()
        if kind not in (cel.Type.BOOL, cel.Type.DYN):
            raise Uncompilable("a condition that is true or false", f"one of type {kind.name()}")
        # Handing over a value costs more than evaluating. A name whose last word is not in the text cannot be meant;
        # were that ever wrong, the value would be missing, and the outcome None.
        meant = {name for name in _TYPES if name not in without and name.rpartition(".")[2] in text}
        self._standing = [name for name in _STANDING if name in meant]
        self._asked = [(name, read) for name, (_, read) in _ASKED.items() if name in meant]
        self._reads_arguments = _ARGUMENTS not in without

    def holds(self, known: Mapping[str, object], action: Action, resource: Resource) -> bool | None:
        """Return what the condition says, or None if it could not be evaluated. `known` comes from `standing`."""
        # In a binary format a value has other bytes than its text, so comparing it would compare nothing: whoever asks
        # would choose the outcome by choosing the format.
        if self._reads_arguments and any(isinstance(argument, bytes) for argument in action.arguments):
            return None
        try:
            data = {name: known[name] for name in self._standing}
            for name, read in self._asked:
                data[name] = read(action, resource)
            value = self._expression.eval(data=data)
            if value.type() != cel.Type.BOOL:
                return None
            said = value.value()
        except Exception:  # the engine raises whatever it likes; an error has its own outcome here
            return None
        return said if isinstance(said, bool) else None


def standing(identity: Identity, target: Target) -> Mapping[str, object]:
    """Return what conditions may know of an identity at a target."""
    return {name: read(identity, target) for name, (_, read) in _STANDING.items()}


@cache
def _environment(without: frozenset[str]) -> Any:
    return cel.NewEnv(variables={name: kind for name, kind in _TYPES.items() if name not in without})


def _compiled(text: str) -> tuple[Any, frozenset[str]]:
    """Return the expression, and the names it was compiled without: as many as it can do without."""
    failure = ""
    for without in _WITHOUT:
        try:
            return _environment(without).compile(text), without
        except Exception as error:  # the engine has no class of its own for this
            failure = str(error)
    raise _diagnosed(failure)


def _diagnosed(failure: str) -> Uncompilable:
    expected = "a condition in CEL"
    match = _DIAGNOSIS.search(failure)
    if match is None:
        return Uncompilable(expected, "one that does not compile")
    line, column, said = match.groups()
    said = said.removesuffix(" [INVALID_ARGUMENT]").removesuffix(" (in container '')")
    unknown = _UNDECLARED.search(said)
    hint = suggestion(unknown[1], _TYPES) if unknown else ""
    return Uncompilable(expected, f"{said} (line {line}, column {column} of it)", hint)
