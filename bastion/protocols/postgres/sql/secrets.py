"""Finds statements that carry a secret, and strikes every literal out of them.

Positions come from PostgreSQL's own scanner, never from a pattern: what it calls a string is struck out whole, and
where even it cannot tell, nothing of the text is shown.
"""

import re
from collections.abc import Iterable
from typing import Final

import postgast

from bastion.protocols.postgres.sql.parser import Node

STRUCK: Final = "'***'"
UNSHOWN: Final = "(text that may hold a secret)"

_ALWAYS: Final = frozenset(
    [
        "CreateUserMappingStmt",
        "AlterUserMappingStmt",
        "CreateForeignServerStmt",
        "AlterForeignServerStmt",
        "CreateSubscriptionStmt",
        "AlterSubscriptionStmt",
        "CreateFdwStmt",
        "AlterFdwStmt",
        "AlterSystemStmt",
        "CreateForeignTableStmt",
        "ImportForeignSchemaStmt",
    ]
)
_PASSWORD_OPTIONS: Final = frozenset({"password", "encryptedPassword", "unencryptedPassword"})
_WORDS: Final = (
    *(b"password", b"passwd", b"secret", b"pgp_", b"crypt", b"dblink", b"conninfo"),
    *(b"token", b"api_key", b"apikey", b"private_key", b"credential"),
)
"""Words near which, in a text that is not one of the statements above, a literal may still be a secret."""
_WITH_PASSWORD: Final = re.compile(rb"://[^\s/:@']*:[^\s/@']+@")
"""The head of a URL that carries a password."""
_OF_ROLES: Final = re.compile(rb"\b(?:alter|create)\s+(?:role|user|group)\b")
"""Where a text is not understood, what looks as if it gave a role a password might, however that is spelled."""
_LITERALS: Final = frozenset({"SCONST", "USCONST", "BCONST", "XCONST"})


def carries_secret(kind: str, body: Node) -> bool:
    """Tell whether a statement of this kind holds a secret in its literals."""
    if kind in _ALWAYS:
        return True
    if kind in {"CreateRoleStmt", "AlterRoleStmt"}:
        return any(o["DefElem"].get("defname") in _PASSWORD_OPTIONS for o in body.get("options", ()))
    return False


def suspicious(text: bytes) -> bool:
    """Tell whether a text speaks of secrets in a place where the grammar does not say which literal is one."""
    lowered = text.lower()
    return any(word in lowered for word in _WORDS) or _WITH_PASSWORD.search(lowered) is not None


def suspicious_unread(text: bytes) -> bool:
    """Tell whether a text that is not understood at all may hold a secret."""
    return suspicious(text) or _OF_ROLES.search(text.lower()) is not None


def struck(text: bytes, spans: Iterable[tuple[int, int]]) -> str:
    """Return the text with every comment struck out, and every literal in the byte ranges `spans`."""
    try:
        tokens = postgast.scan(text.decode()).tokens
        names = postgast.pg_query_pb2.Token.Name
        literals = [(t.start, t.end, names(t.token)) for t in tokens]
    except Exception:  # a text that cannot be scanned is not shown at all
        return UNSHOWN
    ranges = list(spans)
    parts: list[bytes] = []
    at = 0
    for start, end, name in literals:
        comment = name in {"SQL_COMMENT", "C_COMMENT"}
        if not comment and not (name in _LITERALS and any(low <= start < high for low, high in ranges)):
            continue
        parts += [text[at:start], b"/***/" if comment else STRUCK.encode()]
        at = end
    parts.append(text[at:])
    return b"".join(parts).decode(errors="replace")
