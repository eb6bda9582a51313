"""Rows as psql prints them: aligned, unaligned, CSV; or as JSON."""

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Cell = str | None
_RIGHT = frozenset({20, 21, 23, 26, 28, 29, 700, 701, 790, 1700})
"""The OIDs of types that psql aligns right: int8, int2, int4, oid, xid, cid, float4, float8, money, numeric."""
_WHOLE = frozenset({20, 21, 23, 26})
_FLOATS = frozenset({700, 701})
_DOCUMENTS = frozenset({114, 3802})
_BOOL = 16
_ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class Rows:
    """One result: the names and type OIDs of its columns, its cells as the target wrote them, and its tag."""

    names: tuple[str, ...]
    types: tuple[int, ...]
    cells: Sequence[Sequence[Cell]]
    tag: str = ""
    listed: bool = True
    """Whether these are rows at all, be they without columns, and not the tag of something else alone."""


@dataclass(slots=True)
class Style:
    """How rows are printed; backslash commands change it."""

    form: str = "aligned"
    tuples_only: bool = False
    expanded: bool = False
    timing: bool = False
    plain: bool = field(default=True)
    """Whether what is printed goes to a program, unchanged; a terminal gets nothing that acts."""


def listed(rows: Rows, style: Style) -> Iterator[str]:
    """Yield a result as text, in pieces, line ends included."""
    match style.form:
        case "csv":
            return _csv(rows, style)
        case "unaligned":
            return _unaligned(rows, style)
        case _:
            return _expanded(rows, style) if style.expanded else _aligned(rows, style)


def as_json(rows: Rows) -> dict[str, object]:
    """Return a result for a program: numbers, truth values and documents as JSON's own, everything else as text."""
    return {
        "columns": [{"name": name, "type": type_name(oid)} for name, oid in zip(rows.names, rows.types, strict=True)],
        "rows": [[_value(cell, oid) for cell, oid in zip(row, rows.types, strict=True)] for row in rows.cells],
        "tag": rows.tag,
    }


def type_name(oid: int) -> str:
    """Return the name of a built-in type, or its number."""
    from psycopg import adapters

    known = adapters.types.get(oid)
    return known.name if known is not None else str(oid)


def harmless(text: str, *, lines: bool = False) -> str:
    """Return a cell with what would act on a terminal written out, as psql does; a backslash stays as it is."""
    return _ACTING.sub(lambda m: m.group() if lines and m.group() == "\n" else _escape(m.group()), text)


def _escape(char: str) -> str:
    if char in "\r\n\t":
        return {"\r": "\\r", "\n": "\\n", "\t": "\t"}[char]
    return f"\\x{ord(char):02X}" if ord(char) < 0x100 else f"\\u{ord(char):04X}"


def _value(cell: Cell, oid: int) -> object:
    if cell is None:
        return None
    if oid == _BOOL:
        return cell == "t"
    if oid in _WHOLE:
        return int(cell)
    if oid in _FLOATS:
        number = float(cell)
        return number if math.isfinite(number) else cell
    if oid in _DOCUMENTS:
        return json.loads(cell)
    return cell


def _aligned(rows: Rows, style: Style) -> Iterator[str]:
    header = [_drawn(name) for name in rows.names]
    table = [[_drawn(cell or "") for cell in row] for row in rows.cells] if header else []
    widths = [max(map(width, name)) for name in header]
    for row in table:
        for at, lines in enumerate(row):
            widths[at] = max(widths[at], *map(width, lines))
    if not style.tuples_only:
        yield from _header(header, widths)
        yield ("+".join("-" * (w + 2) for w in widths) or "--") + "\n"
    for row in table:
        yield from _aligned_row(row, widths, rows.types)
    yield _footer(rows, style)


def _header(header: list[list[str]], widths: list[int]) -> Iterator[str]:
    for number in range(max(map(len, header), default=0)):
        parts = []
        for lines, wide in zip(header, widths, strict=True):
            text = _centred(lines[number] if number < len(lines) else "", wide)
            parts.append(f" {text}{'+' if number < len(lines) - 1 else ' '}")
        yield "|".join(parts) + "\n"


def _aligned_row(row: list[list[str]], widths: list[int], types: Sequence[int]) -> Iterator[str]:
    """Yield a row, of as many lines as its tallest cell; a plus says that a cell goes on below."""
    last = len(row) - 1
    for number in range(max(map(len, row))):
        parts = []
        for at, (lines, wide, oid) in enumerate(zip(row, widths, types, strict=True)):
            text = lines[number] if number < len(lines) else ""
            more = number < len(lines) - 1
            padding = " " * (wide - width(text))
            if oid in _RIGHT:
                text = padding + text
            elif at < last or more:
                text += padding
            parts.append(f" {text}{'+' if more else ' ' if at < last else ''}")
        yield "|".join(parts) + "\n"


def _expanded(rows: Rows, style: Style) -> Iterator[str]:
    names = [_drawn(name) for name in rows.names]
    table = [[_drawn(cell or "") for cell in row] for row in rows.cells]
    wide = max((width(line) for name in names for line in name), default=0)
    widest = max((width(line) for row in table for cell in row for line in cell), default=0)
    if not table and not style.tuples_only:
        yield "(0 rows)\n"
    for number, row in enumerate(table, start=1):
        if not style.tuples_only:
            yield f"-[ RECORD {number} ]".ljust(wide + 3 + widest, "-") + "\n"
        elif number > 1:
            yield "\n"
        for name, cell in zip(names, row, strict=True):
            yield from _expanded_field(name, cell, wide, widest)
    yield "\n"


def _expanded_field(name: list[str], cell: list[str], wide: int, widest: int) -> Iterator[str]:
    for at in range(max(len(name), len(cell))):
        label = name[at] if at < len(name) else ""
        text = cell[at] if at < len(cell) else ""
        goes_on = " +"[at < len(name) - 1]
        more = at < len(cell) - 1
        shown = text + " " * (widest - width(text)) + "+" if more else text
        yield f"{label}{' ' * (wide - width(label))}{goes_on}| {shown}\n"


def _drawn(text: str) -> list[str]:
    """Return the lines of a cell as a terminal shows them: nothing acts, and tabs are the spaces they stand for."""
    return [_untabbed(line) for line in harmless(text, lines=True).split("\n")]


def _untabbed(line: str) -> str:
    if "\t" not in line:
        return line
    shown = ""
    for part in line.split("\t")[:-1]:
        shown += part
        shown += " " * (8 - width(shown) % 8)
    return shown + line.rpartition("\t")[2]


def _unaligned(rows: Rows, style: Style) -> Iterator[str]:
    show = str if style.plain else harmless
    if style.expanded:
        for number, row in enumerate(rows.cells):
            yield "\n" if number else ""
            for name, cell in zip(rows.names, row, strict=True):
                yield f"{show(name)}|{show(cell or '')}\n"
        return
    if not style.tuples_only:
        yield "|".join(map(show, rows.names)) + "\n"
    for row in rows.cells if rows.names else ():
        yield "|".join(show(cell or "") for cell in row) + "\n"
    if not style.tuples_only:
        yield f"({_count(len(rows.cells))})\n"


def _csv(rows: Rows, style: Style) -> Iterator[str]:
    show = str if style.plain else harmless
    table: Iterable[Sequence[Cell]] = rows.cells if style.tuples_only else [rows.names, *rows.cells]
    for number, row in enumerate(table):
        if not rows.names:
            yield "" if number or style.tuples_only else "\n"
            continue
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([show(cell or "") for cell in row])
        yield line.getvalue()


def _footer(rows: Rows, style: Style) -> str:
    return "\n" if style.tuples_only else f"({_count(len(rows.cells))})\n\n"


def _count(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _centred(text: str, wide: int) -> str:
    space = wide - width(text)
    return " " * (space // 2) + text + " " * (space - space // 2)


def width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
