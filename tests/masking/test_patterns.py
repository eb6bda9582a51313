"""Expressions: which of a policy's own are taken, and what they match without their anchors."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bastion.masking import patterns
from bastion.masking.patterns import LONGEST_PATTERN, Hints, check_pattern, custom, without_anchors

GOOD = (
    r"EMP-[0-9]{5}",
    r"\bEMP-[0-9]{5}\b",
    r"^secret: .*$",
    r"(?i)passport\s+no\.?\s*[a-z]\d{8}",
    r"[]^$]x",
    r"[^\]$^b]y",
    r"[[:^alpha:]$]z",
    r"\Q^$\b\E",
    r"\p{Greek}+\P{^Latin}",
    r"\x{2603}",
    r"(?P<name>a|b)c",
    "ü+",
)


@pytest.mark.parametrize("text", GOOD)
def test_a_pattern_that_can_be_used_comes_back(text: str) -> None:
    assert check_pattern(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty pattern"),
        ("x" * (LONGEST_PATTERN + 1), "1001 characters"),
        ("a*", "at least one"),
        ("^$", "at least one"),
        (r"\b", "at least one"),
        (r"a|\b$", "at least one"),
        ("(", "missing"),
        ("a)", "unexpected"),
        ("(?=a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape"),
        ("a{2000}", "repetition"),
        ("(((a{100}){100}){100})", "repetition"),
        ("[^a]{1000}" * 9, "too large"),
        (r"a\Cb", "takes characters apart"),
        ("\ud800", "not valid Unicode"),
        ("a**", "repetition"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_pattern(text)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (r"^a$", "(?:)a(?:)"),
        (r"\Aa\z", "(?:)a(?:)"),
        (r"\ba\B", "(?:)a(?:)"),
        (r"\\b\^\$", r"\\b\^\$"),
        (r"[\b^$]", r"[\b^$]"),
        (r"[^^]$", "[^^](?:)"),
        (r"[]$]$", "[]$](?:)"),
        (r"[^]$]$", "[^]$](?:)"),
        (r"[[:^alpha:]$]$", "[[:^alpha:]$](?:)"),
        (r"[\]$]$", r"[\]$](?:)"),
        (r"\Q^$\b\E$", r"\Q^$\b\E(?:)"),
        (r"\Q^$", r"\Q^$"),
        (r"\p{^Greek}$", r"\p{^Greek}(?:)"),
        ("a\\", "a\\"),
        ("[a", "[a"),
    ],
)
def test_anchors_are_taken_out_and_nothing_else(text: str, bare: str) -> None:
    assert without_anchors(text) == bare


_PIECES = (
    *r"ab^$.|()[]*+?\ ",
    r"\b",
    r"\B",
    r"\A",
    r"\z",
    "[^a]",
    "[b^$]",
    r"[\b]",
    "a{2}",
    "(?:",
    "(?i)",
    r"\Q",
    r"\E",
)
_texts = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=8).map("".join)


@given(_texts, st.text("ab^$. \n", max_size=8), st.text("ab ", max_size=3))
def test_without_anchors_it_matches_wherever_it_did(text: str, cell: str, around: str) -> None:
    try:
        check_pattern(text)
    except ValueError:
        assume(False)
    if custom(text).search(cell.encode()) is not None:
        hints = Hints([without_anchors(text)])
        assert hints.within((around + cell + around).encode())


@pytest.mark.parametrize("memory", [1 << power for power in range(8, 24)])
def test_a_set_that_lacks_memory_is_refused_rather_than_blind(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_SET_MEMORY", memory)
    text = r"(?:[a-z]+@[a-z]+\.){3}[^a]{50}x"
    if memory < 1 << 15:
        with pytest.raises(ValueError, match="too large"):
            Hints([text])
        return
    try:
        hints = Hints([text])
    except ValueError:
        assert memory < 1 << 20
    else:
        assert hints.within(b"a@b.c@d.e@f." + b"z" * 50 + b"x") == [0]


def test_ours_see_bytes_and_a_policys_see_characters() -> None:
    assert custom("ü+").search("aüü".encode()).span() == (1, 5)
    assert patterns.built_in(rb"[\x80-\xff]").search(b"a\xff").span() == (1, 2)
