"""A chain is the one that `Entry.link` makes, and however its entries fall into chunks, they come back the same."""

import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bastion.model.entry import GENESIS, Entry
from bastion.store.chain import Chain, Chunk
from bastion.store.packing import ZSTD, entries, packed, packed_output, unpacked, unpacked_output

KINDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(-(2**63), 2**63 - 1), KINDS, st.binary(max_size=5000)),
        st.tuples(st.just("show"), st.just(0), st.just(""), st.binary(max_size=5000)),
        st.tuples(st.just("take"), st.just(0), st.just(""), st.just(b"")),
    ),
    max_size=30,
)


@given(STEPS)
def test_chunking_never_matters(steps: list[tuple[str, int, str, bytes]]) -> None:
    chain, chunks, told = Chain(), list[Chunk](), list[tuple[str, bytes]]()
    for step, at, kind, data in steps:
        if step == "take":
            chunks.append(chain.take())
        elif step == "show":
            chain.show(data)
            chain.append_shown(7)
            told.append(("output", data))
        else:
            chain.append(at, kind, data)
            told.append((kind, data))
    chunks.append(chain.take())

    link, found = GENESIS, list[Entry]()
    for chunk in chunks:
        inside = list(entries(unpacked(chunk.packing, chunk.body)))
        assert (len(inside), len(chunk.links)) == (chunk.count, 32 * chunk.count)
        assert [entry.seq for entry in inside] == list(range(chunk.first, chunk.first + chunk.count))
        for index, entry in enumerate(inside):
            link = entry.link(link)
            assert chunk.links[32 * index : 32 * index + 32] == link
        found += inside
    assert link == chain.link
    assert len(found) == chain.seq == len(told)
    for entry, (kind, data) in zip(found, told, strict=True):
        assert entry.kind == kind
        assert (entry.data == data) if kind != "output" else data in (entry.data, unpacked_output(entry.data))


def test_an_entry_that_cannot_be_laid_down_leaves_the_chain_as_it_was() -> None:
    chain = Chain()
    chain.append(1, "judged", b"{}")
    before = (chain.seq, chain.link)
    for at, kind in ((1, "k" * 256), (1, "\ud800"), (2**63, "judged")):
        with pytest.raises((ValueError, struct.error)):
            chain.append(at, kind, b"{}")
    assert (chain.seq, chain.link) == before
    assert chain.take().count == 1


@given(st.binary(max_size=300))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for packing in (0, 1, 2):
        try:
            list(entries(unpacked(packing, body)))
        except ValueError:
            continue


@given(st.binary(max_size=20_000))
def test_output_comes_back_as_it_was(data: bytes) -> None:
    assert unpacked_output(packed_output(data)) == data


def test_a_frame_that_claims_too_much_is_not_unpacked() -> None:
    claims = zstandard.ZstdCompressor().compress(b"\0" * (300 * 1024 * 1024))
    with pytest.raises(ValueError, match="not one of ours"):
        unpacked(ZSTD, claims)


def test_nothing_hides_behind_a_frame() -> None:
    packing, small = packed(b"a line that repeats\n" * 1000)
    assert packing == ZSTD
    with pytest.raises(ValueError, match="unused data"):
        unpacked(ZSTD, small + b"hidden")
