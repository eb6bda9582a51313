"""Findings inside JSON: what is covered, that it stays JSON, and that the rest stays byte by byte."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.masking.covers import FULL, text_cover
from bastion.masking.detectors import NAMES, Detectors
from bastion.masking.json_text import UNREADABLE
from bastion.model.mask import Cover, CoverKind
from tests.masking.strategies import ALL, sample

DETECTORS = Detectors(tuple(NAMES), (("password", r'"password":\s*"[^"]*"'), ("admin", "true")))
STARS = text_cover(Cover(CoverKind.FULL), b"")


def covered(text: bytes) -> tuple[bytes | None, dict[str, int]]:
    return DETECTORS.covered_json(text, STARS)


@pytest.mark.parametrize(
    ("text", "shown", "counts"),
    [
        (rb'{"to": "joe@example.com"}', rb'{"to": "********"}', {"email": 1}),
        (rb'{"to": "mail joe@example.com now"}', rb'{"to": "mail ******** now"}', {"email": 1}),
        (rb'["joe\u0040example.com"]', rb'["********"]', {"email": 1}),
        (rb'["\u006a\u006f\u0065@example.com\n"]', rb'["********\n"]', {"email": 1}),
        (rb'["a:\/\/u:p@h"]', rb'["a://u:********@h"]', {"url_password": 1}),
        (rb'["say \"joe@example.com\""]', rb'["say \"********\""]', {"email": 1}),
        (rb'{"joe@example.com": 1.10}', rb'{"********": 1.10}', {"email": 1}),
        (rb"[4111111111111111, 1.10, -3]", rb'["********", 1.10, -3]', {"payment_card": 1}),
        (rb'{"password": "x", "a":  1e2}', rb'{"********": "********", "a":  1e2}', {"password": 1}),
        (rb'{"password": "\u0078"}', rb'{"********": "********"}', {"password": 1}),
        (rb"[true,false]", rb'["********",false]', {"admin": 1}),
        (rb'["a\nb",  1.0e5, {"x" :null}]', rb'["a\nb",  1.0e5, {"x" :null}]', {}),
        (rb'["\ud800", 1e1000, "joe@example.com"]', rb'["\ud800", 1e1000, "********"]', {"email": 1}),
        (rb'["\ud800 joe@example.com"]', rb'["? ********"]', {"email": 1}),
        (rb'["-----BEGIN PRIVATE KEY-----\nMII", 1]', rb'["********", "********"]', {"private_key": 1}),
        (rb'"joe@example.com"', rb'"********"', {"email": 1}),
        (rb'["joe@example.com"', rb'"********"', {"email": 1}),
        (rb'["joe\u0040example.com"', rb'"********"', {UNREADABLE: 1}),
        (rb"[NaN, 4111111111111111]", rb'"********"', {"payment_card": 1}),
        (b'["\xff joe@example.com"]', rb'"********"', {"email": 1}),
        (b'["\xff\\n"]', rb'"********"', {UNREADABLE: 1}),
        (b"[" * 5000 + rb'"\n"' + b"]" * 5000, rb'"********"', {UNREADABLE: 1}),
        (b"", b"", {}),
    ],
)
def test_what_is_found_is_covered_and_it_stays_json(text: bytes, shown: bytes, counts: dict[str, int]) -> None:
    assert covered(text) == (shown, counts)


def test_a_cover_that_needs_escapes_gets_them() -> None:
    for fixed in ('"\\\n', "\udc80", "\ud800", "«x»"):
        for text in (
            b'["joe@example.com"]',
            rb'["joe\u0040example.com"]',
            b"[4111111111111111]",
            b'["joe@example.com"',
        ):
            shown, _ = DETECTORS.covered_json(text, text_cover(Cover(CoverKind.FIXED, text=fixed), b""))
            assert shown is not None
            json.loads(shown)


@pytest.mark.parametrize(
    "text", [b'["joe@example.com"]', rb'["joe\u0040example.com"]', b"[4111111111111111]", b"[joe@a.de"]
)
def test_null_empties_the_whole_cell(text: bytes) -> None:
    shown, counts = DETECTORS.covered_json(text, lambda _: None)
    assert shown is None
    assert sum(counts.values()) == 1


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from([sample(*each).decode() for each in ALL])
    | st.sampled_from([4111111111111111, 4111111111111112]),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=4), below, max_size=4),
    max_leaves=12,
)


@given(_values, st.booleans())
def test_what_is_left_is_json_and_holds_nothing(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode()
    shown, counts = covered(text)
    assert shown is not None
    again = json.loads(shown)
    if not counts:
        assert shown == text
    strings = [text for text in _strings(again) if FULL not in text]
    only_named = Detectors(tuple(name for name in NAMES if name != "private_key"))
    for string in strings:
        assert not only_named.found(string.encode())


@given(_values)
def test_an_escape_hides_nothing(value: Any) -> None:
    plain = json.dumps(value, ensure_ascii=False).encode()
    escaped = json.dumps(value, ensure_ascii=False).encode()
    hidden = b"".join(b"\\u00%02x" % each if each == 0x40 else bytes([each]) for each in escaped)
    shown, counts = covered(plain)
    shown_too, counts_too = covered(hidden)
    assert shown is not None
    assert shown_too is not None
    assert json.loads(shown) == json.loads(shown_too)
    assert counts == counts_too
    if counts_too:
        assert DETECTORS.may_hold_json(b"\x00\x01" + hidden)


@given(st.binary(max_size=60) | st.text('"\\[]{}:,u0041@.ae\n', max_size=40).map(str.encode))
def test_any_bytes_are_covered(text: bytes) -> None:
    shown, counts = covered(text)
    assert shown is not None
    if not counts:
        assert shown == text
    else:
        json.loads(shown)


def _strings(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for each in value for text in _strings(each)]
        case dict():
            return [text for pair in value.items() for each in pair for text in _strings(each)]
    return [json.dumps(value)]
