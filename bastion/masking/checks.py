"""The formulas that tell a number of a certain kind from any other digits.

Sources: ISO/IEC 7812-1 (check digit of cards), ISO 13616-1 and ISO/IEC 7064 MOD 97-10 (IBAN) with the lengths of the
SWIFT IBAN registry, the Social Security Administration's rules for SSNs (areas, groups and serials that are never
given), the numbering plan of North America, RFC 791 and RFC 4291 (addresses), RFC 7515 and RFC 7516 (tokens).
"""

import base64
import binascii
import ipaddress
from typing import Final

import orjson

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn_holds(digits: bytes) -> bool:
    """Whether the last digit is the check digit of those before it."""
    values = [digit - 48 for digit in digits]
    return (sum(values[-1::-2]) + sum(_DOUBLED[value] for value in values[-2::-2])) % 10 == 0


_ISSUED: Final[tuple[tuple[int, int, frozenset[int]], ...]] = (
    (400000, 499999, frozenset({13, 16, 19})),  # Visa
    (510000, 559999, frozenset({16})),  # Mastercard
    (222100, 272099, frozenset({16})),
    (340000, 349999, frozenset({15})),  # American Express
    (370000, 379999, frozenset({15})),
    (300000, 305999, frozenset(range(14, 20))),  # Diners Club
    (309500, 309599, frozenset(range(14, 20))),
    (360000, 369999, frozenset(range(14, 20))),
    (380000, 399999, frozenset(range(14, 20))),
    (601100, 601199, frozenset(range(16, 20))),  # Discover
    (644000, 659999, frozenset(range(16, 20))),
    (352800, 358999, frozenset(range(16, 20))),  # JCB
    (620000, 629999, frozenset(range(16, 20))),  # UnionPay
    (810000, 817199, frozenset(range(16, 20))),
    (220000, 220499, frozenset(range(16, 20))),  # Mir
    (501800, 501899, frozenset(range(13, 20))),  # Maestro
    (502000, 502099, frozenset(range(13, 20))),
    (503800, 503899, frozenset(range(13, 20))),
    (589300, 589399, frozenset(range(13, 20))),
    (630400, 630499, frozenset(range(13, 20))),
    (675900, 675999, frozenset(range(13, 20))),
    (676100, 676399, frozenset(range(13, 20))),
    (506099, 506198, frozenset({16, 18, 19})),  # Verve
    (508500, 508999, frozenset({16})),  # RuPay
    (607000, 608999, frozenset({16})),
    (979200, 979299, frozenset({16})),  # Troy
)


def is_card(digits: bytes) -> bool:
    """Whether a card could bear these digits: an issuer has them, of this length, and the check digit fits."""
    leading, size = int(digits[:6]), len(digits)
    return any(low <= leading <= high and size in sizes for low, high, sizes in _ISSUED) and luhn_holds(digits)


IBAN_LENGTHS: Final = {
    "AD": 24,
    "AE": 23,
    "AL": 28,
    "AT": 20,
    "AZ": 28,
    "BA": 20,
    "BE": 16,
    "BG": 22,
    "BH": 22,
    "BI": 27,
    "BR": 29,
    "BY": 28,
    "CH": 21,
    "CR": 22,
    "CY": 28,
    "CZ": 24,
    "DE": 22,
    "DJ": 27,
    "DK": 18,
    "DO": 28,
    "EE": 20,
    "EG": 29,
    "ES": 24,
    "FI": 18,
    "FK": 18,
    "FO": 18,
    "FR": 27,
    "GB": 22,
    "GE": 22,
    "GI": 23,
    "GL": 18,
    "GR": 27,
    "GT": 28,
    "HN": 28,
    "HR": 21,
    "HU": 28,
    "IE": 22,
    "IL": 23,
    "IQ": 23,
    "IS": 26,
    "IT": 27,
    "JO": 30,
    "KW": 30,
    "KZ": 20,
    "LB": 28,
    "LC": 32,
    "LI": 21,
    "LT": 20,
    "LU": 20,
    "LV": 21,
    "LY": 25,
    "MC": 27,
    "MD": 24,
    "ME": 22,
    "MK": 19,
    "MN": 20,
    "MR": 27,
    "MT": 31,
    "MU": 30,
    "NI": 28,
    "NL": 18,
    "NO": 15,
    "OM": 23,
    "PK": 24,
    "PL": 28,
    "PS": 29,
    "PT": 25,
    "QA": 29,
    "RO": 24,
    "RS": 22,
    "RU": 33,
    "SA": 24,
    "SC": 31,
    "SD": 18,
    "SE": 24,
    "SI": 19,
    "SK": 24,
    "SM": 27,
    "SO": 23,
    "ST": 25,
    "SV": 28,
    "TL": 23,
    "TN": 24,
    "TR": 26,
    "UA": 29,
    "VA": 22,
    "VG": 24,
    "XK": 20,
    "YE": 30,
}
"""Characters of an account number, by country."""


def iban_holds(number: bytes) -> bool:
    """Whether an account number without separators has its country's length and fits its check digits."""
    text = number.decode("ascii").upper()
    if IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def is_ssn(area: bytes, group: bytes, serial: bytes) -> bool:
    """Whether the Social Security Administration could have given this number."""
    return area not in {b"000", b"666"} and area[:1] != b"9" and group != b"00" and serial != b"0000"


def is_north_american(digits: bytes) -> bool:
    """Whether ten digits are a telephone number of the United States and their neighbours."""
    return len(digits) == 10 and all(code[0] >= 50 and code[1:] != b"11" for code in (digits[:3], digits[3:6]))


def is_ipv4(parts: list[bytes]) -> bool:
    """Whether these are four octets, written as usual."""
    if len(parts) != 4 or any(len(part) > 3 for part in parts):
        return False
    return all(int(part) < 256 and b"%d" % int(part) == part for part in parts)


def is_ipv6(text: bytes) -> bool:
    """Whether this is an address with a digit in it: the rest is too often code, as in `a::b`."""
    if len(text) > 45 or (b"::" not in text and text.count(b":") not in (6, 7)) or text.isalpha():
        return False
    if not any(48 <= character <= 57 for character in text):
        return False
    try:
        ipaddress.IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return True


def is_token_header(encoded: bytes) -> bool:
    """Whether this is the header of a JSON web token: base64url of an object that names an algorithm."""
    try:
        header = orjson.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except (binascii.Error, orjson.JSONDecodeError):
        return False
    return isinstance(header, dict) and "alg" in header
