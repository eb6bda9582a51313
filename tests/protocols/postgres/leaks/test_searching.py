"""What a search for canaries finds: every form that can be undone, and nothing of what covers leave."""

import base64
import codecs
import hashlib
from collections.abc import Callable
from random import Random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastion.masking.covers import text_cover
from bastion.model.mask import Cover, CoverKind
from bastion.protocols.postgres.leaks.canaries import KINDS, LEAST, Canary, planted
from bastion.protocols.postgres.leaks.searching import Search

WORD = planted("t.word", "text", Random(1))
MAIL = planted("t.mail", "mail", Random(2))
NUMBER = planted("t.number", "int8", Random(3))
SEARCH = Search([WORD, MAIL, NUMBER])

FORMS: dict[str, Callable[[str], str]] = {
    "itself": str,
    "upper case": str.upper,
    "mixed case": str.title,
    "reversed": lambda text: text[::-1],
    "hexadecimal": lambda text: text.encode().hex(),
    "upper hexadecimal": lambda text: "x" + text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 after one byte": lambda text: base64.b64encode(b"a" + text.encode()).decode(),
    "base64 after two bytes": lambda text: base64.b64encode(b"ab" + text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(b"\xff\xff" + text.encode()).decode(),
    "base64 in lines": lambda text: base64.encodebytes(b"z" * 54 + text.encode()).decode(),
    "percent signs": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "an address": lambda text: quote(f"a b {text}"),
    "entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "escapes of JSON": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "octal escapes": lambda text: "".join(f"\\{ord(char):03o}" for char in text),
    "letters with spaces": " ".join,
    "an array of letters": lambda text: "{" + ",".join(text) + "}",
    "codes": lambda text: " ".join(str(ord(char)) for char in text),
    "rotated": lambda text: codecs.encode(text, "rot13"),
    "md5": lambda text: hashlib.md5(text.encode()).hexdigest(),
    "sha256": lambda text: f"\\x{hashlib.sha256(text.encode()).hexdigest()}",
    "its beginning": lambda text: f"'{text[:LEAST]}'",
    "its end": lambda text: f"'{text[-LEAST:]}'",
}


@pytest.mark.parametrize("canary", [WORD, MAIL], ids=lambda canary: canary.column)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(canary: Canary, form: str) -> None:
    said = f"before {FORMS[form](canary.literal)} after".encode()
    assert [found.split()[0] for found in SEARCH.found([said])] == [canary.column]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32))
def test_every_kind_is_found_in_its_text(kind: str, seed: int) -> None:
    canary = planted("t.c", kind, Random(seed))
    assert Search([canary]).found([canary.literal.encode()])
    assert Search([canary]).found([canary.text.encode()])


@pytest.mark.parametrize("kind", [CoverKind.FULL, CoverKind.PARTIAL, CoverKind.HASH, CoverKind.NULL, CoverKind.FIXED])
@given(seed=st.integers(0, 2**32))
def test_what_a_cover_leaves_is_not_found(kind: CoverKind, seed: int) -> None:
    cover = text_cover(Cover(kind, text="7"), b"key")
    for canary in (planted("t.c", "text", Random(seed)), planted("t.c", "mail", Random(seed))):
        covered = cover(canary.literal) or ""
        assert Search([canary]).found([covered.encode(), (covered * 3).encode()]) == []


def test_fewer_characters_than_give_it_away_are_not_found() -> None:
    assert SEARCH.found([WORD.text[: LEAST - 1].encode()]) == []


def test_binary_form_is_found() -> None:
    assert SEARCH.found([b"\0\0\0\x08" + NUMBER.wire + b"\0"]) == ["t.number (binary)"]


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    SEARCH.found([data])


@pytest.mark.parametrize("text", ["", "select relname from pg_class", "NOTICE: the quick brown fox", "%", "\\", "&#x"])
def test_ordinary_text_holds_none(text: str) -> None:
    assert SEARCH.found([text.encode() * 20]) == []


def test_two_steps_are_a_known_blind_spot() -> None:
    assert SEARCH.found([base64.b64encode(WORD.text[::-1].encode())]) == []
