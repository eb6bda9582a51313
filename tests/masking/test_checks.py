"""Check formulas: against published numbers, and against every single digit that is changed in them."""

import pytest

from bastion.masking import checks
from tests.masking.strategies import SAMPLES


def digits(value: bytes) -> bytes:
    return value.translate(None, b" -")


@pytest.mark.parametrize("value", [*map(digits, SAMPLES["payment_card"])])
def test_a_changed_digit_is_noticed(value: bytes) -> None:
    assert checks.luhn_holds(value)
    assert checks.is_card(value)
    for place in range(len(value)):
        for other in b"0123456789":
            changed = value[:place] + bytes([other]) + value[place + 1 :]
            assert checks.luhn_holds(changed) == (changed == value)


@pytest.mark.parametrize("value", [*map(digits, SAMPLES["iban"])])
def test_a_changed_or_swapped_character_of_an_account_is_noticed(value: bytes) -> None:
    assert checks.iban_holds(value)
    for place in range(2, len(value)):
        for other in b"0123456789":
            changed = value[:place] + bytes([other]) + value[place + 1 :]
            assert checks.iban_holds(changed) == (changed == value)
    swapped = value[:4] + value[5:6] + value[4:5] + value[6:]
    assert checks.iban_holds(swapped) == (swapped == value)


def test_lengths_of_accounts_are_possible() -> None:
    assert len(checks.IBAN_LENGTHS) == 89
    assert all(
        15 <= size <= 33 and country.isupper() and len(country) == 2 for country, size in checks.IBAN_LENGTHS.items()
    )


@pytest.mark.parametrize("value", [b"4111111111111111", b"411111111111111", b"41111111111111111"])
def test_an_issuer_has_its_lengths(value: bytes) -> None:
    body = value[:-1]
    fitting = next(body + bytes([last]) for last in b"0123456789" if checks.luhn_holds(body + bytes([last])))
    assert checks.is_card(fitting) == (len(value) == 16)


@pytest.mark.parametrize(
    ("parts", "valid"),
    [
        ((b"001", b"01", b"0001"), True),
        ((b"899", b"99", b"9999"), True),
        ((b"000", b"01", b"0001"), False),
        ((b"666", b"01", b"0001"), False),
        ((b"900", b"01", b"0001"), False),
        ((b"001", b"00", b"0001"), False),
        ((b"001", b"01", b"0000"), False),
    ],
)
def test_some_social_security_numbers_are_never_given(parts: tuple[bytes, bytes, bytes], valid: bool) -> None:
    assert checks.is_ssn(*parts) == valid


@pytest.mark.parametrize("header", [b"", b"e", b"eyJ", b"bm90IGpzb24", b"W10", b"e30", b"eyJhbGciOg", b"_____w"])
def test_what_is_no_header_of_a_token(header: bytes) -> None:
    assert not checks.is_token_header(header)
