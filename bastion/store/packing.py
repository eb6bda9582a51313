"""How entries lie in a chunk, and bytes of output in an entry. Pure.

A chunk's body is each entry's time (8 bytes), length of kind (1), length of data (4), kind and data, one after the
other; `packing` says whether zstd was run over the whole. An `output` entry's data begins with one byte that says the
same of the rest, so that what is hashed into the chain is what is stored.
"""

import struct
from collections.abc import Iterator

import zstandard

from bastion.model.entry import Entry

PLAIN = 0
ZSTD = 1
_HEAD = struct.Struct(">qBI")
_WORTH_PACKING = 2048
_LEVEL = 1
_UNPACKED_AT_MOST = 256 * 1024 * 1024

_compressor = zstandard.ZstdCompressor(level=_LEVEL)


def laid(at: int, kind: bytes, data: bytes) -> bytes:
    """Return one entry as it lies in a chunk."""
    return _HEAD.pack(at, len(kind), len(data)) + kind + data


def packed(body: bytes) -> tuple[int, bytes]:
    """Return how a chunk's body is packed, and the packed body."""
    if len(body) < _WORTH_PACKING:
        return PLAIN, body
    small = _compressor.compress(body)
    return (ZSTD, small) if len(small) < len(body) else (PLAIN, body)


def unpacked(packing: int, body: bytes) -> bytes:
    """Return what `packed` was given; raise `ValueError` for anything it did not return."""
    if packing == PLAIN:
        return body
    if packing != ZSTD:
        raise ValueError(f"packing {packing} is not known")
    try:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=_UNPACKED_AT_MOST)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def entries(first: int, body: bytes) -> Iterator[Entry]:
    """Yield the entries that lie in a body, the first of which has the sequence number `first`."""
    at, seq = 0, first
    while at < len(body):
        if at + _HEAD.size > len(body):
            raise ValueError("an entry is cut off")
        moment, kind_size, data_size = _HEAD.unpack_from(body, at)
        at += _HEAD.size
        end = at + kind_size + data_size
        if end > len(body):
            raise ValueError("an entry is cut off")
        kind = body[at : at + kind_size].decode("utf-8", "replace")
        yield Entry(seq, moment, kind, body[at + kind_size : end])
        at, seq = end, seq + 1


def packed_output(data: bytes) -> bytes:
    """Return bytes of output as an entry holds them."""
    packing, small = packed(data)
    return bytes((packing,)) + small


def unpacked_output(data: bytes) -> bytes:
    """Return the bytes of output that an entry holds."""
    return unpacked(data[0], data[1:]) if data else b""
