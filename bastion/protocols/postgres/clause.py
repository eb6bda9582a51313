"""The `sql:` part of a policy rule: which effects of a statement the rule speaks of."""

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bastion.model.action import Access, Action, Resource
from bastion.protocols.contract import Clause

_RELATION = re.compile(r"[^.\s]+\.[^.\s]+")
_COLUMN = re.compile(r"[^.\s]+\.[^.\s]+\.[^.\s]+")
_WORD = re.compile(r"[a-z][a-z ]*")

_CEILING = {"read": Access.READ, "write": Access.WRITE, "admin": Access.ADMIN}


def _several(value: Any) -> Any:
    """Let one value stand for a list of one, and take lists for tuples."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _shaped(shape: re.Pattern[str], expected: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not shape.fullmatch(value):
                raise ValueError(f"expected {expected}, found {value!r}")
        return values

    return check


_Where = Literal["missing", "unselective", "selective"]


class SqlClause(Clause):
    """Speaks of the effects that satisfy every member given. At least one member is."""

    verbs: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(default=(), min_length=0)
    """What is done, in lower case: `select`, `insert`, `update`, `delete`, `merge`, `truncate`, `copy` (into a table),
    `lock`, `call`, `set`, `show`, `begin`, `create`, `alter`, `drop`, `grant`, `revoke` and so on."""
    relations: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Tables and views as `schema.name`; `*` stands for any characters. Only effects on relations match. `pg_temp` is
    the schema of what the session itself has made temporarily, and of nobody else's: a rule with the `verbs` `create`,
    `insert`, `select`, `update`, `delete` and `drop` for `pg_temp.*` lets people work in temporary tables."""
    columns: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Columns as `schema.table.column`, with `*`. Matches an effect on a relation that touches such a column; a rule
    that allows matches only if it touches no others."""
    functions: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Functions, procedures and aggregates as `schema.name`, with `*`. Naming one vouches for it: `access` does not
    bear on it. Beside `relations`, each speaks of its own kind."""
    settings: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    """Settings that are set, reset or shown, with `*`. Naming one vouches for it, as with functions."""
    access: Literal["read", "write", "admin"] | None = None
    """How much an effect may change at most. What is not understood, or not vouched for, is more than any of these."""
    where: Annotated[tuple[_Where, ...], BeforeValidator(_several)] = ()
    """For `update`, `delete` and `merge`: whether the WHERE is `missing`, `selective` (it binds a unique key of the
    changed table to constants or parameters), or anything in between (`unselective`)."""

    @model_validator(mode="after")
    def _sensible(self) -> "SqlClause":
        if not self.model_fields_set:
            raise ValueError("expected at least one of verbs, relations, columns, functions, settings, access, where")
        for name in self.model_fields_set:
            if getattr(self, name) == ():
                raise ValueError(f"expected at least one entry in {name}, found none")
        _shaped(_WORD, "a verb in lower case")(self.verbs)
        _shaped(_RELATION, "schema.name")(self.relations)
        _shaped(_COLUMN, "schema.table.column")(self.columns)
        _shaped(_RELATION, "schema.name")(self.functions)
        return self

    def matches(self, action: Action, resource: Resource) -> bool:
        """Tell whether the rule speaks of this effect, or of any part of it."""
        return self._speaks_of(resource, any)

    def covers(self, action: Action, resource: Resource) -> bool:
        """Tell whether the rule speaks of the whole of this effect: of every column it touches."""
        return self._speaks_of(resource, all)

    def _speaks_of(self, resource: Resource, quantifier: Callable[[Iterable[bool]], bool]) -> bool:
        if self.verbs and resource.verb not in self.verbs:
            return False
        if self.where and resource.facts.get("where") not in self.where:
            return False
        if resource.kind == "function" and self.functions:
            return self._functions(resource.name)
        if resource.kind == "setting" and self.settings:
            return self._settings(resource.name.lower())
        if self.access is not None and resource.access > _CEILING[self.access]:
            return False
        if resource.kind == "relation" and (self.relations or self.columns):
            return self._speaks_of_relation(resource, quantifier)
        return not (self.relations or self.columns or self.functions or self.settings)

    def _speaks_of_relation(self, resource: Resource, quantifier: Callable[[Iterable[bool]], bool]) -> bool:
        if self.relations and not self._relations(resource.name):
            return False
        if not self.columns:
            return True
        touched = resource.facts.get("columns")
        if not isinstance(touched, list) or not touched:
            return False
        return quantifier(self._columns(f"{resource.name}.{column}") for column in touched)

    @cached_property
    def _relations(self) -> Callable[[str], bool]:
        return _matcher(self.relations)

    @cached_property
    def _columns(self) -> Callable[[str], bool]:
        return _matcher(self.columns)

    @cached_property
    def _functions(self) -> Callable[[str], bool]:
        return _matcher(self.functions)

    @cached_property
    def _settings(self) -> Callable[[str], bool]:
        return _matcher(tuple(pattern.lower() for pattern in self.settings))


def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test for names that any of the patterns matches, whole and in linear time."""
    alternatives = (".*".join(map(re.escape, _collapsed(pattern).split("*"))) for pattern in patterns)
    compiled = re.compile("|".join(f"(?:{alternative})" for alternative in alternatives), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def _collapsed(pattern: str) -> str:
    """Return the pattern with runs of `*` as one, which mean the same."""
    return re.sub(r"\*+", "*", pattern)
