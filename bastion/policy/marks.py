"""Reads YAML so that every value knows its place, and nothing about it is guessed.

Refused: duplicate keys, aliases, merge keys, tags, several documents, keys without a value, and files that are too
large or too deep. A key without a value could otherwise read as "no restriction", and a file that does not end with a
line end as a whole one; where a file was cut exactly at the end of a line, nothing here can tell.
Numbers and booleans are read by YAML 1.2's core rules, so that `no`, `on` and `12:30` stay the words they look like.

What a problem says of a file's content never includes a value: it may be a secret that was put in the wrong place.
"""

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from bastion.model.text import visible

Path: TypeAlias = tuple[str | int, ...]

_SIZE_AT_MOST = 4 * 1024 * 1024
_DEPTH_AT_MOST = 32
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]+")
_QUOTES = "text that begins with *, & or ! goes in quotes"
_NAMES_NULL = frozenset({"cover"})
"""Keys under which a written `null` is a name of the policy's own, not a missing value."""
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no YAML stream may hold (YAML 1.2, section 5.1)."""
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file: where, at which key, what was expected and what was found."""

    place: Place
    path: str
    expected: str
    found: str
    hint: str = ""

    def __str__(self) -> str:
        at = f"{self.path}: " if self.path else ""
        return f"{self.place}: {at}expected {self.expected}, found {self.found}"


class Problems(Exception):
    """All mistakes that were found together."""

    def __init__(self, found: list[Problem]) -> None:
        super().__init__("\n".join(map(str, found)))
        self.found = found


@dataclass(slots=True)
class Marked:
    """A document's values, and the place of each by its path."""

    value: Any
    places: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Return the place of `path`, or of the nearest thing around it."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


def read(text: bytes, file: str) -> Marked:
    """Return what `text` holds, or raise `Problems`."""
    start = Place(file, 1, 1)
    if len(text) > _SIZE_AT_MOST:
        raise Problems([Problem(start, "", f"at most {_SIZE_AT_MOST} bytes", f"{len(text)}")])
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8")
        place = Place(file, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
        raise Problems([Problem(place, "", "UTF-8", f"byte 0x{text[error.start]:02x}")]) from None
    problems: list[Problem] = []
    marked = Marked(None, {(): start})
    try:
        _check_events(decoded, file, problems)
        if not problems:
            _check_end(decoded, file, problems)
            node = yaml.compose(decoded, Loader=yaml.CSafeLoader)
            if node is not None:
                marked.value = _value(node, (), file, marked, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else start
        problems.append(Problem(place, "", "YAML", (error.problem or error.context or "something else").strip()))
    except yaml.YAMLError:
        problems.append(Problem(_unprintable(decoded, file), "", "YAML", "a character that does not belong in text"))
    if problems:
        raise Problems(problems)
    return marked


def _unprintable(text: str, file: str) -> Place:
    """Return the place of the first character that YAML does not take: the one mistake its reader tells without it."""
    match = _FORBIDDEN.search(text)
    before = text[: match.start()] if match else ""
    return Place(file, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)


def _check_end(text: str, file: str, problems: list[Problem]) -> None:
    if text and not text.endswith("\n"):
        last = text.rpartition("\n")[2]
        place = Place(file, text.count("\n") + 1, len(last) + 1)
        hint = "write one at the end; if there was one, the file has been cut"
        problems.append(Problem(place, "", "a line end", "the end of the file", hint))


def _check_events(text: str, file: str, problems: list[Problem]) -> None:
    """Refuse, before anything is built, what could make a small file large or deep."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        mark = event.start_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        if isinstance(event, yaml.AliasEvent):
            problems.append(Problem(place, "", "the value itself", "an alias", _QUOTES))
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH_AT_MOST:
                problems.append(Problem(place, "", f"at most {_DEPTH_AT_MOST} levels", "more"))
                return
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                problems.append(Problem(place, "", "one document", "a second one"))
        tag = getattr(event, "tag", None)
        if tag is not None:
            problems.append(Problem(place, "", "a plain value", "a tag", _QUOTES))


def _value(node: yaml.Node, path: Path, file: str, marked: Marked, problems: list[Problem]) -> Any:
    marked.places[path] = Place(file, node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, file, marked, problems)
    if isinstance(node, yaml.SequenceNode):
        return [_item(item, (*path, i), file, marked, problems) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode):
        raise AssertionError("YAML has no other nodes")
    return _scalar(node)


def _item(node: yaml.Node, path: Path, file: str, marked: Marked, problems: list[Problem]) -> Any:
    value = _value(node, path, file, marked, problems)
    if value is None:
        problems.append(Problem(marked.place(path), dotted(path), "a value", "nothing", "leave out what is not meant"))
    return value


def _mapping(node: yaml.MappingNode, path: Path, file: str, marked: Marked, problems: list[Problem]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = Place(file, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(place, dotted(path), "a name as key", "a list or a mapping"))
            continue
        key = key_node.value
        if key in found:
            problems.append(Problem(place, dotted((*path, key)), "each key once", f"{key!r} a second time"))
            continue
        if key == "<<":
            problems.append(Problem(place, dotted(path), "each value written out", "a merge key"))
            continue
        found[key] = _value(value_node, (*path, key), file, marked, problems)
        if key in _NAMES_NULL and found[key] is None and value_node.value == "null":
            found[key] = "null"
        marked.places[(*path, key)] = place
        if found[key] is None:
            problems.append(Problem(place, dotted((*path, key)), "a value", "nothing", "leave out what is not meant"))
    return found


def _scalar(node: yaml.ScalarNode) -> Any:
    """Return a scalar's value by YAML 1.2's core schema, as far as a configuration needs it."""
    if node.style:
        return node.value
    if node.value.lower() in _WORDS and node.value in {"", "~", "null", "true", "false"}:
        return _WORDS[node.value]
    if _INTEGER.fullmatch(node.value):
        return int(node.value)
    if _FLOAT.fullmatch(node.value):
        return float(node.value)
    return node.value


def dotted(path: Path) -> str:
    """Return a path as people write it, with nothing in it that could act on a terminal."""
    return ".".join(visible(str(step)) for step in path)
