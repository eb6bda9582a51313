"""Turns what pydantic found wrong into problems with a place, an expectation and a suggestion."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from bastion.policy.marks import Marked, Path, Problem, dotted

_EXPECTED = {
    "missing": "a value",
    "string_type": "a string",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "frozen_set_type": "a list",
}


def validated(
    model: type[BaseModel],
    marked: Marked,
    path: Path,
    problems: list[Problem],
    private: frozenset[str] = frozenset(),
) -> Any:
    """Return the part of `marked` at `path` as a `model`, or None with what is wrong added to `problems`.

    Of what stands under a key in `private` a problem names the type alone.
    """
    value = at(marked.value, path)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems.extend(_problem(details, marked, path, model, private) for details in error.errors())
        return None


def at(value: Any, path: Path) -> Any:
    """Return the value at `path`."""
    for step in path:
        value = value[step]
    return value


def shown(value: object) -> str:
    """Return a value as an error message names it: short, and never a whole document."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:57]}…"


def sort_of(value: object) -> str:
    """Return what kind of value something is, for an error message that must not repeat it."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return shown(value)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return what a misspelt word may have meant, as a hint, or an empty string."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def _problem(details: Any, marked: Marked, path: Path, model: type[BaseModel], private: frozenset[str]) -> Problem:
    location: Path = (*path, *_followed(at(marked.value, path), details["loc"]))
    kind = details["type"]
    found = sort_of(details["input"]) if private.intersection(location) else shown(details["input"])
    hint = ""
    if kind == "extra_forbidden":
        known = _fields_at(model, details["loc"][:-1])
        place = marked.place(location)
        hint = suggestion(str(location[-1]), known)
        return Problem(place, dotted(location), "a known key", repr(location[-1]), hint)
    if kind == "missing":
        found = f"no {location[-1]!r}" if location else "nothing"
        expected = f"{location[-1]!r} to be given"
        return Problem(marked.place(location), dotted(location), expected, found)
    if kind in {"literal_error", "enum"}:
        expected = str(details["ctx"]["expected"]).replace("True", "true").replace("False", "false")
        hint = suggestion(str(details["input"]), expected.replace("'", "").replace(" or ", ", ").split(", "))
    elif kind == "value_error":
        message = str(details["ctx"]["error"])
        wanted, _, got = message.partition(", found ")
        expected, found = wanted.removeprefix("expected "), got or found
    elif kind in _EXPECTED:
        expected = _EXPECTED[kind]
        if kind == "string_type" and isinstance(details["input"], bool | int | float):
            hint = "put it in quotes if it is meant as text"
    else:
        message = str(details["msg"]).removeprefix("Input should be ").removeprefix("Value should ")
        expected = message[:1].lower() + message[1:]
    return Problem(marked.place(location), dotted(location), expected, found, hint)


def _followed(value: Any, location: tuple[Any, ...]) -> tuple[str | int, ...]:
    """Return the part of pydantic's location that is a path in the document: without the names of union members."""
    path: list[str | int] = []
    for index, step in enumerate(location):
        inside = (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int))
        if inside:
            value = value[step] if not isinstance(value, list) or step < len(value) else None
            path.append(step)
        elif index == len(location) - 1 and isinstance(value, dict) and isinstance(step, str):
            path.append(step)
    return tuple(path)


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Return the keys that are known where `location` leads, as far as models can be followed."""
    current: Any = model
    for step in location:
        found = getattr(current, "model_fields", {}).get(step)
        if found is None:
            continue
        current = _model_in(found.annotation) or current
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
