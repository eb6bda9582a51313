"""Detectors: what they find, what they leave alone, and what holds for any bytes."""

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bastion.masking import addresses, credentials, numbers
from bastion.masking.covers import FULL, text_cover
from bastion.masking.detectors import KINDS, MOST_FINDINGS, NAMES, Detectors
from bastion.model.mask import Cover, CoverKind
from tests.masking.strategies import ALL, SAMPLES, cells, sample

EVERY = Detectors(tuple(NAMES), (("staff", r"\bEMP-[0-9]{5}\b"), ("quoted", "^«.*»$")))
ONE = {name: Detectors((name,)) for name in NAMES}
STARS = text_cover(Cover(CoverKind.FULL), b"")

NEARLY = {
    "email": (
        b"joe@localhost",
        b"@handle.name",
        b"price @ example.com",
        b"a@b",
        b"joe@example.",
        b"joe@1.2.3",
        b"@media.screen",
    ),
    "payment_card": (
        b"4111111111111112",
        b"4111 1111 1111 1112",
        b"94111111111111111",
        b"411111111111111100000",
        b"0.4111111111111111",
        b"4111111111111111.5",
        b"ORD4111111111111111",
        b"4111111111111111a",
        b"4111 1111-1111 11 11",
        b"9999999999999995",
        b"1111111111111117",
        b"2026-03-14 10:22:31 2026-03-15",
        b"1767225600000",
        b"1767225600000000",
        b"123e4567-e89b-12d3-a456-426614174000",
        b"00000000-0000-0000-0000-000000000000",
        b"411111111111",
    ),
    "iban": (
        b"DE89370400440532013001",
        b"DE8937040044053201300",
        b"DE89370400440532013000X",
        b"XDE89370400440532013000",
        b"XX89370400440532013000",
        b"AB12CD34EF56GH78IJ90",
        b"DE89 3704 0044 and more text follows",
    ),
    "us_ssn": (
        b"000-12-3456",
        b"666-12-3456",
        b"900-12-3456",
        b"123-00-6789",
        b"123-45-0000",
        b"123456789",
        b"123-45 6789",
        b"1123-45-6789",
        b"123-45-67890",
        b"978-12-3456-78-9",
        b"4-123-45-6789",
        b"100 123 45 6789 100",
        b"2026-11-24",
    ),
    "phone": (
        b"+1234",
        b"+0123456789",
        b"+1 112 555 0123",
        b"+1 212 911 0123",
        b"+4912345678901234567890",
        b"a+49301234567",
        b"112-555-0123",
        b"212-911-0123",
        b"2025-555-0123",
        b"212-555-01234",
        b"212 555 0123",
        b"2125550123",
        b"2026-03-14 10:22:31",
        b"+02:00",
        b"1.212.555",
        b"order 4930901820",
    ),
    "ipv4": (
        b"256.1.1.1",
        b"1.2.3",
        b"1.2.3.4.5",
        b"v1.2.3.4",
        b"1.2.3.4rc1",
        b"10.0.19041.1",
        b"01.2.3.4",
        b"1.3.6.1.4.1.311",
        b"2026.11.24.1",
        b"1.234.567,89",
    ),
    "ipv6": (
        b"12:30:45",
        b"00:1a:2b:3c:4d:5e",
        b"std::vector",
        b"a::b",
        b"::",
        b"1:2:3:4:5:6:7",
        b"1:2:3:4:5:6:7:8:9",
        b"1::2::3",
        b"12345::1",
        b"2026-03-14T10:22:31",
        b"::g1",
        b"sha256:0123456789abcdef",
    ),
    "jwt": (
        b"eyeliner.is.pretty",
        b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0",
        b"eyJub3RhbGciOjF9.e30.c2ln",
        b"eyJhbGciOiJIUzI1NiJ.e30.c2ln",
        b"www.eyebrows-and-more.example.com",
    ),
    "cloud_key": (
        b"AKIAIOSFODNN7EXAMPL",
        b"AKIAIOSFODNN7EXAMPLEX",
        b"XAKIAIOSFODNN7EXAMPLE",
        b"akiaiosfodnn7example",
        b"ghp_short",
        b"xoxo-hugs-and-kisses",
        b"sk_live_",
        b"desk_test_",
        b"3f786850e387550fdab836ed7e6dc881de23001b",
    ),
    "private_key": (
        b"-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        b"a private key begins with BEGIN PRIVATE KEY",
    ),
    "bearer_token": (
        b"bearer of bad news",
        b"Bearer certificates",
        b"bearer",
        b"Bearer: unknown",
        b"the bearer may board",
    ),
    "url_password": (
        b"https://example.com:8080/@me",
        b"https://joe@example.com/",
        b"https://example.com/a:b@c",
        b"https://:@example.com",
        b"see https://example.com: it is joe@example.com",
        b"http://[::1]:80/x@y",
    ),
}
"""What looks like a value of the kind and is none."""


def covered(name: str, cell: bytes) -> tuple[bytes | None, dict[str, int]]:
    return ONE[name].covered(cell, STARS)


FRAMES = ("%s", "see %s, please", "(%s)", "请看 %s 谢谢", "%s\n", '"%s"', "'%s'", "x=%s;", "a|%s|b", "/%s?x")


@pytest.mark.parametrize(("name", "value"), ALL)
def test_a_value_is_covered_whole(name: str, value: bytes) -> None:
    for frame in FRAMES:
        before, behind = map(str.encode, frame.split("%s"))
        whole = before + sample(name, value) + behind
        assert covered(name, whole) == (whole.replace(value, FULL.encode()), {name: 1})


@pytest.mark.parametrize(("name", "cell"), [(name, cell) for name, near in NEARLY.items() for cell in near])
def test_what_only_looks_like_it_stays(name: str, cell: bytes) -> None:
    assert covered(name, cell) == (cell, {})


def test_each_detector_has_examples_and_near_misses() -> None:
    assert set(SAMPLES) == set(NEARLY) == set(NAMES)
    assert all(about and "\n" not in about for about in NAMES.values())


@pytest.mark.parametrize("name", NAMES)
def test_values_side_by_side_are_all_found(name: str) -> None:
    values = SAMPLES[name]
    cell = b" , ".join(sample(name, value) for value in values)
    shown, counts = covered(name, cell)
    assert counts == {name: len(values)}
    assert shown is not None
    assert not any(value in shown for value in values if len(value) > 8)


@pytest.mark.parametrize(
    ("name", "cell", "shown"),
    [
        ("payment_card", b"1234 4111 1111 1111 1111 9999", b"1234 ******** 9999"),
        ("payment_card", b"4111 1111 1111 1111 123", b"******** 123"),
        ("payment_card", b"4111 1111 1111 1111 4012 8888 8888 1881", b"******** ********"),
        ("payment_card", b"card_4111111111111111.", b"card_********."),
        ("email", b"<joe@example.com>", b"<********>"),
        ("email", b"mailto:joe@example.com?subject=x", b"mailto:********?subject=x"),
        ("iban", b"IBANBE68539007547034", b"IBAN********"),
        ("iban", b"IBAN DE89 3704 0044 0532 0130 00 and so on", b"IBAN ******** and so on"),
        ("ipv4", b"10.0.0.1:5432, 10.0.0.1/8.", b"********:5432, ********/8."),
        ("ipv6", b"[2001:db8::1]:443 and fe80::1%eth0.", b"[********]:443 and ********%eth0."),
        ("ipv6", b"at 2001:db8::1: refused", b"at ********: refused"),
        ("jwt", b"www.example.com.eyJhbGciOiJIUzI1NiJ9.e30.c2ln", b"www.example.com.********"),
        ("jwt", b"token_eyJhbGciOiJIUzI1NiJ9.e30.c2ln", b"token_********"),
        ("cloud_key", b"aws_secret_access_key = " + b"wJalrXUt" * 5, b"aws_secret_access_key = ********"),
        ("cloud_key", b"AccountKey=" + b"A" * 86 + b"==;Suffix=x", b"AccountKey=********;Suffix=x"),
        ("private_key", b"x -----BEGIN RSA PRIVATE KEY-----\nMIIEv", b"x ********"),
        ("private_key", b"PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nAAAA", b"********"),
        ("private_key", b"-----BEGIN PRIVATE KEY-----\nA\n-----END CERTIFICATE-----\nB", b"********"),
        ("bearer_token", b"authorization: basic QWxhZGRpbjpvcGVu1", b"authorization: basic ********"),
        ("bearer_token", b"bearer bearerbearer abc123456", b"bearer bearerbearer ********"),
        ("url_password", b"a://b:c@d,e://f:g@h", b"a://b:********@d,e://f:********@h"),
        ("url_password", b"redis://:s3cret@cache:6379/0", b"redis://:********@cache:6379/0"),
        ("url_password", b"a://h:80/x a://u:p\xff\xfe@h", b"a://h:80/x a://u:********@h"),
    ],
)
def test_what_stands_beside_a_value_stays(name: str, cell: bytes, shown: bytes) -> None:
    assert covered(name, cell)[0] == shown


def test_findings_that_overlap_are_covered_as_one() -> None:
    cell = b"postgres://app:s3cret@db.example.com/app"
    both = Detectors(("email", "url_password"))
    assert both.covered(cell, STARS) == (b"postgres://app:********/app", {"email": 1, "url_password": 1})


def test_null_empties_the_whole_cell() -> None:
    cell = b"mail joe@example.com today"
    assert ONE["email"].covered(cell, lambda _: None) == (None, {"email": 1})
    assert ONE["email"].covered(b"no mail", lambda _: None) == (b"no mail", {})
    assert ONE["email"].covered_all([cell, b"no mail"], lambda _: None) == ([None, b"no mail"], {"email": 1})


def test_names_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'ssn'.*us_ssn"):
        Detectors(("ssn",))
    with pytest.raises(ValueError, match="already"):
        Detectors((), (("email", "x"),))


def test_without_any_there_is_nothing() -> None:
    nothing = Detectors(())
    assert not nothing.may_hold(b"joe@example.com")
    assert nothing.covered_all([b"joe@example.com"], STARS) == ([b"joe@example.com"], {})


def test_a_pattern_of_the_policy_is_found_in_its_cell_alone() -> None:
    assert EVERY.covered("«ä» EMP-12345".encode(), STARS) == ("«ä» ********".encode(), {"staff": 1})
    assert EVERY.covered("«EMP-1»".encode(), STARS) == (b"********", {"quoted": 1})
    chunk = b"\x00\x00\x00\x09" + "«é»".encode() + b"\x00\x00\x00\x02xEMP-12345x"
    assert EVERY.may_hold(chunk)
    assert EVERY.covered_all(["«é»".encode(), b"xEMP-12345x"], STARS)[0] == [b"********", b"xEMP-12345x"]


def test_a_pattern_that_matches_again_and_again_ends() -> None:
    costly = Detectors((), (("costly", "a.*b|a"),))
    cell = b"a" * (1 << 20)
    shown, counts = costly.covered(cell, STARS)
    assert counts == {"costly": MOST_FINDINGS + 1}
    assert shown == FULL.encode() * (MOST_FINDINGS + 1)


@given(st.binary(max_size=40), cells, st.binary(max_size=40))
@example(b"\x00\x00\x00\x134", b"111111111111111", b"1\x00\x00")
def test_what_is_found_anywhere_was_foreseen(before: bytes, cell: bytes, behind: bytes) -> None:
    if EVERY.found(cell):
        assert EVERY.may_hold(before + cell + behind)
        assert EVERY.may_hold(memoryview(before + cell + behind))
    for name, one in ONE.items():
        if any(KINDS[name].search(cell)):
            assert one.may_hold(before + cell + behind), name


@given(cells)
def test_a_search_yields_in_order_and_without_overlaps(cell: bytes) -> None:
    for name, kind in KINDS.items():
        if name in {"phone", "cloud_key"}:  # several searches, one after another
            continue
        ends = [0, *(place for span in kind.search(cell) for place in span)]
        assert ends == sorted(ends), name


@given(cells)
@example(b"joe@example.comjim@example.com")
@example(b"+49 30 901820+49 30 901820")
@example(b"+12125550123+12125550123")
def test_covering_again_changes_nothing(cell: bytes) -> None:
    for name, one in ONE.items():
        shown, _ = one.covered(cell, STARS)
        assert shown is not None
        assert one.covered(shown, STARS)[0] == shown, name
        if name not in {"url_password", "bearer_token"}:  # whatever stands there is one
            assert one.covered(shown, STARS) == (shown, {}), name


@example([b"1", b"899 12 3456", b"1"], "x")
@example([b"12-", b"899-12-3456", b"-1"], "x")
@given(st.lists(cells, max_size=12), st.sampled_from(["", "\udc80", "\ud800", "«x»"]))
def test_many_cells_are_covered_as_each_by_itself(many: list[bytes], text: str) -> None:
    cover = text_cover(Cover(CoverKind.FIXED, text=text), b"")
    each = [EVERY.covered(cell, cover)[0] for cell in many]
    shown, counts = EVERY.covered_all(many, cover)
    assert shown == each
    assert sum(counts.values()) == sum(len(EVERY.found(cell)) for cell in many)


@given(cells, st.sampled_from(CoverKind))
def test_covering_keeps_what_it_does_not_cover(cell: bytes, kind: CoverKind) -> None:
    shown, counts = EVERY.covered(cell, text_cover(Cover(kind, text="x"), b"key"))
    if not counts:
        assert shown == cell
    elif shown is not None:
        try:
            cell.decode()
        except UnicodeDecodeError:
            return
        shown.decode()


HOSTILE: dict[str, tuple[bytes, ...]] = {
    "email": (b"a", b"a@", b"a.", b"a@b.cc", b"a@b.c-", b'"', b'"a"@b.c', b"\xff", b"@"),
    "payment_card": (b"4", b"4-", b"4111 ", b"4111 1111 ", b"4111111111111112 ", b"41111111 ", b"4111111111111111 "),
    "iban": (b"DE89", b"D8", b"DE89 ", b"DE89-3704", b"A", b"GB29NWBK60161331926819 "),
    "us_ssn": (b"1-", b"123-45-", b"123-45-6789-", b"123-45-6789 ", b"1"),
    "phone": (b"+", b"+4", b"+49 ", b"1-", b"212-555-0123-", b"+49(", b"+1 212 ", b"2"),
    "ipv4": (b"1.", b"1", b"1.1.1.1 ", b"1.1.1.1-"),
    "ipv6": (b":", b"::", b"1:", b"::1 ", b"a", b"1:2:3:4:5:6:7:8 "),
    "jwt": (b"ey", b"eyJhbGci", b"eyJhbGci.", b"ey.", b"eyJhbGciOiJub25lIn0.e30. ", b"."),
    "cloud_key": (
        b"AKIA",
        b"xoxb-",
        b"ghp_",
        b"aws",
        b"aws_secret",
        b"AIza",
        b"?sig=",
        b"aQ~",
        b"8Q~",
        b"axoxb-aaaaaaaaaa",
    ),
    "private_key": (
        b"-----BEGIN PRIVATE KEY-----",
        b"-----BEGIN ",
        b"-",
        b"-----BEGIN PRIVATE KEY-----\0",
        b"-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----",
        b"AGE-SECRET-KEY-1",
    ),
    "bearer_token": (b"bearer ", b"bearer", b"bearer abcdefgh", b"authorization:basic ", b"a"),
    "url_password": (b"://", b"://a:", b"://a:1/", b"://a:b@", b":", b"@", b"://a:/", b"://a:b/@ "),
}
"""What a search could be made to read again and again."""


@pytest.mark.parametrize(("name", "piece"), [(name, piece) for name, pieces in HOSTILE.items() for piece in pieces])
def test_twice_the_text_is_at_most_twice_the_work(name: str, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (work(name, piece * (size // len(piece)), monkeypatch) for size in (4_000, 16_000))
    assert large <= 4.4 * small + 2_000


def work(name: str, cell: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count the lines that run and the bytes that the engine reads."""
    done = 0

    def counting(find: Callable[..., Any]) -> Callable[..., Any]:
        def counted(pattern: Any, text: bytes, at: int, *, group: int = 0, end: int | None = None) -> Any:
            nonlocal done
            hit = find(pattern, text, at, group=group, end=end)
            # With nothing left to match, the engine has read on to the end.
            done += (hit[1] if hit else len(text) if end is None else end) - at
            return hit

        return counted

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal done
        done += event == "line"
        return trace if frame.f_globals.get("__name__", "").startswith("bastion.masking") else None

    with monkeypatch.context() as patched:
        for module in (addresses, credentials, numbers):
            patched.setattr(module, "search", counting(module.search))
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in KINDS[name].search(cell):
                pass
        finally:
            sys.settrace(before)
    return done


@settings(max_examples=20)
@given(st.binary(max_size=2_000))
def test_any_bytes_can_be_searched(cell: bytes) -> None:
    shown, _ = EVERY.covered(cell, STARS)
    assert shown is not None
    assert EVERY.covered_all([cell], STARS)[0] == [shown]


def test_what_is_reported_holds_no_value() -> None:
    _, counts = EVERY.covered(b"joe@example.com 4111111111111111", STARS)
    assert counts == {"email": 1, "payment_card": 1}
    assert not re.search("joe|4111", repr(counts))
