"""What built-in functions, operators, types and forms of expression do to a value that is to be covered.

Only names that lead to built-in functions that are vouched for are looked up here. What is on no list may tell
something of its arguments by failing, by its row count or by its result, and so counts as a comparison.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TRANSPARENT: Final = _words(
    """
    concat concat_ws format lower upper initcap substr left right btrim ltrim rtrim trim replace reverse translate
    split_part lpad rpad overlay repeat md5 sha224 sha256 sha384 sha512 encode convert_to quote_literal quote_ident
    quote_nullable length char_length character_length octet_length bit_length text varchar bpchar name
    to_json to_jsonb row_to_json array_to_json json_build_object json_build_array jsonb_build_object
    jsonb_build_array json_agg jsonb_agg json_object_agg jsonb_object_agg json_agg_strict jsonb_agg_strict
    jsonb_strip_nulls json_strip_nulls jsonb_pretty jsonb_typeof json_typeof json_array_length jsonb_array_length
    json_extract_path json_extract_path_text jsonb_extract_path jsonb_extract_path_text
    array_agg string_agg xmlagg array_to_string array_append array_prepend array_cat array_length cardinality
    any_value min max sum avg first_value last_value nth_value lag lead
    to_char extract date_part date_trunc
    unnest json_each json_each_text jsonb_each jsonb_each_text json_array_elements json_array_elements_text
    jsonb_array_elements jsonb_array_elements_text json_object_keys jsonb_object_keys
    """
)
"""They show of a value what is covered with their result, and do nothing else that depends on it."""

CHOOSING: Final[dict[str, tuple[int, ...]]] = {
    "format": (0,),
    "extract": (0,),
    "date_part": (0,),
    "date_trunc": (0, 2),
    "to_char": (1,),
    "encode": (1,),
    "convert_to": (1,),
    "substr": (1, 2),
    "substring": (1, 2),
    "left": (1,),
    "right": (1,),
    "lpad": (1,),
    "rpad": (1,),
    "repeat": (1,),
    "overlay": (2, 3),
    "split_part": (1, 2),
    "array_length": (1,),
    "lag": (1,),
    "lead": (1,),
    "nth_value": (1,),
}
"""The arguments, from 0, of transparent functions that choose what is shown, or make the function fail."""

BY_NUMBER: Final = frozenset({"substring"})
"""Transparent where all arguments but the first are whole numbers; with a pattern they compare."""

COUNTING: Final = frozenset({"count"})
"""Tell only whether a value is null, which stays visible."""

PASSING: Final = frozenset({"||", "->", "->>", "#>", "#>>"})
"""Operators that join values or take them apart."""
TAKING: Final = PASSING - {"||"}
"""Those of them whose right side chooses."""

MAKING_ROWS: Final = _words(
    """
    unnest json_each json_each_text jsonb_each jsonb_each_text json_array_elements json_array_elements_text
    jsonb_array_elements jsonb_array_elements_text json_object_keys jsonb_object_keys
    """
)
"""Those of the transparent functions that return rows. How many they make of a column as it is stays visible; of what
is computed, as many as a guess is right."""

TEXTS: Final = _words("text varchar bpchar name char")
"""Types that a value is cast to without telling anything by failing."""
DOCUMENTS: Final = _words("json jsonb")
"""Types that only what is a document already is cast to without telling anything by failing."""

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "json_each": ("key", "value"),
    "jsonb_each": ("key", "value"),
    "json_each_text": ("key", "value"),
    "jsonb_each_text": ("key", "value"),
    "json_array_elements": ("value",),
    "jsonb_array_elements": ("value",),
    "json_array_elements_text": ("value",),
    "jsonb_array_elements_text": ("value",),
}
"""The columns of built-in functions that name them otherwise than after themselves."""

HOLDING: Final = frozenset(
    {"CoalesceExpr", "RowExpr", "A_ArrayExpr", "NamedArgExpr", "CollateClause", "List", "XmlSerialize", "JsonArgument"}
    | {"JsonObjectConstructor", "JsonArrayConstructor", "JsonKeyValue", "JsonValueExpr", "JsonScalarExpr"}
    | {"JsonSerializeExpr", "JsonObjectAgg", "JsonArrayAgg"}
)
"""What shows the values that it holds, and tells nothing else of them."""
COMPARING: Final = {
    "MinMaxExpr": "it is compared (GREATEST or LEAST)",
    "BooleanTest": "it is tested (IS TRUE and the like)",
    "JsonParseExpr": "it is parsed (JSON)",
    "JsonIsPredicate": "it is tested (IS JSON)",
    "JsonFuncExpr": "it is searched (JSON_VALUE, JSON_QUERY or JSON_EXISTS)",
}
XML_SHOWS: Final = frozenset({"IS_XMLCONCAT", "IS_XMLELEMENT", "IS_XMLFOREST"})
"""The forms of XML that show what they hold, without parsing it."""
