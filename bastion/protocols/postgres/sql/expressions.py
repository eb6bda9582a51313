"""Walks expressions: what is called and compared, and what of it was not understood."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from bastion.model.action import Access
from bastion.protocols.postgres.sql import nodes
from bastion.protocols.postgres.sql.calls import Call, Calls
from bastion.protocols.postgres.sql.catalog import Catalog
from bastion.protocols.postgres.sql.effects import Effects
from bastion.protocols.postgres.sql.following import Definitions
from bastion.protocols.postgres.sql.names import Names
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.scope import Budget, Scope
from bastion.protocols.postgres.sql.settings import is_harmless, set_access, shown_access
from bastion.protocols.postgres.sql.trees import SETTING_NAME, constant, push, qualified, strings


class Expressions(ABC):
    """Reads the expressions of one text, and collects what they do. What a query is, its subclass knows."""

    def __init__(
        self,
        catalog: Catalog,
        paths: frozenset[tuple[str, ...]],
        definitions: Definitions,
        effects: Effects | None = None,
        through: str = "",
    ) -> None:
        self.catalog = catalog
        self.names = Names(catalog, paths)
        self.effects = effects or Effects(privileged=catalog.privileged)
        self.definitions = definitions
        self.through = through
        self.trusts_sequences = False
        """Whether `nextval` belongs to what the owner of a table made it do, as in a default."""
        self.calls = Calls(catalog, self.names, self.effects, set())
        self.empties_path = False
        """Whether the text empties the search path through a function."""
        self._pinned_setting = ""
        """The one row of pg_settings that a query is about, if it is."""
        self.budget = Budget()
        self.exact_parameters = True
        """Whether no parameter is declared as a type that could make different keys equal."""
        self.created: set[str] = set()
        """Names that an earlier statement of the same text makes."""
        self.shifted = False
        """Whether an earlier statement of the text may have moved what names stand for."""
        self._paths = paths
        self._special: dict[str, Callable[[Node, Scope, list[tuple[str, Any]]], None]] = {
            "ColumnRef": self._column,
            "FuncCall": self._call,
            "A_Expr": self._operation,
            "TypeCast": self._cast,
            "TypeName": self._type_name,
            "SubLink": self._sublink,
            "A_Indirection": self._indirection,
            "CaseExpr": self._case,
            "SortBy": self._sort,
        }

    @abstractmethod
    def statement(self, node: Node, scope: Scope) -> list[str] | None:
        """Walk a statement that can stand where rows are wanted; return its columns where they are known."""

    def expression(self, node: Any, scope: Scope) -> None:
        """Walk a node, a list of nodes, or nothing."""
        if not node:
            return
        stack: list[tuple[str, Any]] = []
        push(stack, node)
        special, plain, since = self._special, nodes.PLAIN, nodes.SINCE
        while stack:
            kind, body = stack.pop()
            handle = special.get(kind)
            if handle is not None:
                handle(body, scope, stack)
                continue
            spec = plain.get(kind)
            if spec is None:
                self.effects.unknown(kind)
                continue
            if kind in since and self.catalog.version < since[kind]:
                self.effects.unknown(kind)
            scalars, children = spec
            for field, value in body.items():
                if field in scalars:
                    continue
                if field not in children:
                    self.effects.unknown(f"{kind}.{field}")
                    continue
                typed = children[field]
                if typed is not None:
                    stack.append((typed, value))
                else:
                    push(stack, value)

    def _known(self, kind: str, body: Node, fields: Iterable[str]) -> None:
        for field in body.keys() - fields:
            self.effects.unknown(f"{kind}.{field}")

    def _column(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self.budget.spend(scope)
        fields = body["fields"]
        star = "A_Star" in fields[-1]
        parts = strings(fields[:-1] if star else fields)
        if star:
            self._star(parts, scope)
        elif len(parts) == 1:
            self._bare(parts[0], scope)
        else:
            *qualifier, alias, name = parts
            source = scope.source(alias, qualifier[-1] if qualifier else "")
            if source is None:
                self.effects.unknown("reference")
            elif source.has(name):
                source.take(name)
            else:  # a function that takes the row, where the row has no such field
                source.take_all()
                self.calls.functions.add(Call("", name, 1, field=True))
                if source.columns is not None and not self.names.functions("", name):
                    self.effects.add("column", f"{alias}.{name}", "select", Access.UNKNOWN, missing=True)

    def _bare(self, name: str, scope: Scope) -> None:
        if scope.take(name):
            return
        source = scope.source(name)
        if source is not None:
            source.take_all()
        else:
            scope.take_stray(name)

    def _star(self, parts: list[str], scope: Scope) -> None:
        if not parts:
            for source in scope.sources:
                source.take_all()
            return
        named = scope.source(parts[-1], parts[-2] if len(parts) > 1 else "")
        if named is None:
            self.effects.unknown("reference")
        else:
            named.take_all()

    def _call(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("FuncCall", body, nodes.FUNCTION_FIELDS)
        schema, name = qualified(body["funcname"])
        if name == "extract" and body.get("funcformat") == "COERCE_SQL_SYNTAX" and self.catalog.version < 140000:
            name = "date_part"  # what EXTRACT stood for until then
        args = body.get("args", [])
        order = body.get("agg_order", [])
        count = len(args) + (len(order) if body.get("agg_within_group") else 0)
        if name in {"current_setting", "set_config"} and schema in {"", "pg_catalog"}:
            self._setting(name, args)
            self.calls.functions.add(Call(schema, name, count))
        elif not (self.trusts_sequences and name == "nextval" and schema in {"", "pg_catalog"}):
            self.calls.functions.add(Call(schema, name, count))
        for children in (args, order, body.get("agg_filter")):
            push(stack, children)
        if "over" in body:
            stack.append(("WindowDef", body["over"]))

    def _setting(self, name: str, args: list[Node]) -> None:
        """Judge a built-in function that shows or sets the setting its first argument names."""
        literals = [constant(argument) for argument in args]
        setting = (literals[0] if literals else None) or ""
        if args and args[0].get("ColumnRef", {}).get("fields") == SETTING_NAME:
            setting = self._pinned_setting
        if name == "current_setting":
            access = shown_access(setting, privileged=self.catalog.privileged)
            self.effects.add("setting", setting or "*", "show", access)
            return
        value = literals[1] if len(literals) > 1 else None
        if setting == "search_path":
            access = Access.READ if value == "" else Access.UNKNOWN
            self.empties_path = True
        else:
            access = set_access(setting, value or "") if setting else Access.UNKNOWN
            if value is None and access is Access.READ and not is_harmless(setting):
                access = Access.UNKNOWN  # which value decides
        self.effects.add("setting", setting or "*", "set", access)

    def _operation(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known(
            "A_Expr", body, ("kind", "name", "lexpr", "rexpr", "location", "rexpr_list_start", "rexpr_list_end")
        )
        kind = body["kind"]
        if kind in nodes.BETWEEN:
            self.calls.operators.update(("", name) for name in nodes.BETWEEN[kind])
        elif kind in nodes.OPERATOR_KINDS:
            self.calls.operators.add(qualified(body["name"]))
        else:
            self.effects.unknown(f"A_Expr {kind}")
        push(stack, body.get("lexpr"))
        push(stack, body.get("rexpr"))

    def _cast(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("TypeCast", body, ("arg", "typeName", "location"))
        self._type_name(body["typeName"], scope, stack)
        push(stack, body["arg"])

    def _type_name(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("TypeName", body, nodes.TYPE_FIELDS)
        if "names" in body:
            name = qualified(body["names"])
            if name == ("pg_catalog", "json") and self.catalog.version < 170000:
                name = ("", "json")  # no word of the grammar until then, so any type of that name
            self.calls.types.add(name)
        else:
            self.effects.unknown("TypeName")
        push(stack, body.get("typmods"))

    def _sublink(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("SubLink", body, ("subLinkType", "testexpr", "operName", "subselect", "location"))
        if "operName" in body:
            self.calls.operators.add(qualified(body["operName"]))
        elif body["subLinkType"] in {"ANY_SUBLINK", "ALL_SUBLINK"}:
            self.calls.operators.add(("", "="))
        push(stack, body.get("testexpr"))
        self.statement(body["subselect"], Scope(scope))

    def _indirection(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("A_Indirection", body, ("arg", "indirection"))
        for step in body["indirection"]:
            if "String" in step:
                self.calls.functions.add(Call("", step["String"].get("sval", ""), 1, field=True))
            else:
                push(stack, step)
        push(stack, body["arg"])

    def _case(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("CaseExpr", body, ("arg", "args", "defresult", "location"))
        if "arg" in body:
            self.calls.operators.add(("", "="))
        for field in ("arg", "args", "defresult"):
            push(stack, body.get(field))

    def _sort(self, body: Node, scope: Scope, stack: list[tuple[str, Any]]) -> None:
        self._known("SortBy", body, ("node", "sortby_dir", "sortby_nulls", "useOp", "location"))
        if "useOp" in body:
            self.calls.operators.add(qualified(body["useOp"]))
        push(stack, body["node"])
