"""Reads one statement: dispatches by its kind, and knows what it does to the session.

Every kind of statement is on a list: here, among those that change rows, or among those that define objects. A kind
that is on none is not understood.
"""

from collections.abc import Callable
from typing import Any, Final

from bastion.model.action import Access
from bastion.protocols.postgres.sql import changing, definers, secrets, settings
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.query import Query
from bastion.protocols.postgres.sql.reading import (
    ChangesCatalog,
    Closes,
    Deallocates,
    DiscardsAll,
    EndsTransaction,
    Executes,
    Fetches,
    RollsBack,
    SessionEffect,
    SetsPath,
)
from bastion.protocols.postgres.sql.scope import Scope, Source
from bastion.protocols.postgres.sql.trees import computed, qualified, strings
from bastion.protocols.postgres.sql.writes import DataChange

PLACEHOLDER: Final = "statement by name"
"""The kind of the resource that stands for what is run by name, until the session says what that is."""
_ACCESS_SHARE: Final = 1
_ROW_STATEMENTS: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_ENDING: Final = frozenset({"TRANS_STMT_COMMIT", "TRANS_STMT_ROLLBACK", "TRANS_STMT_PREPARE"})
_HARMLESS_TRANSACTION: Final = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
    "TRANS_STMT_SAVEPOINT": "savepoint",
    "TRANS_STMT_RELEASE": "release",
    "TRANS_STMT_ROLLBACK_TO": "rollback",
}
_FALSE: Final = frozenset({"false", "off", "0"})


class Statements:
    """Reads the statements of one text that are no plain queries."""

    def __init__(self, query: Query, changes: DataChange) -> None:
        self._query = query
        self._changes = changes
        self.session: list[SessionEffect] = []
        self._special: dict[str, Callable[[Node], None]] = {
            "ExplainStmt": self._explain,
            "CopyStmt": self._copy,
            "CreateTableAsStmt": self._create_as,
            "RefreshMatViewStmt": self._refresh,
            "TruncateStmt": self._truncate,
            "LockStmt": self._lock,
            "VacuumStmt": self._vacuum,
            "CallStmt": self._call,
            "DoStmt": self._do,
            "TransactionStmt": self._transaction,
            "VariableSetStmt": self._set,
            "VariableShowStmt": self._show,
            "ConstraintsSetStmt": self._constraints,
            "DiscardStmt": self._discard,
            "ExecuteStmt": self._execute,
            "DeallocateStmt": self._deallocate,
            "FetchStmt": self._fetch,
            "ClosePortalStmt": self._close,
            "ListenStmt": lambda body: self._channel(body, "listen"),
            "UnlistenStmt": lambda body: self._channel(body, "unlisten"),
            "NotifyStmt": lambda body: self._channel(body, "notify"),
        }

    def read(self, node: Node) -> None:
        """Walk one statement. PREPARE and DECLARE are their caller's: what they hold is a reading of its own."""
        ((kind, body),) = node.items()
        if kind == "SelectStmt" or kind in _ROW_STATEMENTS:
            if kind == "SelectStmt" and _makes_table(body):
                self.session.append(ChangesCatalog(adds=True))
            self._query.statement(node, Scope())
        elif kind in self._special:
            self._special[kind](body)
        elif kind in definers.ADMIN:
            self._define(kind, body)
        else:
            self._query.effects.unknown(kind)

    def _add(self, kind: str, name: str, verb: str, access: Access, **facts: object) -> None:
        self._query.effects.add(kind, name, verb, access, **facts)

    def _known(self, kind: str, body: Node, fields: str) -> None:
        for field in body.keys() - fields.split():
            self._query.effects.unknown(f"{kind}.{field}")

    # What defines or tends objects

    def _define(self, kind: str, body: Node) -> None:
        named: set[str] = set()
        for about, name, verb, access in definers.defines(kind, body):
            facts: dict[str, Any] = {"columns": []} if about == "relation" else {}
            for place in self._placed(about, name, verb):
                named.add(place if about == "relation" else "")
                self._add(about, place, verb, access, **facts)
        if kind == "AlterTableStmt":  # it fills new columns, converts old ones and checks all rows
            for expression in computed(body):
                self._query.expression(expression, _open_scope())
        if kind == "CreateStmt":  # a view or foreign table would have effects of its own
            self._query.created.add(body["relation"].get("relname", ""))
        if kind not in definers.KEEPS_CATALOG:
            adds = definers.only_adds(kind, body)
            own = kind in definers.KEEP_TO_THEIRS and all(name.startswith("pg_temp.") for name in named)
            own = own and body.get("behavior") != "DROP_CASCADE"
            names = frozenset[str]() if adds or own else changing.named(kind, body)
            self.session.append(ChangesCatalog(adds, own, names))

    def _placed(self, about: str, name: str, verb: str) -> list[str]:
        """Return the full names that a bare one can stand for, where the catalog knows the places."""
        if about not in {"relation", "function"} or "." in name or not name:
            return [name]
        names = self._query.names
        if verb == "create":  # whatever is found by that name is elsewhere, or is replaced
            known = []
        elif about == "relation":
            known = [relation.full_name for relation in names.relations("", name)]
        else:
            known = [function.full_name for function in names.functions("", name)]
        if self._query.shifted and verb != "create":
            places = names.reached() | ({"pg_temp"} if self._query.may_be_temporary(name) else set())
            known += [f"{place}.{name}" for place in sorted(places)]
        if known:
            return list(dict.fromkeys(known))
        return [f"{place}.{name}" if place else name for place in sorted(names.creation_schemas())] or [name]

    def _create_as(self, body: Node) -> None:
        self._known("CreateTableAsStmt", body, "query into objtype is_select_into if_not_exists")
        relation = body["into"].get("rel", {})
        if "ExecuteStmt" in body["query"]:
            self._execute(body["query"]["ExecuteStmt"], aside=True)
        else:
            self._query.statement(body["query"], Scope())
        self._query.creates(relation, "table")
        # What a materialized view keeps has to be known to all before one of them replaces a view beneath it.
        self.session.append(ChangesCatalog(adds=body.get("objtype") != "OBJECT_MATVIEW"))

    def _refresh(self, body: Node) -> None:
        for relation in self._relations(body["relation"], "refresh"):
            self._query.effects.touch(relation, "refresh")
            self._query.follow(self._query.definitions.view(relation))

    def _truncate(self, body: Node) -> None:
        self._known("TruncateStmt", body, "relations restart_seqs behavior")
        for item in body["relations"]:
            for relation in self._relations(item["RangeVar"], "truncate"):
                self._changes.change(relation, "truncate", where="missing", selective=False)
        if body.get("behavior") == "DROP_CASCADE":
            self._add("relation", "*", "truncate", Access.ADMIN, columns=[])

    def _vacuum(self, body: Node) -> None:
        verb = "vacuum" if body.get("is_vacuumcmd") else "analyze"
        rels = [item["VacuumRelation"]["relation"] for item in body.get("rels", ())]
        for relation in (r for rel in rels for r in self._relations(rel, verb)):
            self._query.effects.touch(relation, verb)
        if not rels:
            self._add("relation", "*", verb, Access.WRITE, columns=[])

    def _lock(self, body: Node) -> None:
        self._known("LockStmt", body, "relations mode nowait")
        mild = body.get("mode") == _ACCESS_SHARE
        for item in body["relations"]:
            for relation in self._relations(item["RangeVar"], "lock"):
                if mild:  # what reading takes anyway
                    self._query.read(relation)
                else:
                    self._query.effects.touch(relation, "lock")

    def _relations(self, body: Node, verb: str) -> list[Any]:
        schema, name = body.get("schemaname", ""), body["relname"]
        found = list(self._query.names.relations(schema, name))
        if not found and name not in self._query.created:
            told = f"{schema}.{name}" if schema else name
            self._add("relation", told, verb, Access.UNKNOWN, missing=True, columns=[])
        elif not found:
            self._add("relation", name, verb, Access.WRITE, columns=[])
        return found

    # What runs code or moves data

    def _call(self, body: Node) -> None:
        self._known("CallStmt", body, "funccall")
        self._query.expression({"FuncCall": body["funccall"]}, Scope())
        self._add("statement", qualified(body["funccall"]["funcname"])[1], "call", Access.WRITE)

    def _do(self, body: Node) -> None:
        language = next((strings([o["DefElem"]["arg"]])[0] for o in body["args"]
                         if o["DefElem"].get("defname") == "language"), "plpgsql")  # fmt: skip
        self._add("code", language, "do", Access.UNKNOWN)
        self.session.append(ChangesCatalog())

    def _copy(self, body: Node) -> None:
        self._known("CopyStmt", body, "relation query attlist is_from is_program filename options whereClause")
        query = self._query
        incoming = bool(body.get("is_from"))
        name = body.get("filename", "")
        if name:
            kind = "program" if body.get("is_program") else "file"
            verb = "run" if kind == "program" else "read" if incoming else "write"
            self._add(kind, secrets.UNSHOWN if secrets.suspicious(name.encode()) else name, verb, Access.ADMIN)
        if "query" in body:
            query.statement(body["query"], Scope())
            return
        columns = strings(body.get("attlist", []))
        scope = Scope()
        if incoming:
            for relation in self._relations(body["relation"], "copy"):
                self._changes.change(relation, "copy")
                source = query.effects.touch(relation, "copy")
                if columns:
                    source.columns = set(columns)
            query.expression(body.get("whereClause"), _open_scope())
            return
        source_ = query.table(body["relation"], scope)
        if columns:
            for column in columns:
                source_.take(column)
        else:
            source_.take_all()

    def _explain(self, body: Node) -> None:
        self._known("ExplainStmt", body, "query options")
        runs = any(
            option["DefElem"].get("defname", "").lower() == "analyze" and not _is_false(option["DefElem"].get("arg"))
            for option in body.get("options", ())
        )
        if runs:
            self.read(body["query"])
            self.session = _set_aside(self.session)
            return
        # Planning runs what is immutable or stable, but changes no rows.
        effects = self._query.effects
        inner = self._query.apart()
        statements = Statements(inner, DataChange(inner))
        statements.read(body["query"])
        inner.settle()
        for resource in inner.effects.resources():
            planned = resource.kind == "relation" and resource.access in {Access.WRITE, Access.ADMIN}
            if planned and resource.verb not in {"select", "create"}:
                effects.add("relation", resource.name, "explain", Access.READ, columns=resource.facts.get("columns"))
            else:
                effects.include([resource])
        self.session += _set_aside(statements.session)

    # What concerns the session alone

    def _transaction(self, body: Node) -> None:
        self._known("TransactionStmt", body, "kind options savepoint_name gid chain location")
        kind = body["kind"]
        verb = _HARMLESS_TRANSACTION.get(kind)
        if verb is None:
            self._add("transaction", body.get("gid", ""), kind.removeprefix("TRANS_STMT_").lower(), Access.ADMIN)
        else:
            self._add("transaction", "", verb, self._modes(body.get("options", [])))
        if kind in _ENDING:
            self.session.append(EndsTransaction())
        elif kind == "TRANS_STMT_ROLLBACK_TO":
            self.session.append(RollsBack())
        elif kind == "TRANS_STMT_COMMIT_PREPARED":  # whatever that transaction has changed
            self.session.append(ChangesCatalog())

    def _modes(self, options: list[Node]) -> Access:
        """Return what transaction modes amount to: asking for read-write gives up a guard that somebody set."""
        worst = Access.NONE
        for option in options:
            body = option["DefElem"]
            match body["defname"]:
                case "transaction_read_only":
                    if not body["arg"]["A_Const"].get("ival", {}).get("ival"):
                        worst = max(worst, Access.WRITE)
                case "transaction_isolation" | "transaction_deferrable":
                    pass
                case _:
                    worst = Access.UNKNOWN
        return worst

    def _set(self, body: Node) -> None:
        self._known("VariableSetStmt", body, "kind name args jumble_args is_local location")
        kind, name = body["kind"], body.get("name", "")
        args = body.get("args", [])
        default = self._query.catalog.path
        match kind:
            case "VAR_RESET_ALL":
                self._add("setting", "*", "reset", Access.READ)
                self.session.append(SetsPath(default))
            case "VAR_SET_MULTI" if name == "TRANSACTION SNAPSHOT":
                self._add("transaction", "", "snapshot", Access.NONE)
            case "VAR_SET_MULTI" if name in {"TRANSACTION", "SESSION CHARACTERISTICS"}:
                self._add("transaction", "", "set", max(Access.READ, self._modes(args)))
            case "VAR_SET_VALUE" | "VAR_SET_DEFAULT" | "VAR_RESET" if name.lower() == "search_path":
                values = [_literal(argument) for argument in args]
                readable = kind != "VAR_SET_VALUE" or None not in values
                self._add("setting", "search_path", "set", Access.READ if readable else Access.UNKNOWN)
                role = self._query.catalog.role
                given = tuple(role if value == "$user" else value for value in values if value)
                self.session.append(SetsPath(given if kind == "VAR_SET_VALUE" else default))
            case "VAR_SET_VALUE" | "VAR_SET_DEFAULT" | "VAR_RESET":
                value = _literal(args[0]) if len(args) == 1 else "" if args else None
                verb = "set" if kind == "VAR_SET_VALUE" else "reset"
                self._add("setting", name, verb, settings.set_access(name, value))
            case _:
                self._add("setting", name, "set", Access.UNKNOWN)

    def _show(self, body: Node) -> None:
        name = body["name"]
        access = settings.shown_access(name, privileged=self._query.catalog.privileged)
        self._add("setting", name, "show", access)

    def _constraints(self, body: Node) -> None:
        self._add("setting", "constraints", "set", Access.READ)

    def _discard(self, body: Node) -> None:
        target = body["target"]
        self._add("session", "", "discard", Access.READ)
        if target == "DISCARD_ALL":
            self.session += [DiscardsAll(), SetsPath(self._query.catalog.path)]
        if target in {"DISCARD_ALL", "DISCARD_TEMP"}:
            nothing = not self._query.catalog.temporary_schema
            self.session.append(ChangesCatalog(adds=nothing, own=True))

    def _execute(self, body: Node, *, aside: bool = False) -> None:
        self._known("ExecuteStmt", body, "name params")
        self._query.expression(body.get("params"), Scope())
        self._add(PLACEHOLDER, body["name"], "execute", Access.UNKNOWN)
        self.session.append(Executes(body["name"], aside))

    def _deallocate(self, body: Node) -> None:
        self._add("session", "", "deallocate", Access.NONE)
        self.session.append(Deallocates(None if body.get("isall") or "name" not in body else body["name"]))

    def _fetch(self, body: Node) -> None:
        self._add(PLACEHOLDER, body["portalname"], "fetch", Access.UNKNOWN)
        self.session.append(Fetches(body["portalname"]))

    def _close(self, body: Node) -> None:
        self._add("session", "", "close", Access.NONE)
        self.session.append(Closes(body.get("portalname")))

    def _channel(self, body: Node, verb: str) -> None:
        access = Access.READ if verb == "unlisten" else Access.WRITE
        self._add("channel", body.get("conditionname", "*"), verb, access)


def _set_aside(effects: list[SessionEffect]) -> list[SessionEffect]:
    """Return the effects, where what is run by name does not return its rows to the client."""
    return [Executes(effect.name, aside=True) if isinstance(effect, Executes) else effect for effect in effects]


def _makes_table(body: Node) -> bool:
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        body = body["larg"]
    return "intoClause" in body


def _is_false(argument: Node | None) -> bool:
    """Tell whether the value of an option of EXPLAIN says no; none at all says yes."""
    if argument is None:
        return False
    ((kind, body),) = argument.items()
    if kind == "Boolean":
        return not body.get("boolval")
    if kind == "Integer":
        return not body.get("ival")
    return kind == "String" and body.get("sval", "").lower() in _FALSE


def _literal(node: Node) -> str | None:
    """Return what a value of SET is as text, or None where it is no plain literal."""
    literal = node.get("A_Const")
    if literal is None:
        return None
    if "sval" in literal:
        return str(literal["sval"].get("sval", ""))
    if "ival" in literal:
        return str(literal["ival"].get("ival", 0))
    if "fval" in literal:
        return str(literal["fval"].get("fval", ""))
    if "boolval" in literal:
        return "true" if literal["boolval"].get("boolval") else "false"
    return None


def _open_scope() -> Scope:
    scope = Scope()
    scope.sources.append(Source.of_names("", None))
    return scope
