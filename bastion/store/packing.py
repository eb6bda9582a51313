"""How entries lie in a chunk, and bytes of output in an entry. Pure.

A chunk's body is each entry's head (`bastion.model.entry.HEAD`), kind and data, one after the other; `packing` says
whether zstd was run over the whole. An `output` entry's data begins with one byte that says the same of the rest, so
that what is hashed into the chain is what is stored.
"""

from collections.abc import Iterator

import zstandard

from bastion.model.entry import HEAD, Entry

PLAIN = 0
ZSTD = 1
_WORTH_PACKING = 2048
_LEVEL = 1
_UNPACKED_AT_MOST = 256 * 1024 * 1024

_AS_IT_IS = bytes((PLAIN,))

_compressor = zstandard.ZstdCompressor(level=_LEVEL)


def laid(seq: int, at: int, kind: bytes, data: bytes) -> bytes:
    """Return one entry as it lies in a chunk, and as it is hashed after the link before it."""
    return HEAD.pack(seq, at, len(kind), len(data)) + kind + data


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
        # The size that a frame claims is allocated before it is proved, whatever `max_output_size` says.
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= _UNPACKED_AT_MOST:
            raise ValueError(f"a packed body of {size} bytes is not one of ours")
        return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def entries(body: bytes) -> Iterator[Entry]:
    """Yield the entries that lie in a body; raise `ValueError` where it holds anything else."""
    at = 0
    while at < len(body):
        if at + HEAD.size > len(body):
            raise ValueError("an entry is cut off")
        seq, moment, kind_size, data_size = HEAD.unpack_from(body, at)
        at += HEAD.size
        end = at + kind_size + data_size
        if end > len(body):
            raise ValueError("an entry is cut off")
        kind = body[at : at + kind_size].decode("utf-8", "replace")
        yield Entry(seq, moment, kind, body[at + kind_size : end])
        at = end


def packed_output(data: bytes) -> bytes:
    """Return bytes of output as an entry holds them."""
    if len(data) < _WORTH_PACKING:
        return _AS_IT_IS + data
    packing, small = packed(data)
    return bytes((packing,)) + small


def unpacked_output(data: bytes) -> bytes:
    """Return the bytes of output that an entry holds; raise `ValueError` where `packed_output` did not make it."""
    if not data:
        raise ValueError("an output entry does not say how it is packed")
    return unpacked(data[0], data[1:])
