"""Addresses of people and of machines."""

from collections.abc import Iterator
from typing import Final

from bastion.masking import checks
from bastion.masking.kind import Kind, is_alphanumeric
from bastion.masking.patterns import Span, built_in, search

_FIRST: Final = rb"A-Za-z0-9!#$%&*+_~\x80-\xff-"
_LOCAL: Final = rb".'" + _FIRST
"""What stands in the names of mailboxes; of what else RFC 5322 allows, most is a mark between a name and its value."""
_DOMAIN: Final = rb"A-Za-z0-9\x80-\xff-"
_ADDRESS: Final = built_in(
    rb'(?:[%b][%b]*|"[ !#-~]{1,62}")(?:@(?:[%b]+\.)+(?:xn--[A-Za-z0-9-]+|[A-Za-z]{2,}))+' % (_FIRST, _LOCAL, _DOMAIN)
)
"""One address, or several with nothing in between."""


def _addresses(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_ADDRESS, text, at)) is not None:
        yield hit
        at = hit[1]


EMAIL: Final = Kind(
    "mail addresses",
    rb'["%b]@[%b]+\.' % (_LOCAL, _DOMAIN),
    _addresses,
)


_IPV4: Final = built_in(rb"[0-9]+(?:\.[0-9]+){3,}")
_IPV6: Final = built_in(rb"[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


def _ipv4(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_IPV4, text, at)) is not None:
        start, at = hit
        joined = is_alphanumeric(text, start - 1) or is_alphanumeric(text, at)
        if not joined and at - start <= 15 and checks.is_ipv4(text[start:at].split(b".")):
            yield hit


def _ipv6(text: bytes) -> Iterator[Span]:
    at = 0
    while (hit := search(_IPV6, text, at)) is not None:
        start, at = hit
        if is_alphanumeric(text, start - 1) or is_alphanumeric(text, at):
            continue
        # What ends a sentence or opens a list is no part of the address.
        for end in (at, at - 1):
            if text[end - 1] != 46 and checks.is_ipv6(text[start:end]):
                yield start, end
                break


IPV4: Final = Kind(
    "addresses of IPv4; a version of four numbers looks the same",
    rb"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
    _ipv4,
)

IPV6: Final = Kind(
    "addresses of IPv6",
    rb"::[0-9A-Fa-f:.]*[0-9]|[0-9][0-9A-Fa-f:]*::|(?:[0-9A-Fa-f]{1,4}:){6}",
    _ipv6,
)
