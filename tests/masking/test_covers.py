"""Covers: what is left of a value, and that something always comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.masking.covers import FULL, text_cover
from bastion.model.mask import Cover, CoverKind

KEY = b"a session's key"
ANY = st.text(st.characters(codec=None))
"""Any text, surrogates included."""


def covered(value: str, kind: CoverKind, keep: int = 4, text: str = "") -> str | None:
    return text_cover(Cover(kind, keep, text), KEY)(value)


@pytest.mark.parametrize("value", ["", "a", "4111111111111111", "\ud800", "x" * 10_000])
def test_a_full_cover_says_nothing_of_the_value(value: str) -> None:
    assert covered(value, CoverKind.FULL) == FULL


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("4111111111111111", "************1111"),
        ("4111 1111 1111 1111", "**** **** **** 1111"),
        ("4111-1111-1111-1111", "****-****-****-1111"),
        ("123-45-6789", "***-**-6789"),
        ("Anna Schmidt", "********midt"),
        ("12345678", "****5678"),
        ("1234567", FULL),
        ("123 456 7", FULL),
        ("", FULL),
        ("- - - - - -", "******* - -"),
        ("anna.schmidt@mail.example.com", "a***@***.com"),
        ("joe@x.de", "j***@***.de"),
        ("a@b.com", FULL),
        ('"odd one"@example.com', "*****************.com"),
        ('"odd"@example.com', "****@***.com"),
        ("two@at@example.com", "**************.com"),
        ("joe@example.c0m", "***********.c0m"),
        ("@example.com", "********.com"),
        ("joe@.com", "****.com"),
    ],
)
def test_a_partial_cover_keeps_the_end(value: str, expected: str) -> None:
    assert covered(value, CoverKind.PARTIAL) == expected


@pytest.mark.parametrize(("keep", "expected"), [(0, "****"), (1, "***d"), (2, "**cd"), (3, FULL), (-1, "****")])
def test_a_partial_cover_never_keeps_more_than_half(keep: int, expected: str) -> None:
    assert covered("abcd", CoverKind.PARTIAL, keep) == expected


@given(ANY, st.integers(-2, 40))
def test_a_partial_cover_shows_at_most_half(value: str, keep: int) -> None:
    shown = covered(value, CoverKind.PARTIAL, keep)
    assert shown is not None
    if shown == FULL or "***@***." in shown:
        return
    assert len(shown) == len(value)
    kept = [c for c, was in zip(shown, value, strict=True) if c == was and c not in " -*"]
    assert 2 * len(kept) <= len(value)
    assert len(kept) <= max(keep, 0)


@given(ANY, ANY)
def test_a_digest_is_the_same_for_the_same_value_alone(one: str, other: str) -> None:
    digest = covered(one, CoverKind.HASH)
    assert digest is not None
    assert digest[:2] == "h:"
    assert len(digest) == 18
    assert int(digest[2:], 16) >= 0
    assert (digest == covered(other, CoverKind.HASH)) == (one == other)


def test_another_session_has_other_digests() -> None:
    cover = Cover(CoverKind.HASH)
    assert text_cover(cover, b"one")("a") != text_cover(cover, b"other")("a")
    assert text_cover(cover, b"k" * 100)("a") != text_cover(cover, b"k" * 101)("a")


def test_a_digest_that_anybody_could_try_out_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        text_cover(Cover(CoverKind.HASH), b"")


def test_null_and_fixed() -> None:
    assert covered("a", CoverKind.NULL) is None
    assert covered("a", CoverKind.FIXED, text="withheld") == "withheld"


@given(ANY, st.sampled_from(CoverKind), st.integers(), st.binary(min_size=1, max_size=200))
def test_whatever_the_text_something_stands_in_its_place(value: str, kind: CoverKind, keep: int, key: bytes) -> None:
    shown = text_cover(Cover(kind, keep, "x"), key)(value)
    assert (shown is None) == (kind is CoverKind.NULL)
