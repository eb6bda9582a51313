"""What a driver was told, read from the bytes that it received.

Message formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

REFUSED: Final = "was not sent to the target"
"""Stands in every refusal of a statement by the gateway."""
_HELD: Final = "bastion approve"


@dataclass
class Heard:
    """One exchange as the driver heard it."""

    rows: list[list[bytes | None]] = field(default_factory=list)
    copied: list[bytes] = field(default_factory=list)
    told: list[bytes] = field(default_factory=list)
    """The bodies of everything that is neither a row nor copied."""
    errors: list[dict[str, str]] = field(default_factory=list)
    notices: list[dict[str, str]] = field(default_factory=list)
    whole: bool = True
    """Whether the bytes were nothing but messages."""

    @property
    def refused(self) -> bool:
        """Whether the gateway refused a statement, or the session."""
        return any(REFUSED in error.get("D", "") or error.get("S") == "FATAL" for error in self.errors)

    @property
    def held(self) -> bool:
        """Whether the gateway asked people about a statement."""
        return any(_HELD in text for notice in self.notices for text in notice.values())

    @property
    def failed(self) -> bool:
        """Whether the target failed a statement."""
        return any(REFUSED not in error.get("D", "") and error.get("S") != "FATAL" for error in self.errors)

    def pieces(self) -> Iterator[bytes]:
        """Yield everything that could hold a value: cells, rows and columns put together, and all other words."""
        cells = [cell for row in self.rows for cell in row if cell]
        yield from self.told
        yield b" ".join(cells)
        for column in zip(*self.rows, strict=False):
            yield b"".join(cell or b"" for cell in column)
            yield b" ".join(cell or b"" for cell in column)
        yield b"".join(self.copied)

    def text(self) -> str:
        """Return all that can be read as text."""
        return b"\n".join(self.pieces()).decode("utf-8", "replace")


def heard(data: bytes) -> Heard:
    """Return what `data`, received on one connection or on several after one another, says."""
    found = Heard()
    at = 0
    while at + 5 <= len(data):
        kind = data[at : at + 1]
        end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        if end < at + 5 or end > len(data):
            found.whole = False
            found.told.append(data[at:])
            return found
        _take(found, kind, data[at + 5 : end])
        at = end
    found.whole = at == len(data)
    return found


def _take(found: Heard, kind: bytes, body: bytes) -> None:
    match kind:
        case b"D":
            found.rows.append(_cells(body))
        case b"d":
            found.copied.append(body)
        case b"E" | b"N":
            fields = {part[:1].decode(): part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
            (found.errors if kind == b"E" else found.notices).append(fields)
            found.told.append(body)
        case b"R" | b"K" | b"Z" | b"1" | b"2" | b"3" | b"n" | b"s":
            # The start-up, and what only tells where the conversation stands.
            pass
        case _:
            found.told.append(body)


def _cells(body: bytes) -> list[bytes | None]:
    cells: list[bytes | None] = []
    (count,) = struct.unpack_from("!H", body)
    at = 2
    for _ in range(count):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        cells.append(None if size < 0 else body[at : at + size])
        at += max(size, 0)
    return cells
