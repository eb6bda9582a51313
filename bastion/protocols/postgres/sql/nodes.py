"""The expression nodes that the analysis understands, field by field. What is not here is not understood.

A field is either a *scalar*, which cannot hold another node that matters, or a *child*: a node, a list of nodes, or,
where a type is given, the bare body of a node of that type.
"""

from typing import Final, TypeAlias


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


Fields: TypeAlias = dict[str, str | None]
"""Child fields; the value is the type of a bare body, or None for wrapped nodes."""


def _spec(scalars: str, *children: str, **bodies: str) -> tuple[frozenset[str], Fields]:
    return frozenset(scalars.split()) | {"location"}, {**dict.fromkeys(children), **bodies}


PLAIN: Final[dict[str, tuple[frozenset[str], Fields]]] = {
    "A_Const": _spec("ival fval boolval sval bsval isnull"),
    "Integer": _spec("ival"),
    "Float": _spec("fval"),
    "Boolean": _spec("boolval"),
    "String": _spec("sval"),
    "BitString": _spec("bsval"),
    "ParamRef": _spec("number"),
    "A_Star": _spec(""),
    "List": _spec("", "items"),
    "BoolExpr": _spec("boolop", "args"),
    "A_Indices": _spec("is_slice", "lidx", "uidx"),
    "A_ArrayExpr": _spec("list_start list_end", "elements"),
    "ResTarget": _spec("name", "val", "indirection"),
    "CaseWhen": _spec("", "expr", "result"),
    "CoalesceExpr": _spec("", "args"),
    "MinMaxExpr": _spec("op", "args"),
    "NullTest": _spec("nulltesttype argisrow", "arg"),
    "BooleanTest": _spec("booltesttype", "arg"),
    "RowExpr": _spec("row_format colnames", "args"),
    "NamedArgExpr": _spec("name argnumber", "arg"),
    "CollateClause": _spec("collname", "arg"),
    "WindowDef": _spec("name refname frameOptions", "partitionClause", "orderClause", "startOffset", "endOffset"),
    "GroupingFunc": _spec("", "args"),
    "GroupingSet": _spec("kind", "content"),
    "SQLValueFunction": _spec("op typmod"),
    "XmlExpr": _spec("op name xmloption indent", "named_args", "arg_names", "args"),
    "XmlSerialize": _spec("xmloption indent", "expr", typeName="TypeName"),
    "SetToDefault": _spec(""),
    "MergeSupportFunc": _spec(""),
    "MultiAssignRef": _spec("colno ncolumns", "source"),
    "CTECycleClause": _spec(
        "cycle_col_list cycle_mark_column cycle_path_column", "cycle_mark_value", "cycle_mark_default"
    ),
    "RangeTableFuncCol": _spec("colname for_ordinality is_not_null", "colexpr", "coldefexpr", typeName="TypeName"),
    "JsonFormat": _spec("format_type encoding"),
    "JsonReturning": _spec("", format="JsonFormat"),
    "JsonOutput": _spec("", typeName="TypeName", returning="JsonReturning"),
    "JsonValueExpr": _spec("", "raw_expr", format="JsonFormat"),
    "JsonKeyValue": _spec("", "key", value="JsonValueExpr"),
    "JsonBehavior": _spec("btype", "expr"),
    "JsonArgument": _spec("name", val="JsonValueExpr"),
    "JsonObjectConstructor": _spec("absent_on_null unique", "exprs", output="JsonOutput"),
    "JsonArrayConstructor": _spec("absent_on_null", "exprs", output="JsonOutput"),
    "JsonAggConstructor": _spec("", "agg_filter", "agg_order", output="JsonOutput", over="WindowDef"),
    "JsonObjectAgg": _spec("absent_on_null unique", constructor="JsonAggConstructor", arg="JsonKeyValue"),
    "JsonArrayAgg": _spec("absent_on_null", constructor="JsonAggConstructor", arg="JsonValueExpr"),
    "JsonIsPredicate": _spec("item_type unique_keys", "expr", format="JsonFormat"),
    "JsonParseExpr": _spec("unique_keys", expr="JsonValueExpr", output="JsonOutput"),
    "JsonScalarExpr": _spec("", "expr", output="JsonOutput"),
    "JsonSerializeExpr": _spec("", expr="JsonValueExpr", output="JsonOutput"),
    "JsonFuncExpr": _spec(
        "op column_name wrapper quotes",
        "pathspec",
        "passing",
        context_item="JsonValueExpr",
        output="JsonOutput",
        on_empty="JsonBehavior",
        on_error="JsonBehavior",
    ),
    "JsonTablePathSpec": _spec("name name_location", "string"),
    "JsonTableColumn": _spec(
        "coltype name wrapper quotes",
        "columns",
        typeName="TypeName",
        pathspec="JsonTablePathSpec",
        format="JsonFormat",
        on_empty="JsonBehavior",
        on_error="JsonBehavior",
    ),
}
"""Nodes that do nothing but hold others."""

SINCE: Final = {
    "JsonFuncExpr": 170000,
    "JsonScalarExpr": 170000,
    "JsonSerializeExpr": 170000,
    "JsonParseExpr": 170000,
    "JsonTable": 170000,
    "MergeSupportFunc": 170000,
    "JsonObjectConstructor": 160000,
    "JsonArrayConstructor": 160000,
    "JsonObjectAgg": 160000,
    "JsonArrayAgg": 160000,
    "JsonIsPredicate": 160000,
}
"""From which server version on a node means what it says. To an older server the same text is a call of whatever
function has that name, or an error."""

BETWEEN: Final[dict[str, tuple[str, ...]]] = {
    "AEXPR_BETWEEN": (">=", "<="),
    "AEXPR_NOT_BETWEEN": ("<", ">"),
    "AEXPR_BETWEEN_SYM": (">=", "<="),
    "AEXPR_NOT_BETWEEN_SYM": ("<", ">"),
}
"""The operators that are meant where the tree only says BETWEEN."""

OPERATOR_KINDS: Final = frozenset(
    {"AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", "AEXPR_NULLIF"}
    | {"AEXPR_IN", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"}
)

SELECT_FIELDS: Final = _words(
    """
    distinctClause intoClause targetList fromClause whereClause groupClause groupDistinct havingClause
    windowClause valuesLists sortClause limitOffset limitCount limitOption lockingClause withClause op all larg
    rarg
    """
)
FUNCTION_FIELDS: Final = frozenset(
    [
        "funcname",
        "args",
        "agg_order",
        "agg_filter",
        "over",
        "agg_within_group",
        "agg_star",
        "agg_distinct",
        "func_variadic",
        "funcformat",
        "location",
    ]
)
TYPE_FIELDS: Final = frozenset(["names", "typemod", "typmods", "arrayBounds", "setof", "location"])

OPERATION_FIELDS: Final = frozenset(
    {"kind", "name", "lexpr", "rexpr", "location", "rexpr_list_start", "rexpr_list_end"}
)
CTE_FIELDS: Final = frozenset(
    {"ctename", "aliascolnames", "ctematerialized", "ctequery", "location", "search_clause", "cycle_clause"}
)
