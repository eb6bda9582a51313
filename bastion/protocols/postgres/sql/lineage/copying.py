"""Reads the options of COPY … TO STDOUT: how its rows are written, where that is known in full."""

from typing import Any

from bastion.protocols.postgres.sql.lineage.values import Untraceable
from bastion.protocols.postgres.sql.parser import Node
from bastion.protocols.postgres.sql.reading import CopyForm
from bastion.protocols.postgres.sql.trees import strings

_TEXTS = frozenset({"format", "delimiter", "null", "quote", "escape", "encoding"})
_FORMATS = frozenset({"text", "csv", "binary"})
_TRUE = frozenset({"true", "on", "1"})
_FALSE = frozenset({"false", "off", "0"})


def copy_form(options: list[Node]) -> CopyForm:
    """Return how the rows are written. Raises `Untraceable` for an option that is not known, or given twice."""
    known: dict[str, Any] = {}
    for node in options:
        option = node["DefElem"]
        name, argument = option["defname"].lower(), option.get("arg")
        if name in known:
            raise Untraceable("an option of COPY that is given twice")
        if name in _TEXTS:
            known[name] = _text(argument)
        elif name == "header":
            known[name] = _truth(argument)
        elif name == "force_quote":
            known[name] = _columns(argument)
        elif name != "oids" and not (name == "freeze" and not _truth(argument)):
            raise Untraceable("an option of COPY that is not known")
    form = known.get("format", "text").lower()
    if form not in _FORMATS:
        raise Untraceable("a format of COPY that is not known")
    return CopyForm(**{**known, "format": form})


def is_unusual(kind: str, body: Node) -> bool:
    """Tell whether a statement copies rows to the client so that a value may not stand in them as it is."""
    if kind != "CopyStmt" or body.get("is_from") or body.get("filename"):
        return False
    try:
        form = copy_form(body.get("options", []))
    except Untraceable:
        return True
    usual = CopyForm(form.format, null=form.null, header=form.header, force_quote=form.force_quote)
    return form != usual


def _text(argument: Node | None) -> str:
    if argument is None or "String" not in argument:
        raise Untraceable("an option of COPY that is no text")
    text: str = argument["String"].get("sval", "")
    return text


def _truth(argument: Node | None) -> bool:
    if argument is None:
        return True
    ((kind, body),) = argument.items()
    if kind == "Boolean":
        return bool(body.get("boolval"))
    if kind == "Integer" and body.get("ival", 0) in (0, 1):
        return bool(body.get("ival", 0))
    if kind == "String" and body.get("sval", "").lower() in _TRUE | _FALSE:
        return body["sval"].lower() in _TRUE
    raise Untraceable("an option of COPY that is neither true nor false")


def _columns(argument: Node | None) -> tuple[str, ...]:
    if argument is not None and "List" in argument:
        return tuple(strings(argument["List"].get("items", ())))
    if argument is not None and "A_Star" in argument:
        return ("*",)
    raise Untraceable("columns of COPY that are not known")
