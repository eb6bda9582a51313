"""Numbers that name somebody or somebody's money: cards, accounts, social security, telephones."""

from collections.abc import Iterator
from typing import Final

from bastion.masking import checks
from bastion.masking.kind import Kind, is_alphanumeric, is_digit, is_within_more
from bastion.masking.patterns import Span, built_in, search

_CARD: Final = built_in(
    rb"[2-9][0-9]{12,}"
    rb"|[2-9][0-9]{3}[ -]"
    rb"(?:[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}(?:[ -][0-9]{2,3})?|[0-9]{4}[ -][0-9]{5}|[0-9]{6}[ -][0-9]{4,5})"
    rb"|[2-9][0-9]{5}[ -][0-9]{13}|[2-9][0-9]{7}[ -][0-9]{8}"
)
"""All digits together, or in the groups in which issuers part them."""
_SIXTEEN_IN_GROUPS: Final = 19
_LONGEST_CARD: Final = 19


def _cards(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_CARD, text, at)) is not None:
        start, end = hit
        if text[start:end].isdigit():
            found = end if end - start <= _LONGEST_CARD and _is_card(text, start, end) else None
            at = end
        else:
            # What follows the sixteenth digit can also be another number, such as the one on the back.
            ends = (end, start + _SIXTEEN_IN_GROUPS) if end - start > _SIXTEEN_IN_GROUPS else (end,)
            found = next((stop for stop in ends if _is_card(text, start, stop)), None)
            at = found or start + 1
        if found is not None:
            yield start, found


def _is_card(text: bytes, start: int, end: int) -> bool:
    if is_alphanumeric(text, start - 1) or is_alphanumeric(text, end):
        return False
    if (text[start - 1 : start] == b"." and is_digit(text, start - 2)) or (
        text[end : end + 1] == b"." and is_digit(text, end + 1)
    ):
        return False
    return checks.is_card(text[start:end].translate(None, b" -"))


PAYMENT_CARD: Final = Kind(
    "numbers of payment cards, whole or in groups, whose issuer, length and check digit fit",
    rb"[2-9][0-9]{12}|[2-9][0-9]{3}[ -](?:[0-9]{4}[ -][0-9]{4}|[0-9]{6}[ -][0-9]{4})"
    rb"|[2-9][0-9]{5}[ -][0-9]{13}|[2-9][0-9]{7}[ -][0-9]{8}",
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
    if separator == 32 and (
        (text[start - 1 : start] == b" " and is_digit(text, start - 2))
        or (text[end : end + 1] == b" " and is_digit(text, end + 1))
    ):
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
    # Where one ends, the next may begin: a plus sign is gap enough.
    at = last = 0
    while (hit := search(_INTERNATIONAL, text, at)) is not None:
        start, at = hit
        joined = is_alphanumeric(text, start - 1) and start != last
        stop = None if joined else _end_of_international(text, start, at)
        if stop is not None:
            yield start, stop
            last = stop
    at = last = 0
    while (hit := search(_NORTH_AMERICAN, text, at)) is not None:
        start, end = hit
        digits = bytes(character for character in text[start:end] if 48 <= character <= 57)[-10:]
        follows = start == last and text[start : start + 1] == b"+"
        if checks.is_north_american(digits) and not is_within_more(text, start + follows, end):
            yield hit
            at = last = end
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
