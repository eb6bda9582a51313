"""Finds what a name can mean: under several search paths, everything that any of them leads to."""

from typing import Final

from bastion.protocols.postgres.sql.catalog import Catalog, Function, Operator, Relation, Type
from bastion.protocols.postgres.sql.reading import SearchPath

DEFINITION_PATHS: frozenset[SearchPath] = frozenset({()})
"""Definitions in the catalog are printed under an empty path: what is unqualified in them is built in, or temporary."""
_TEMPORARY: Final = "pg_temp"
"""The name by which every session knows its own temporary schema."""


class Names:
    """Resolves names against one catalog under a set of search paths."""

    def __init__(self, catalog: Catalog, paths: frozenset[SearchPath]) -> None:
        self._catalog = catalog
        self._given = tuple(paths)
        self._paths = tuple(order for path in paths for order in self._orders(path))
        self._reached = frozenset(schema for path in self._paths for schema in path)

    def _orders(self, path: SearchPath) -> tuple[SearchPath, ...]:
        """Return where relations and types are looked for under a path, in order."""
        effective = self._catalog.effective(path)
        if any(map(self._is_own, effective)):
            return (effective,)
        first = (_TEMPORARY, *effective)
        # Definitions were printed with it at the end. A session may have an empty path, too.
        return (first, (*effective, _TEMPORARY)) if not path else (first,)

    def relations(self, schema: str, name: str) -> tuple[Relation, ...]:
        """Return every relation that `schema.name`, or `name` if the schema is empty, can mean."""
        if schema:
            found = self._relation(schema, name)
            return () if found is None else (found,)
        relations: dict[int, Relation] = {}
        for path in self._paths:
            for place in path:
                found = self._relation(place, name)
                if found is not None:
                    relations[found.oid] = found
                    break
        return tuple(relations.values())

    def _relation(self, schema: str, name: str) -> Relation | None:
        if self._is_own(schema):
            return self._catalog.temporary.get(name)
        return self._catalog.relations.get((schema, name))

    def _is_own(self, schema: str) -> bool:
        return schema == _TEMPORARY or (schema == self._catalog.temporary_schema and schema != "")

    def functions(self, schema: str, name: str) -> list[Function]:
        """Return every function that a call by this name can mean, whatever its arguments."""
        found = self._catalog.functions.get(name, ())
        if schema:
            if schema == _TEMPORARY:
                return [f for f in found if f.schema.startswith(_TEMPORARY)]
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
        if schema:
            found = self._type(schema, name)
            return () if found is None else (found,)
        types: dict[int, Type] = {}
        for path in self._paths:
            for place in path:
                found = self._type(place, name)
                if found is not None:
                    types[found.oid] = found
                    break
        return tuple(types.values())

    def _type(self, schema: str, name: str) -> Type | None:
        if self._is_own(schema):
            return self._catalog.temporary_types.get(name)
        return self._catalog.types.get((schema, name))

    def creation_schemas(self) -> set[str]:
        """Return the schemas in which an unqualified new object can come to be."""
        return {next(filter(None, map(self._creates_in, path)), "") for path in self._given}

    def _creates_in(self, schema: str) -> str:
        if self._is_own(schema):
            return _TEMPORARY
        return schema if schema in self._catalog.schemas and schema != "pg_catalog" else ""

    def reached(self) -> set[str]:
        """Return the schemas, but `pg_catalog` and the temporary one, in which an unqualified name can be found."""
        return {schema for schema in self._reached if schema in self._catalog.schemas and schema != "pg_catalog"}
