"""Text as tests of detectors need it: full of what is found, of what nearly is, and of arbitrary bytes."""

from hypothesis import strategies as st

SAMPLES: dict[str, tuple[bytes, ...]] = {
    "email": (
        b"anna.schmidt@example.com",
        b"o'neil+tag@mail.example.co.uk",
        b"x@example.xn--p1ai",
        "j\u00fcrgen@ex\u00e4mple.com".encode(),
        b'"odd one"@example.org',
    ),
    # Numbers that issuers publish for tests.
    "payment_card": (
        b"4111111111111111",
        b"4012 8888 8888 1881",
        b"4222222222222",
        b"5555-5555-5555-4444",
        b"2223003122003222",
        b"378282246310005",
        b"3782 822463 10005",
        b"30569309025904",
        b"3056 930902 5904",
        b"6011111111111117",
        b"3530111333300000",
        b"6759649826438453",
        b"6240008631401148",
        b"2200000000000004",
    ),
    # The examples of the SWIFT registry.
    "iban": (
        b"DE89370400440532013000",
        b"DE89 3704 0044 0532 0130 00",
        b"GB29 NWBK 6016 1331 9268 19",
        b"gb29nwbk60161331926819",
        b"FR1420041010050500013M02606",
        b"NO9386011117947",
        b"MT84MALT011000012345MTLCAST001S",
        b"SA03 8000 0000 6080 1016 7519",
        b"CH9300762011623852957",
        b"BE68539007547034",
    ),
    "us_ssn": (b"123-45-6789", b"078-05-1120", b"899 12 3456"),
    "phone": (
        b"+49 30 901820",
        b"+49 (0)30 901820",
        b"+442079460958",
        b"+33 1 23 45 67 89",
        b"+1 212 555 0123",
        b"+12125550123",
        b"+1 (212) 555-0123",
        b"(212) 555-0123",
        b"212-555-0123",
        b"1-212-555-0123",
        b"212.555.0123",
    ),
    "ipv4": (b"10.20.30.40", b"255.255.255.255", b"0.0.0.0"),
    "ipv6": (
        b"2001:db8::1",
        b"::1",
        b"fe80::1ff:fe23:4567:890a",
        b"2001:0db8:0000:0000:0000:ff00:0042:8329",
        b"::ffff:192.0.2.128",
        b"1::",
    ),
    "jwt": (
        b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UifQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        b"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
        b"ewogICJhbGciOiAiUlMyNTYiCn0.e30.c2ln",
        b"eyJhbGciOiJSU0EtT0FFUCJ9.a2V5.aXY.dGV4dA.dGFn",
    ),
    "cloud_key": (
        b"AKIAIOSFODNN7EXAMPLE",
        b"ASIAIOSFODNN7EXAMPLE",
        b"AIza" + b"SyA1234567890abcdefghijklmnopqrst_u",
        b"GOCSPX-" + b"abcdefghijklmnopqrstuvwxyz12",
        b"ghp_" + b"a1B2" * 9,
        b"github_pat_" + b"A" * 22 + b"_" + b"b1" * 30,
        b"glpat-" + b"x1y2z3" * 4,
        b"xoxb-" + b"123456789012-abcdefABCDEF",
        b"sk_live_" + b"4eC39HqLyjWDarjtT1zdp7dc",
        b"whsec_" + b"abcdefghijklmnopqrstuvwxyz12",
        b"abc8Q~" + b"d" * 34,
    ),
    "private_key": (
        b"-----BEGIN PRIVATE KEY-----\nMIIEvQ==\n-----END PRIVATE KEY-----",
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIEvQ==\n-----END RSA PRIVATE KEY-----",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n-----END OPENSSH PRIVATE KEY-----",
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF==\n-----END PGP PRIVATE KEY BLOCK-----",
        b"AGE-SECRET-KEY-1" + b"QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2,
    ),
    "bearer_token": (b"mF_9.B5f-4.1JqM", b"abcdefghij0123456789", b"QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    "url_password": (b"s3cret", b"p@ss/w0rd", b"%40%2F"),
}
"""Published examples and numbers for tests, by the name of their detector: what is found whole."""

AROUND: dict[str, tuple[bytes, bytes]] = {
    "bearer_token": (b"Authorization: Bearer ", b""),
    "url_password": (b"postgres://app:", b"@db.example/app"),
}
"""What has to stand around a value, and stays."""


def sample(name: str, value: bytes) -> bytes:
    """Return a value of a kind together with what makes it one."""
    before, behind = AROUND.get(name, (b"", b""))
    return before + value + behind


ALL = [(name, value) for name, values in SAMPLES.items() for value in values]

_pieces = st.one_of(
    st.sampled_from([sample(*each) for each in ALL]),
    st.sampled_from([sample(*each) for each in ALL]).flatmap(
        lambda whole: st.tuples(st.integers(0, len(whole)), st.integers(0, len(whole))).map(
            lambda cut: whole[min(cut) : max(cut)]
        )
    ),
    st.sampled_from([b" ", b"\n", b",", b"-", b".", b":", b"::", b"@", b"//", b'"', b"\\", b"\0", b"a", b"0", b"\xc3"]),
    st.binary(max_size=6),
    st.text(max_size=4).map(str.encode),
    st.integers(0, 10**20).map(lambda number: str(number).encode()),
)
cells = st.lists(_pieces, max_size=8).map(b"".join)
"""Cells in which things are found, cut off, and stuck together."""
