"""What the walk may ask about definitions in the catalog, and what it hears."""

from typing import Protocol

from bastion.model.action import Resource
from bastion.protocols.postgres.sql.catalog import Relation


class Definition(Protocol):
    """The effects of a definition."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What the policy judges."""
        ...

    @property
    def types(self) -> frozenset[int]:
        """Types made by somebody that its values may have."""
        ...

    @property
    def relations(self) -> tuple[Relation, ...]:
        """Relations it reads by itself."""
        ...


class Definitions(Protocol):
    """Gives what a definition in the catalog does, read once for all texts."""

    def view(self, relation: Relation) -> Definition:
        """Return what reading a view does."""
        ...

    def expression(self, text: str, relation: Relation | None) -> Definition:
        """Return what evaluating an expression does; `relation` is the one whose columns it may name."""
        ...

    def rule(self, text: str, relation: Relation) -> Definition:
        """Return what a rewrite rule does."""
        ...

    def condition(self, text: str, relation: Relation) -> Definition:
        """Return what the condition of a trigger does."""
        ...
