"""How copied data is laid out, by what the statement says of it."""

from typing import Final

from bastion.protocols.postgres.covering.grammar import CopyFormat, Form
from bastion.protocols.postgres.sql.reading import CopyForm

_READABLE: Final = frozenset({"utf8", "utf-8", "unicode"})
"""Encodings of copied data that is read byte by byte here."""


def is_readable(form: CopyForm | None) -> bool:
    """Tell whether copied data is in an encoding that is read; what is no COPY is."""
    return form is None or form.encoding is None or form.encoding.lower() in _READABLE


def layout(form: CopyForm) -> CopyFormat:
    """Return how the target writes the rows."""
    given = {"delimiter": form.delimiter, "null": form.null, "quote": form.quote, "escape": form.escape}
    return CopyFormat(
        Form(form.format), form.header, **{key: value.encode() for key, value in given.items() if value is not None}
    )
