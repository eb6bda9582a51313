"""Text from outside: nothing hidden, nothing lost, nothing that acts."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.text import decode, visible

ANYTHING = st.text(st.characters(codec=None))


@given(ANYTHING)
def test_rendering_is_reversible(text: str) -> None:
    assert decode(visible(text)) == text
    assert decode(visible(text, lines=True)) == text


@given(ANYTHING)
def test_nothing_that_acts_or_hides_is_left(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}]


@given(ANYTHING)
def test_different_texts_look_different(text: str) -> None:
    assert visible(text + "\u200b") != visible(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("select 1", "select 1"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("a\\x1b", "a\\\\x1b"),
        ("a\u00a0b", "a\\xa0b"),
        ("a\nb", "a\\nb"),
        ("é你", "é你"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("a\u3164b", "a\\u3164b"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_lines_keep_their_shape_where_asked() -> None:
    assert visible("a\n\tb\r", lines=True) == "a\n\tb\\x0d"
