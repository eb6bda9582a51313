"""Statements that define, alter or remove objects, or tend the server: their verb and what they name.

Their contents are not walked: none of them is mild enough for it to matter. CREATE TABLE AS and its kin, which run a
query, are not here.
"""

from typing import Any, Final

from bastion.model.action import Access
from bastion.protocols.postgres.sql.parser import Node

ADMIN: Final[dict[str, tuple[str, str]]] = {
    "CreateSchemaStmt": ("create", "schema"),
    "CreateStmt": ("create", "relation"),
    "CreateForeignTableStmt": ("create", "relation"),
    "ViewStmt": ("create", "relation"),
    "IndexStmt": ("create", "index"),
    "CreateSeqStmt": ("create", "relation"),
    "CreateFunctionStmt": ("create", "function"),
    "CreateTrigStmt": ("create", "trigger"),
    "CreateEventTrigStmt": ("create", "event trigger"),
    "CreatePolicyStmt": ("create", "policy"),
    "RuleStmt": ("create", "rule"),
    "CreateRoleStmt": ("create", "role"),
    "CreatedbStmt": ("create", "database"),
    "CreateTableSpaceStmt": ("create", "tablespace"),
    "CreateExtensionStmt": ("create", "extension"),
    "CreateFdwStmt": ("create", "foreign data wrapper"),
    "CreateForeignServerStmt": ("create", "server"),
    "CreateUserMappingStmt": ("create", "user mapping"),
    "CreateAmStmt": ("create", "access method"),
    "CreatePLangStmt": ("create", "language"),
    "CreateDomainStmt": ("create", "type"),
    "CompositeTypeStmt": ("create", "type"),
    "CreateEnumStmt": ("create", "type"),
    "CreateRangeStmt": ("create", "type"),
    "DefineStmt": ("create", "object"),
    "CreateOpClassStmt": ("create", "operator class"),
    "CreateOpFamilyStmt": ("create", "operator family"),
    "CreateStatsStmt": ("create", "statistics"),
    "CreateConversionStmt": ("create", "conversion"),
    "CreateCastStmt": ("create", "cast"),
    "CreateTransformStmt": ("create", "transform"),
    "CreatePublicationStmt": ("create", "publication"),
    "CreateSubscriptionStmt": ("create", "subscription"),
    "ImportForeignSchemaStmt": ("create", "relation"),
    "AlterTableStmt": ("alter", "relation"),
    "AlterTableMoveAllStmt": ("alter", "relation"),
    "AlterSeqStmt": ("alter", "relation"),
    "AlterCollationStmt": ("alter", "collation"),
    "AlterDomainStmt": ("alter", "type"),
    "AlterTypeStmt": ("alter", "type"),
    "AlterEnumStmt": ("alter", "type"),
    "AlterDefaultPrivilegesStmt": ("alter", "default privileges"),
    "AlterTableSpaceOptionsStmt": ("alter", "tablespace"),
    "AlterExtensionStmt": ("alter", "extension"),
    "AlterExtensionContentsStmt": ("alter", "extension"),
    "AlterFdwStmt": ("alter", "foreign data wrapper"),
    "AlterForeignServerStmt": ("alter", "server"),
    "AlterUserMappingStmt": ("alter", "user mapping"),
    "AlterPolicyStmt": ("alter", "policy"),
    "AlterEventTrigStmt": ("alter", "event trigger"),
    "AlterRoleStmt": ("alter", "role"),
    "AlterRoleSetStmt": ("alter", "role"),
    "AlterOpFamilyStmt": ("alter", "operator family"),
    "AlterStatsStmt": ("alter", "statistics"),
    "AlterFunctionStmt": ("alter", "function"),
    "AlterObjectDependsStmt": ("alter", "object"),
    "AlterObjectSchemaStmt": ("alter", "object"),
    "AlterOwnerStmt": ("alter", "object"),
    "AlterOperatorStmt": ("alter", "operator"),
    "RenameStmt": ("alter", "object"),
    "AlterDatabaseStmt": ("alter", "database"),
    "AlterDatabaseRefreshCollStmt": ("alter", "database"),
    "AlterDatabaseSetStmt": ("alter", "database"),
    "AlterSystemStmt": ("alter", "system"),
    "AlterTSDictionaryStmt": ("alter", "text search dictionary"),
    "AlterTSConfigurationStmt": ("alter", "text search configuration"),
    "AlterPublicationStmt": ("alter", "publication"),
    "AlterSubscriptionStmt": ("alter", "subscription"),
    "DropStmt": ("drop", "object"),
    "DropTableSpaceStmt": ("drop", "tablespace"),
    "DropUserMappingStmt": ("drop", "user mapping"),
    "DropRoleStmt": ("drop", "role"),
    "DropdbStmt": ("drop", "database"),
    "DropOwnedStmt": ("drop", "owned"),
    "DropSubscriptionStmt": ("drop", "subscription"),
    "GrantStmt": ("grant", "privilege"),
    "GrantRoleStmt": ("grant", "role"),
    "ReassignOwnedStmt": ("reassign", "owned"),
    "CommentStmt": ("comment", "object"),
    "SecLabelStmt": ("label", "object"),
    "LoadStmt": ("load", "file"),
    "CheckPointStmt": ("checkpoint", "server"),
    "ReindexStmt": ("reindex", "relation"),
    "ClusterStmt": ("cluster", "relation"),
}
"""Verb and kind of each statement that is ADMIN whatever it says."""

_ADD: Final = frozenset({"CreateStmt", "CreateSchemaStmt", "IndexStmt", "GrantStmt"})
KEEP_TO_THEIRS: Final = frozenset({"AlterTableStmt", "DropStmt", "RenameStmt"})
"""Those that change nothing but the relations that they name, where they name relations and do not cascade."""
KEEPS_CATALOG: Final = frozenset({"AlterSystemStmt", "CommentStmt", "LoadStmt", "CheckPointStmt", "ReindexStmt"})
"""Those of them after which a catalog that was read still holds."""

_REMOVED_KINDS: Final = {
    "OBJECT_TABLE": "relation",
    "OBJECT_VIEW": "relation",
    "OBJECT_MATVIEW": "relation",
    "OBJECT_SEQUENCE": "relation",
    "OBJECT_FOREIGN_TABLE": "relation",
    "OBJECT_FUNCTION": "function",
    "OBJECT_PROCEDURE": "function",
    "OBJECT_ROUTINE": "function",
    "OBJECT_SCHEMA": "schema",
}
_NAMED_BY: Final = (
    "schemaname", "role", "dbname", "extname", "servername", "fdwname", "subname", "pubname", "trigname", "policy_name",
    "tablespacename", "filename",
)  # fmt: skip


def only_adds(kind: str, body: Node) -> bool:
    """Tell whether a statement adds to the catalog, and changes nothing about what was in it.

    A part of a table, or a table whose rows go with those of another, can have changes of the other set something off;
    so can an index that computes. What is made in a new schema may be found in place of what was found before.
    """
    if kind not in _ADD or body.get("schemaElts"):
        return False
    if kind == "IndexStmt":
        plain = all({"name", "ordering", "nulls_ordering"}.issuperset(p["IndexElem"]) for p in body["indexParams"])
        return plain and "whereClause" not in body
    parts = [*body.get("tableElts", ()), *body.get("constraints", ())]
    parts += [c for part in parts for c in part.get("ColumnDef", {}).get("constraints", ())]
    refers = any(part.get("Constraint", {}).get("contype") == "CONSTR_FOREIGN" for part in parts)
    return not (body.get("inhRelations") or body.get("partbound") or refers)


def defines(kind: str, body: Node) -> list[tuple[str, str, str, Access]]:
    """Return kind, name, verb and access of each thing a statement of `ADMIN` is about; names as the text has them."""
    verb, about = ADMIN[kind]
    if (kind == "GrantStmt" and not body.get("is_grant")) or (kind == "GrantRoleStmt" and not body.get("is_grant")):
        verb = "revoke"
    if about == "object" and isinstance(body.get("relation"), dict):
        about = "relation"
    if kind == "DropStmt":
        about = _REMOVED_KINDS.get(body.get("removeType", ""), "object")
    return [(about, name, verb, Access.ADMIN) for name in _names(body) or [""]]


def _names(body: Node) -> list[str]:
    found: list[str] = []
    for field in ("relation", "view", "sequence", "typevar", "base"):
        relation = body.get(field, {})
        relation = relation.get("relation", relation) if isinstance(relation, dict) else {}
        if "relname" in relation:
            found.append(_relation_name(relation))
    for field in ("objects", "object", "funcname", "typeName", "domainname", "relations", "roles", "func"):
        found += _object_names(body.get(field))
    for field in _NAMED_BY:
        value = body.get(field)
        if isinstance(value, str) and value:
            found.append(value)
        elif isinstance(value, dict) and "rolename" in value:
            found.append(value["rolename"])
    return found


def _relation_name(body: Node) -> str:
    schema = "pg_temp" if body.get("relpersistence") == "t" else body.get("schemaname", "")
    return f"{schema}.{body['relname']}" if schema else str(body["relname"])


def _object_names(value: Any) -> list[str]:
    """Return the dotted names in one of the several shapes in which the grammar leaves names of objects."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        return []
    if all("String" in item for item in value if item):
        return [".".join(item["String"].get("sval", "") for item in value if item)]
    found: list[str] = []
    for item in value:
        for kind, inner in item.items():
            match kind:
                case "List":
                    found += _object_names(inner.get("items"))
                case "RangeVar":
                    found.append(_relation_name(inner))
                case "ObjectWithArgs":
                    found += _object_names(inner.get("objname"))
                case "RoleSpec":
                    found.append(inner.get("rolename", ""))
                case "TypeName":
                    found += _object_names(inner.get("names"))
                case "objname" | "names":
                    found += _object_names(inner)
    return found
