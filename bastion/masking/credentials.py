"""What opens something to whoever holds it: tokens, keys and passwords."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from bastion.masking import checks
from bastion.masking.kind import Kind, is_alphanumeric
from bastion.masking.patterns import Span, built_in, search

_TOKEN: Final = built_in(rb"e[wy][A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){2,4}")
_HEADER_START: Final = built_in(rb"e[wy]")
"""A brace and what can follow it, encoded."""
_TOKEN_STARTS: Final = 8


def _tokens(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_TOKEN, text, at)) is not None:
        start, end = hit
        at = text.index(b".", start)
        # The header may stand behind other letters; a few tries, so that the time stays in proportion.
        for begin in islice(_header_starts(text, start, at), _TOKEN_STARTS):
            if checks.is_token_header(text[begin:at]):
                yield begin, end
                at = end
                break


def _header_starts(text: bytes, at: int, end: int) -> Iterator[int]:
    while (hit := search(_HEADER_START, text, at, end=end)) is not None:
        yield hit[0]
        at = hit[1]


JWT: Final = Kind(
    "JSON web tokens, signed or encrypted, whose header can be decoded",
    rb"e[wy][A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.",
    _tokens,
)


_KEYS: Final = (
    rb"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{40,}|glpat-[A-Za-z0-9_-]{20,}",
    rb"xox[abeprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}",
    rb"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{24,}=*",
    rb"GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{20,}",
    rb"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}",
)
"""GitHub and GitLab, Slack, Stripe, Google, Azure: their prefixes stand nowhere else, whatever is beside them."""
_LONE_KEYS: Final = (rb"A(?:KIA|SIA)[A-Z2-7]{16}", rb"AIza[A-Za-z0-9_-]{35}")
"""AWS, Google: of one length, so something longer is something else."""
_NAMED_SECRETS: Final = (
    rb"""(?i:aws[a-z0-9_.-]{0,20}secret[a-z0-9_.-]{0,20}|secret_?access_?key)["' ]{0,3}[:=]>?["' ]{0,3}"""
    rb"([A-Za-z0-9/+]{40,})",
    rb"(?i:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{43,86}={1,2})",
    rb"[?&]sig=([A-Za-z0-9%+/]{43,}(?:%3[Dd]|=))",
)
"""AWS and Azure: told by what they are called alone, which stays."""

_KEY: Final = built_in(b"|".join(_KEYS))
_LONE_KEY: Final = built_in(b"|".join(_LONE_KEYS))
_NAMED_SECRET: Final = tuple(map(built_in, _NAMED_SECRETS))


def _cloud_keys(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_KEY, text, at)) is not None:
        yield hit
        at = hit[1]
    at = 0
    while (hit := search(_LONE_KEY, text, at)) is not None:
        start, end = hit
        if is_alphanumeric(text, start - 1) or is_alphanumeric(text, end):
            at = start + 1
        else:
            yield hit
            at = end
    for pattern in _NAMED_SECRET:
        at = 0
        while (hit := search(pattern, text, at, group=1)) is not None:
            yield hit
            at = hit[1]


CLOUD_KEY: Final = Kind(
    "keys and tokens of AWS, Azure, Google Cloud, GitHub, GitLab, Slack and Stripe",
    b"|".join((*_KEYS, *_LONE_KEYS, *_NAMED_SECRETS)),
    _cloud_keys,
)


_KEY_BEGINS: Final = built_in(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-[0-9]+:|AGE-SECRET-KEY-1"
)
_KEY_ENDS: Final = built_in(rb"-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_AGE_KEY: Final = built_in(rb"AGE-SECRET-KEY-1[A-Z0-9]*")


def _private_keys(text: bytes) -> Iterator[Span]:
    at, border = 0, -1
    while (hit := search(_KEY_BEGINS, text, at)) is not None:
        start, at = hit
        if start > border:
            border = text.find(b"\0", start)
            border = len(text) if border < 0 else border
        match text[start : start + 1]:
            case b"A":
                end = search(_AGE_KEY, text, start, end=border)
            case b"P":
                end = None
            case _:
                end = search(_KEY_ENDS, text, at, end=border)
        at = border if end is None else end[1]
        yield start, at


PRIVATE_KEY: Final = Kind(
    "private keys as PEM, OpenPGP, PuTTY or age, up to their end or that of the text",
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY|PuTTY-User-Key-File-[0-9]|AGE-SECRET-KEY-1",
    _private_keys,
)


_BEARER: Final = built_in(
    rb"""(?i:bearer[ \t]+|authorization["']?[:=][ \t]*["']?(?:basic|token)[ \t]+)([A-Za-z0-9._~+/-]{8,}=*)"""
)
_CERTAIN_BEARER: Final = 24


def _bearers(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_BEARER, text, at, group=1)) is not None:
        start, end = hit
        # "Bearer certificates" are none: a word has no digit.
        if end - start >= _CERTAIN_BEARER or any(48 <= character <= 57 for character in text[start:end]):
            yield hit
            at = end
        else:
            at = max(start, end - len(b"authorization"))


BEARER_TOKEN: Final = Kind(
    "what follows `Bearer`, or `Basic` in a header",
    rb"""(?i:bearer[ \t]|authorization["']?[:=][ \t]*["']?(?:basic|token)[ \t])[ \t]*[A-Za-z0-9._~+/-]{8}""",
    _bearers,
)


_USER: Final = built_in(rb"""://[^\s\x00:/?#@"'<>\[]*:""")
_STOP: Final = built_in(rb"""[\s\x00"'<>]|$""")
_PATH: Final = built_in(rb"""[\s\x00"'<>/?#]|$""")


def _url_passwords(text: bytes) -> Iterator[Span]:
    at, stop, last = 0, -1, -1
    while (hit := search(_USER, text, at)) is not None:
        at = start = hit[1]
        if start > stop:
            stop = _before(_STOP, text, start)
            last = text.rfind(b"@", start, stop)
        if last <= start or text[start : _before(_PATH, text, start)].isdigit():
            # Digits before a slash are a port.
            continue
        # A password can hold a slash or an at sign unescaped, but not another address.
        following = text.find(b"://", start, last)
        end = last if following < 0 else text.rfind(b"@", start, following)
        if end > start:
            yield start, end
            at = end


def _before(pattern: Any, text: bytes, at: int) -> int:
    """Return where the first match begins, for a pattern that matches at the end at the latest."""
    hit = search(pattern, text, at)
    return len(text) if hit is None else hit[0]


URL_PASSWORD: Final = Kind(
    "the password in an address such as `https://user:password@host`",
    rb"""://[^\s:/?#@"'<>\[]*:[^\s"'<>]+@""",
    _url_passwords,
)
