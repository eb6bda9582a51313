"""Analysts that watch columns, for the tests of lineage."""

from collections.abc import Iterable, Mapping

from bastion.model.mask import USES
from bastion.protocols.postgres.sql.analysis import CatalogAnalyst
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.lineage.watching import watch
from bastion.protocols.postgres.sql.reading import Output, Outputs, Reading

WATCHED = ("public.users.email", "public.users.ssn", "public.cards.pan")


def watching(catalog: Catalog, patterns: Iterable[str] = WATCHED) -> CatalogAnalyst:
    """Return an analyst that watches what the patterns name."""
    watched, useless = watch(catalog, patterns)
    assert useless == []
    return CatalogAnalyst(catalog, watched=watched)


def read(analyst: CatalogAnalyst, text: str) -> Reading:
    """Return what a text means; it has to be readable."""
    reading = analyst.read(text.encode(), frozenset({analyst.catalog.path}))
    assert reading.readable, reading.message
    return reading


def uses(reading: Reading) -> dict[str, str]:
    """Return how everything watched is used that is used at all, by its short name."""
    found: dict[str, set[str]] = {}
    for resource in reading.action.resources:
        facts = resource.facts.get(USES, {})
        assert isinstance(facts, Mapping)
        for name, how in facts.items():
            short = resource.name if name == "result" else name.rpartition(".")[2]
            found.setdefault(short, set()).update(how)
    return {name: " ".join(sorted(how)) for name, how in found.items() if how}


def shown(output: Output) -> str:
    """Return what a column of a result comes from: in brackets where it is derived."""
    names = " ".join(sorted(name if place != "function" else f"{name}()" for place, name in output.origins))
    return names if output.bare or not names else f"[{names}]"


def columns(outputs: Outputs) -> list[str]:
    """Return what each column of a result comes from, and after `...` what all further ones do."""
    found = [shown(output) for output in outputs.columns]
    if outputs.rest is not None:
        found.append("..." + shown(Output("", outputs.rest, bare=False)))
    return found
