"""Whom and where a part of the policy speaks of. What is not given is everybody and everywhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bastion.model.identity import Identity, Kind
from bastion.model.target import Target
from bastion.policy.marks import Marked, Path, Problem, dotted
from bastion.policy.schema import WhereModel, WhoModel
from bastion.policy.validation import suggestion


@dataclass(frozen=True, slots=True)
class Whom:
    """The identities that satisfy every member given."""

    groups: frozenset[str] | None = None
    subjects: frozenset[str] | None = None
    kind: Kind | None = None
    actors: frozenset[str] | None = None

    @classmethod
    def of(cls, model: WhoModel | None) -> "Whom":
        """Return whom a `who` or an `unless` means; everybody if there is none."""
        if model is None:
            return cls()
        kind = Kind(model.kind) if model.kind else None
        return cls(_set(model.groups), _set(model.subjects), kind, _set(model.actor))

    def misses(self, identity: Identity) -> str:
        """Return what keeps an identity from being meant, or an empty string."""
        if self.groups is not None and self.groups.isdisjoint(identity.groups):
            return "other groups"
        if self.subjects is not None and identity.subject not in self.subjects:
            return "another subject"
        if self.kind is not None and identity.kind is not self.kind:
            return f"not a {self.kind}"
        if self.actors is not None and identity.actor not in self.actors:
            return "another actor"
        return ""


@dataclass(frozen=True, slots=True)
class Where:
    """The targets that satisfy every member given."""

    targets: frozenset[str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: WhereModel | None) -> "Where":
        """Return where a `where` means; everywhere if there is none."""
        return cls() if model is None else cls(_set(model.targets), dict(model.labels or {}))

    def has(self, target: Target) -> bool:
        """Tell whether a target is meant."""
        if self.targets is not None and target.name not in self.targets:
            return False
        return all(target.labels.get(key) == value for key, value in self.labels.items())


EVERYBODY: Final = Whom()
EVERYWHERE: Final = Where()


def check_where(
    model: WhereModel | None, targets: Mapping[str, Target], document: Marked, path: Path, problems: list[Problem]
) -> list[Target]:
    """Return the targets that the `where` of what stands at `path` means; add to `problems` if there is none."""
    at = (*path, "where")
    names = (model.targets or ()) if model else ()
    unknown = [(i, name) for i, name in enumerate(names) if name not in targets]
    for index, name in unknown:
        item = (*at, "targets", index)
        expected = "a target that is configured"
        problems.append(
            Problem(document.place(item), dotted(item[:-1]), expected, repr(name), suggestion(name, targets))
        )
    if unknown:
        return []
    where = Where.of(model)
    here = [t for t in targets.values() if where.has(t)]
    if not here:
        problems.append(Problem(document.place(at), dotted(at), "at least one target that fits", "none"))
    return here


def _set(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)
