"""Where one session's hash chain stands, and what of it waits to be committed. Pure: no clock, no file.

The link of an entry is `Entry.link`'s, computed here without building the entry.
"""

from dataclasses import dataclass, field
from hashlib import sha256

import orjson

from bastion.model.entry import GENESIS, Entry
from bastion.store.packing import PLAIN, laid, packed, packed_output, unpacked_output


@dataclass(slots=True)
class Counts:
    """What the list of recordings says of a session."""

    statements: int = 0
    denied: int = 0
    held: int = 0
    bytes: int = 0

    def add(self, entry: Entry) -> None:
        """Count an entry that was stored before; raise `ValueError` if it is not one of ours."""
        if entry.kind == "judged":
            self.statements += 1
            self.denied += orjson.loads(entry.data).get("verdict", {}).get("is") == "deny"
        elif entry.kind == "waiting":
            self.held += 1
        elif entry.kind == "output":
            self.bytes += len(unpacked_output(entry.data))


@dataclass(slots=True)
class Chunk:
    """Entries that are stored together."""

    first: int
    count: int
    packing: int
    body: bytes
    links: bytes


@dataclass(slots=True)
class Chain:
    """One session's chain. `seq` and `link` are those of the last entry, committed or not."""

    seq: int = 0
    _link: bytes = GENESIS
    counts: Counts = field(default_factory=Counts)
    shown: int = 0
    """How many bytes of output wait to become an entry."""
    _first: int = 0
    _body: list[bytes] = field(default_factory=list)
    _links: list[bytes] = field(default_factory=list)
    """Of as many of the entries as were asked for: the rest are linked together, when they are taken."""
    _output: list[bytes] = field(default_factory=list)
    _unpacked: int = 0

    def __post_init__(self) -> None:
        self._first = self.seq + 1

    @property
    def link(self) -> bytes:
        """The link of the last entry."""
        link, links = self._link, self._links
        for entry in self._body[len(links) :]:
            link = sha256(link + entry).digest()
            links.append(link)
        self._link = link
        return link

    def append(self, at: int, kind: str, data: bytes) -> int:
        """Add an entry, which came to be at `at`, behind the output that was collected; return the bytes they take."""
        shown = self.append_shown(at) if self.shown else 0
        entry = laid(self.seq + 1, at, kind.encode(), data)  # raises before it changes anything, if it cannot be done
        self.seq += 1
        self._body.append(entry)
        size = len(entry)
        self._unpacked += size
        if kind == "judged":
            self.counts.statements += 1
        elif kind == "waiting":
            self.counts.held += 1
        return shown + size

    def show(self, data: bytes) -> None:
        """Collect bytes of output."""
        self._output.append(data)
        self.shown += len(data)

    def append_shown(self, at: int) -> int:
        """Make one entry of the output that was collected, and return how many bytes it takes."""
        data = self._output[0] if len(self._output) == 1 else b"".join(self._output)
        entry = laid(self.seq + 1, at, b"output", packed_output(data))
        self.seq += 1
        self._body.append(entry)
        self._output = []
        self.counts.bytes += len(data)
        self.shown = 0
        return len(entry)

    def take(self) -> Chunk:
        """Return what waits to be committed, and begin anew."""
        last = self.link
        body = b"".join(self._body)
        # Output is packed already; what is left is seldom worth another pass over all of it.
        packing, small = packed(body) if self._unpacked * 2 >= len(body) else (PLAIN, body)
        chunk = Chunk(self._first, len(self._links), packing, small, b"".join(self._links))
        self._first, self._link, self._body, self._links, self._unpacked = self.seq + 1, last, [], [], 0
        return chunk
