"""YAML with places: every value knows where it stands, and nothing is guessed."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bastion.policy.marks import Problems, dotted, read


def problems(text: str | bytes) -> list[tuple[str, str]]:
    """Return place and finding of everything that is wrong with a text."""
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(Problems) as caught:
        read(content, "f")
    return [(f"{p.place.line}:{p.place.column}", p.found) for p in caught.value.found]


def test_every_value_knows_its_place() -> None:
    marked = read(b"a: 1\nb:\n  - x\n  - {c: d, e: [f, g]}\n", "f")
    assert marked.value == {"a": 1, "b": ["x", {"c": "d", "e": ["f", "g"]}]}
    places = {
        ("a",): "f:1:1",
        ("b",): "f:2:1",
        ("b", 0): "f:3:5",
        ("b", 1): "f:4:5",
        ("b", 1, "c"): "f:4:6",
        ("b", 1, "e", 1): "f:4:19",
        ("b", 1, "nothing"): "f:4:5",
        ("nothing",): "f:1:1",
    }
    assert {path: str(marked.place(path)) for path in places} == places


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("n", "n"),
        ("True", "True"),
        ("true", True),
        ("false", False),
        ("12:30", "12:30"),
        ("2026-05-04", "2026-05-04"),
        ("0x10", "0x10"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        (".inf", ".inf"),
        ("=", "="),
        ("17", 17),
        ("-17", -17),
        ("1.5", 1.5),
        ("1.10.2", "1.10.2"),
        ("'17'", "17"),
        ('"true"', "true"),
        ("''", ""),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_words_stay_what_they_look_like(word: str, value: Any) -> None:
    found = read(f"a: {word}\n".encode(), "f").value["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nb: 2\na: 3\n", [("3:1", "'a' a second time")]),
        ("x: {a: 1, a: 2}\n", [("1:11", "'a' a second time")]),
        ("'a': 1\n\"a\": 2\n", [("2:1", "'a' a second time")]),
        ("a: &x 1\nb: *x\n", [("2:4", "an alias")]),
        ("a: *x\n", [("1:4", "an alias")]),
        ("a: {<<: {b: 1}}\n", [("1:5", "a merge key")]),
        ("a: !!python/name:os.system x\n", [("1:4", "a tag")]),
        ("a: !secret x\n", [("1:4", "a tag")]),
        ("a: !!str 1\n", [("1:4", "a tag")]),
        ("a: 1\n---\nb: 2\n", [("2:1", "a second one")]),
        ("? [a]\n: 1\n", [("1:3", "a list or a mapping")]),
        ("a:\n", [("1:1", "nothing")]),
        ("a:\n  b:\n  c: ~\n  d: null\n", [("2:3", "nothing"), ("3:3", "nothing"), ("4:3", "nothing")]),
        ("a: [1, null]\n", [("1:8", "nothing")]),
        ("a: 1", [("1:5", "the end of the file")]),
        ("a: 1\nb: abc", [("2:7", "the end of the file")]),
        (b"a: 1\nb: \xe9\xe9\xff\n", [("2:4", "byte 0xe9")]),
        ("a: é\n".encode() + b"b: \xff\n", [("2:4", "byte 0xff")]),
        ("é: é\n".encode()[:-2] + b"\n", [("1:4", "byte 0xc3")]),
    ],
)
def test_what_is_refused(text: str | bytes, found: list[tuple[str, str]]) -> None:
    assert problems(text) == found


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [\n", "2:1"),
        ("a: 'x\n", "2:1"),
        ("a: b: c\n", "1:5"),
        ("a:\n\tb: 1\n", "2:1"),
        ("a: 1\n b: 2\n", "2:3"),
        ("a: @x\n", "1:4"),
    ],
)
def test_what_is_not_yaml_is_told_with_its_place(text: str, place: str) -> None:
    assert [where for where, _ in problems(text)] == [place]


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x80", "\ufffe"])
def test_a_character_that_yaml_does_not_take_is_told_with_its_place(char: str) -> None:
    assert problems(f"é: 1\nb: x{char}\n") == [("2:5", "a character that does not belong in text")]


def test_a_small_file_cannot_become_a_large_value() -> None:
    laughs = "a: &a [x, x]\n" + "".join(
        f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert {found for _, found in problems(laughs)} == {"an alias"}
    assert problems("[" * 100 + "]" * 100 + "\n") == [("1:33", "more")]
    assert len(problems("[" * 5000 + "]" * 5000 + "\n")) == 1
    assert problems(b"#" * (4 * 1024 * 1024 + 1)) == [("1:1", "4194305")]


def test_a_problem_never_repeats_a_value() -> None:
    for text in (
        "a: *hunter2\n",
        "a: !hunter2 x\n",
        "a: &hunter2 x\nb: *hunter2\n",
        "a: 'hunter2\n",
        "a: hunter2: x\n",
    ):
        with pytest.raises(Problems) as caught:
            read(text.encode(), "f")
        assert "hunter2" not in str(caught.value)


def test_a_key_cannot_draw_on_a_terminal() -> None:
    with pytest.raises(Problems) as caught:
        read(b'"\\e[31m": 1\n"\\e[31m": 2\n', "f")
    assert str(caught.value).isprintable()
    assert dotted(("a", "\u202e")) == "a.\\u202e"


PLAIN = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\x85\u2028\u2029\ufeff"))
    | st.integers(-(10**17), 10**17)
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN, st.booleans())
def test_what_was_written_is_read(value: Any, flow: bool) -> None:
    text = yaml.safe_dump({"v": value}, allow_unicode=True, default_flow_style=flow, default_style=None)
    assert read(text.encode(), "f").value == {"v": value}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told_apart(content: bytes) -> None:
    found = []
    try:
        read(content, "f")
    except Problems as problems:
        found = problems.found
    assert all(p.place.line >= 1 and p.place.column >= 1 for p in found)
