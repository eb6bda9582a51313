"""What is withheld of all that the target says beside results: errors, notices, settings and notifications.

It may quote values there. Beside a mask that names columns, only words go through that cannot; beside one that
searches, what has something of it in its words.
"""

from collections.abc import Iterable, Mapping

from bastion.protocols.postgres import messages as m
from bastion.protocols.postgres.coverage import Coverage
from bastion.protocols.postgres.covering import words


class Withholding:
    """Knows what is in reach now."""

    def __init__(self) -> None:
        self._quiet = False
        """Whether a mask that names columns is in reach."""
        self._searching: Coverage | None = None
        """What searches, if such a mask is in reach."""
        self._deaf = False
        self._hearing: Coverage | None = None

    def reached(self, coverage: Coverage | None) -> None:
        """Take note that something is executed, in reach of what its results are covered by."""
        if coverage is not None:
            self._quiet = self._quiet or coverage.quiet
            if coverage.searches:
                self._searching = coverage

    def rested(self, running: Iterable[Coverage | None]) -> None:
        """Take the end of a transaction: what was put off to it has been said, except by what runs already."""
        if self._quiet or self._searching is not None:
            self._quiet, self._searching = False, None
            for coverage in running:
                self.reached(coverage)

    def listens(self, coverage: Coverage) -> None:
        """Take note that the session listens to what others notify it of, from here on."""
        self._deaf = self._deaf or coverage.quiet
        if coverage.searches:
            self._hearing = coverage

    def said(self, tag: int, fields: Mapping[str, bytes]) -> bytes | None:
        """Return an error or a notice without what could quote a masked value; None if it cannot."""
        if self._quiet or self._is_found(self._searching, fields.values()):
            return m.notice(tag, words.withheld(fields))
        return None

    def set(self, name: bytes, value: bytes) -> bytes | None:
        """Return nothing for a report of a setting that could be a masked value; None if it cannot.

        A function can put any text into a setting. The client goes on with what it knew.
        """
        hidden = self._quiet and not words.is_plain(name, value)
        return b"" if hidden or self._is_found(self._searching, (value,)) else None

    def notified(self, data: bytes, start: int, end: int) -> bytes | None:
        """Return a notification without its payload where that could be a masked value; None if it cannot."""
        if self._deaf or self._is_found(self._hearing, (data[start + 9 : end],)):
            return words.quiet_notification(data, start, end)
        return None

    def _is_found(self, coverage: Coverage | None, texts: Iterable[bytes]) -> bool:
        return coverage is not None and any(coverage.finds(text) for text in texts)
