"""Finds what a name can mean: under several search paths, everything that any of them leads to."""

from bastion.protocols.postgres.sql.catalog import Catalog, Function, Operator, Relation, Type
from bastion.protocols.postgres.sql.reading import SearchPath

DEFINITION_PATHS: frozenset[SearchPath] = frozenset({()})
"""Definitions in the catalog are printed under an empty path: what is unqualified in them is built in."""


class Names:
    """Resolves names against one catalog under a set of search paths."""

    def __init__(self, catalog: Catalog, paths: frozenset[SearchPath]) -> None:
        self._catalog = catalog
        self._paths = tuple(catalog.effective(path) for path in paths)
        self._reached = frozenset(schema for path in self._paths for schema in path)
        self._temporary = paths != DEFINITION_PATHS

    def relations(self, schema: str, name: str) -> tuple[Relation, ...]:
        """Return every relation that `schema.name`, or `name` if the schema is empty, can mean."""
        catalog = self._catalog
        if schema:
            if schema == "pg_temp" or schema.startswith("pg_temp_"):
                return catalog.temporary.get(name, ())
            found = catalog.relations.get((schema, name))
            return () if found is None else (found,)
        relations = {r.oid: r for r in catalog.temporary.get(name, ())} if self._temporary else {}
        for path in self._paths:
            for place in path:
                found = catalog.relations.get((place, name))
                if found is not None:
                    relations[found.oid] = found
                    break
        return tuple(relations.values())

    def functions(self, schema: str, name: str) -> list[Function]:
        """Return every function that a call by this name can mean, whatever its arguments."""
        found = self._catalog.functions.get(name, ())
        if schema:
            if schema == "pg_temp":
                return [f for f in found if f.schema.startswith("pg_temp")]
            return [f for f in found if f.schema == schema]
        return [f for f in found if f.schema in self._reached]

    def operators(self, schema: str, name: str) -> list[Operator]:
        """Return every operator that this name can mean, whatever its operands."""
        found = self._catalog.operators.get(name, ())
        if schema:
            return [o for o in found if o.schema == schema]
        return [o for o in found if o.schema in self._reached]

    def types(self, schema: str, name: str) -> tuple[Type, ...]:
        """Return every type that this name can mean."""
        catalog = self._catalog
        if schema == "pg_temp":
            return catalog.temporary_types.get(name, ())
        if schema:
            found = catalog.types.get((schema, name))
            return () if found is None else (found,)
        types = {t.oid: t for t in catalog.temporary_types.get(name, ())} if self._temporary else {}
        for path in self._paths:
            for place in path:
                found = catalog.types.get((place, name))
                if found is not None:
                    types[found.oid] = found
                    break
        return tuple(types.values())

    def creation_schemas(self) -> set[str]:
        """Return the schemas in which an unqualified new object can come to be."""
        existing = self._catalog.schemas
        return {next((s for s in path if s in existing and s != "pg_catalog"), "") for path in self._paths}
