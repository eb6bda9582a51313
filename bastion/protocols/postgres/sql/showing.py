"""Puts together what the statements of a text return, also those that run by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bastion.model.action import Resource
from bastion.model.mask import ANY, BECAUSE, USES, Use
from bastion.protocols.postgres.sql.reading import Outputs, Reading

_UNKNOWN = "it may be among what this shows"
_ASIDE = "what is prepared under a name is explained, or put into a new table"


def worth_covering(outputs: Sequence[Outputs]) -> tuple[Outputs, ...]:
    """Return the outputs, or none if nothing of what is watched can be in any of them."""
    return tuple(outputs) if any(output.shows or output.effect is not None for output in outputs) else ()


def composed(outputs: Iterable[Outputs], meant: Mapping[int, Reading]) -> tuple[Outputs, ...]:
    """Return outputs with those of what runs by name, which `meant` has by the place of the effect that names it."""
    found: list[Outputs] = []
    for output in outputs:
        if output.effect is None:
            found.append(output)
            continue
        inner = meant[output.effect].outputs if output.effect in meant else ()
        shown = inner[0] if inner else Outputs(0, rest=frozenset())
        found.append(replace(shown, statement=output.statement, effect=None))
    return worth_covering(found)


def anything(resource: Resource) -> Resource:
    """Return a resource that may show or do anything with whatever is watched."""
    facts = {**resource.facts, USES: {ANY: [Use.UNTRACED.value]}, BECAUSE: {ANY: _UNKNOWN}}
    return Resource(resource.kind, resource.name, resource.verb, resource.access, facts)


def set_aside(resources: Iterable[Resource]) -> list[Resource]:
    """Return the resources of what runs by name where its rows do not go to the client: not traced any further."""
    return [_untraced(resource) for resource in resources]


def _untraced(resource: Resource) -> Resource:
    uses = resource.facts.get(USES)
    if not isinstance(uses, Mapping) or not any(uses.values()):
        return resource
    told: dict[str, list[str]] = {
        key: sorted({*found, Use.UNTRACED.value} if found else ()) for key, found in uses.items()
    }
    because = {key: _ASIDE for key, found in told.items() if found}
    facts = {**resource.facts, USES: told, BECAUSE: because}
    return Resource(resource.kind, resource.name, resource.verb, resource.access, facts)
