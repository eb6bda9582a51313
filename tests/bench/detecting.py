"""How fast text is searched for what is sensitive: `python -m tests.bench.detecting`."""

import random
import sys
import time
from collections.abc import Callable

from bastion.masking.covers import text_cover
from bastion.masking.detectors import NAMES, Detectors
from bastion.model.mask import Cover, CoverKind

_TEXT = """
order shipped to the warehouse in Hamburg, customer asked for a refund on 2026-03-14 10:22:31 because item #471 arrived
late; see ticket OPS-2231 and /var/log/app/web-1.log (status=503, took 1.284 s) before you call back
"""
_SENSITIVE = (
    "anna.schmidt@example.com",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "123-45-6789",
    "+49 30 901820",
    "10.20.30.40",
    "postgres://app:s3cret@db.internal/app",
)
_SIZE = 8 << 20
_CHUNK = 64 << 10


def cells(rng: random.Random, length: int, every: int) -> list[bytes]:
    """Return cells of about `length` bytes; one in `every` holds something, none where that is 0."""
    found, size = [], 0
    while size < _SIZE:
        words = rng.choices(_TEXT.split(), k=max(length // 6, 1))
        if every and rng.randrange(every) == 0:
            words.insert(rng.randrange(len(words)), rng.choice(_SENSITIVE))
        found.append(" ".join(words).encode())
        size += len(found[-1])
    return found


def speeds() -> dict[str, tuple[float, float]]:
    """Return megabytes a second, by kind of text: copied, and searched and covered as results are."""
    detectors = Detectors(tuple(NAMES))
    cover = text_cover(Cover(CoverKind.PARTIAL), b"key")
    rng = random.Random(1)

    def searched(chunks: list[list[bytes]]) -> None:
        for chunk in chunks:
            if detectors.may_hold(b"\x00\x00\x00\x10".join(chunk)):
                detectors.covered_all(chunk, cover)

    def copied(chunks: list[list[bytes]]) -> None:
        for chunk in chunks:
            b"\x00\x00\x00\x10".join(chunk)

    texts = {
        "clean": cells(rng, 120, 0),
        "one cell in 20 holds something": cells(rng, 120, 20),
        "every cell holds something": cells(rng, 120, 1),
        "clean, short cells": cells(rng, 20, 0),
        "short cells, one in 20": cells(rng, 20, 20),
    }
    found = {}
    for name, text in texts.items():
        size = sum(map(len, text))
        per = max(1, _CHUNK * len(text) // size)
        chunks = [text[at : at + per] for at in range(0, len(text), per)]
        found[name] = (size / _quickest(copied, chunks) / 1e6, size / _quickest(searched, chunks) / 1e6)
    return found


def _quickest(act: Callable[[list[list[bytes]]], None], chunks: list[list[bytes]]) -> float:
    """Return the seconds of CPU of the quickest of three rounds."""
    rounds = []
    for _ in range(3):
        began = time.process_time()
        act(chunks)
        rounds.append(time.process_time() - began)
    return min(rounds)


def main() -> None:
    """Measure and print."""
    sys.stdout.write(f"{'text':36}{'copied, MB/s':>14}{'searched, MB/s':>16}{'ratio':>8}\n")
    for name, (bare, ours) in speeds().items():
        sys.stdout.write(f"{name:36}{bare:14,.0f}{ours:16,.0f}{ours / bare:8.3f}\n")


if __name__ == "__main__":
    main()
