"""The names that PostgreSQL gives to the columns of a select list where the text gives none.

As `FigureColname` of its `parser/parse_target.c`: a name found further inside counts more than one made up.
"""

from typing import Final

from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.trees import qualified

UNNAMED: Final = "?column?"

_FIXED: Final = {
    "GroupingFunc": "grouping",
    "MergeSupportFunc": "merge_action",
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "XmlSerialize": "xmlserialize",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
}
_BY_OPERATION: Final = {
    "IS_GREATEST": "greatest",
    "IS_LEAST": "least",
    "IS_XMLCONCAT": "xmlconcat",
    "IS_XMLELEMENT": "xmlelement",
    "IS_XMLFOREST": "xmlforest",
    "IS_XMLPARSE": "xmlparse",
    "IS_XMLPI": "xmlpi",
    "IS_XMLROOT": "xmlroot",
    "IS_XMLSERIALIZE": "xmlserialize",
    "JSON_EXISTS_OP": "json_exists",
    "JSON_QUERY_OP": "json_query",
    "JSON_VALUE_OP": "json_value",
}
_OPERATIONS: Final = frozenset({"MinMaxExpr", "XmlExpr", "JsonFuncExpr"})


def figured(node: Node) -> str:
    """Return the name of a column without one."""
    return _figured(node)[0] or UNNAMED


def _figured(node: Node) -> tuple[str, int]:
    """Return a name and how much it counts: 2 for one that was found, 1 for one made up, 0 for none."""
    ((kind, body),) = node.items()
    if kind in _FIXED:
        return _FIXED[kind], 2
    if kind in _OPERATIONS:
        name = _BY_OPERATION.get(body.get("op", ""), "")
        return name, 2 if name else 0
    match kind:
        case "ColumnRef":
            names = [field["String"].get("sval", "") for field in body["fields"] if "String" in field]
            return (names[-1], 2) if names else ("", 0)
        case "A_Indirection":
            names = [step["String"].get("sval", "") for step in body["indirection"] if "String" in step]
            return (names[-1], 2) if names else _figured(body["arg"])
        case "FuncCall":
            return qualified(body["funcname"])[1], 2
        case "A_Expr":
            return ("nullif", 2) if body["kind"] == "AEXPR_NULLIF" else ("", 0)
        case "TypeCast":
            name, strength = _figured(body["arg"])
            return (name, strength) if strength > 1 else (qualified(body["typeName"]["names"])[1], 1)
        case "CollateClause":
            return _figured(body["arg"])
        case "SubLink":
            return _of_subquery(body)
        case "CaseExpr":
            name, strength = _figured(body["defresult"]) if body.get("defresult") else ("", 0)
            return (name, strength) if strength > 1 else ("case", 1)
        case "SQLValueFunction":
            return body["op"].removeprefix("SVFOP_").removesuffix("_N").lower(), 2
    return "", 0


def _of_subquery(body: Node) -> tuple[str, int]:
    match body["subLinkType"]:
        case "EXISTS_SUBLINK":
            return "exists", 2
        case "ARRAY_SUBLINK":
            return "array", 2
        case "EXPR_SUBLINK":
            select = body["subselect"].get("SelectStmt", {})
            while select.get("op", "SETOP_NONE") != "SETOP_NONE":
                select = select["larg"]
            if "valuesLists" in select:
                return "column1", 2
            if select.get("targetList"):
                first = select["targetList"][0]["ResTarget"]
                return first.get("name") or figured(first["val"]), 2
    return "", 0
