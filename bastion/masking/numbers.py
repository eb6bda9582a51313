"""Numbers that name somebody or somebody's money: cards, accounts, social security, telephones."""

from collections.abc import Iterator
from typing import Final

from bastion.masking import checks
from bastion.masking.kind import Kind, is_alphanumeric, is_digit, is_within_more
from bastion.masking.patterns import Span, built_in, search

_DIGITS: Final = built_in(rb"[0-9](?:[ -]?[0-9]){12,}")
_GROUPS: Final = frozenset(
    {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 4, 2), (4, 6, 5), (4, 6, 4), (4, 4, 5), (6, 13), (8, 8)}
)
"""How issuers part the digits of their cards."""
_MOST_GROUPS: Final = 5


def _cards(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_DIGITS, text, at)) is not None:
        start, at = hit
        before = is_alphanumeric(text, start - 1) or (text[start - 1 : start] == b"." and is_digit(text, start - 2))
        behind = is_alphanumeric(text, at) or (text[at : at + 1] == b"." and is_digit(text, at + 1))
        groups = _groups(text, start, at)
        yield from _cards_among(text, groups[before : len(groups) - behind])


def _groups(text: bytes, start: int, end: int) -> list[Span]:
    groups = []
    for group in text[start:end].replace(b"-", b" ").split(b" "):
        groups.append((start, start + len(group)))
        start += len(group) + 1
    return groups


def _cards_among(text: bytes, groups: list[Span]) -> Iterator[Span]:
    """Yield the cards in a run of groups of digits, trying more groups together before fewer."""
    first = 0
    while first < len(groups):
        for last in range(min(first + _MOST_GROUPS, len(groups)), first, -1):
            start, end = groups[first][0], groups[last - 1][1]
            sizes = tuple(stop - begin for begin, stop in groups[first:last])
            # A single group of 19 digits at most; between several, the separator is always the same.
            written = len(sizes) == 1 and 13 <= sizes[0] <= 19
            if sizes in _GROUPS:
                written = len({text[stop] for _, stop in groups[first : last - 1]}) == 1
            if written and checks.is_card(text[start:end].translate(None, b" -")):
                yield start, end
                first = last - 1
                break
        first += 1


PAYMENT_CARD: Final = Kind(
    "numbers of payment cards, whole or in groups, whose issuer, length and check digit fit",
    rb"[0-9](?:[ -]?[0-9]){12}",
    _cards,
)


_ACCOUNT: Final = built_in(rb"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,29}")


def _accounts(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_ACCOUNT, text, at)) is not None:
        start, end = hit
        found = _account(text, start, end)
        # The next one can't begin within two letters and two digits.
        at = start + 4 if found is None else found
        if found is not None:
            yield start, found


def _account(text: bytes, start: int, end: int) -> int | None:
    """Return where the account number ends that begins at `start`, or None."""
    if is_alphanumeric(text, start - 1) and text[max(start - 4, 0) : start].upper() != b"IBAN":
        return None
    size = checks.IBAN_LENGTHS.get(text[start : start + 2].decode("ascii").upper(), 0)
    number = text[start:end].translate(None, b" -")
    if not size or len(number) < size:
        return None
    stop, left = start, size
    while left:
        left -= text[stop : stop + 1].isalnum()
        stop += 1
    return stop if not is_alphanumeric(text, stop) and checks.iban_holds(number[:size]) else None


IBAN: Final = Kind(
    "international bank account numbers whose country, length and check digits fit",
    rb"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11}",
    _accounts,
)


_SSN: Final = built_in(rb"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}")


def _ssns(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_SSN, text, at)) is not None:
        start, end = hit
        at = end if _is_ssn(text, start, end) else start + 1
        if at == end:
            yield hit


def _is_ssn(text: bytes, start: int, end: int) -> bool:
    separator = text[start + 3]
    if separator != text[start + 6] or is_within_more(text, start, end):
        return False
    # Between blanks, it could be any three numbers of a row of numbers.
    if separator == 32 and (is_digit(text, start - 2) or is_digit(text, end + 1)):
        return False
    return checks.is_ssn(text[start : start + 3], text[start + 4 : start + 6], text[start + 7 : end])


US_SSN: Final = Kind(
    "social security numbers of the United States, in three groups",
    rb"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}",
    _ssns,
)


_INTERNATIONAL: Final = built_in(rb"\+[2-9](?:(?: ?\(|\)[ -]?|[ ./-])?[0-9])+")
_NORTH_AMERICAN: Final = built_in(
    rb"\+1[ .-]?(?:\([0-9]{3}\)|[0-9]{3})[ .-]?[0-9]{3}[ .-]?[0-9]{4}"
    rb"|(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[.-][0-9]{4}"
)
_SHORTEST_PHONE: Final = 8
_LONGEST_PHONE: Final = 15
"""Digits of an international number, by ITU-T E.164."""


def _phones(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_INTERNATIONAL, text, at)) is not None:
        start, at = hit
        stop = None if is_alphanumeric(text, start - 1) else _end_of_international(text, start, at)
        if stop is not None:
            yield start, stop
    at = 0
    while (hit := search(_NORTH_AMERICAN, text, at)) is not None:
        start, end = hit
        digits = bytes(character for character in text[start:end] if 48 <= character <= 57)[-10:]
        if checks.is_north_american(digits) and not is_within_more(text, start, end):
            yield hit
            at = end
        else:
            at = start + 1


def _end_of_international(text: bytes, start: int, end: int) -> int | None:
    """Return where the number ends: at the last joint within the length that numbers can have."""
    digits, stop = 0, None
    for at in range(start + 1, end):
        if not is_digit(text, at):
            continue
        digits += 1
        if digits > _LONGEST_PHONE:
            break
        if digits >= _SHORTEST_PHONE and not is_alphanumeric(text, at + 1):
            stop = at + 1
    return stop


PHONE: Final = Kind(
    "telephone numbers: international ones with a plus sign, and those of North America",
    rb"\+[2-9](?:(?: ?\(|\)[ -]?|[ ./-])?[0-9]){7}"
    rb"|\+1[ .-]?(?:\([0-9]{3}\)|[0-9]{3})[ .-]?[0-9]{3}[ .-]?[0-9]{4}"
    rb"|(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[.-][0-9]{4}",
    _phones,
)
