"""How the catalog that a session's texts are read by stands to the one that the target will use for them.

Most sessions go by a catalog that all of their database and role share. It does not tell what the session's open
transaction has changed, nor what is temporary; then the session has one of its own, until nothing is left of either.
"""

import enum

from bastion.protocols.postgres.answers import FAILED, IDLE
from bastion.protocols.postgres.sql.building import Sight


class Need(enum.Enum):
    """What has to be found out before a text may be read."""

    NOTHING = enum.auto()
    """What there is holds, or no better can be had now."""
    SIGHT = enum.auto()
    """Over the session's connection: whether anything temporary has changed."""
    OWN = enum.auto()
    """Over the session's connection: the whole catalog."""
    SHARED = enum.auto()
    """The catalog that all share."""


class View:
    """Takes note of what may have changed, and tells what follows."""

    def __init__(self) -> None:
        self.is_stale = False
        """Whether the session itself may have changed what is not in the catalog that was read."""
        self.is_own = False
        """Whether that catalog is the session's own."""
        self.epoch = 0
        """Grows with everything that the session may have changed."""
        self.is_blocked = False
        """Whether the shared catalog could not be read for a lock, which may be one of this session's own."""
        self._is_stirred = False
        self._stirred_before = False
        self._uncommitted = False
        self._has_looked = False
        self._is_blind = False
        self._contents = ""

    @property
    def is_in_doubt(self) -> bool:
        """Whether the session has done anything that the catalog may not know of."""
        return self.is_stale or self._is_stirred

    def changed(self) -> None:
        """Take note that a statement may change the catalog."""
        self.is_stale = self._uncommitted = True
        self._has_looked = False
        self.epoch += 1

    def stirred(self) -> None:
        """Take note that a function may make what is temporary."""
        self._is_stirred = self._stirred_before = True
        self._has_looked = False

    def went_back(self) -> None:
        """Take note of the end of a transaction, or of a part of it that is undone: then changes may be undone."""
        if self._uncommitted:
            self.changed()
        if self._stirred_before:
            self.stirred()

    def need(self, status: int, *, outdated: bool) -> Need:
        """Return what a text needs that is read while the transaction's status is `status` and nothing is under way.

        `outdated` tells whether others may have changed what was read.
        """
        if status == FAILED:
            return Need.NOTHING
        if status == IDLE:
            self._is_blind = False
            if self.is_in_doubt and not self._has_looked:
                return Need.SIGHT
            if self.is_stale or outdated:
                return Need.OWN if self._contents or self.is_blocked else Need.SHARED
            return Need.NOTHING
        if self.is_stale:
            return Need.NOTHING if self._is_blind else Need.OWN
        if self._is_stirred:
            return Need.SIGHT
        if outdated:
            return Need.OWN if self.is_own or self.is_blocked else Need.SHARED
        return Need.NOTHING

    def saw(self, sight: Sight, status: int) -> None:
        """Take the answer to a look at what is temporary."""
        self._is_stirred = False
        self._has_looked = True
        if sight.contents != self._contents:
            self.changed()
            self._contents = sight.contents
            self._has_looked = True
        if status == IDLE:
            self._stirred_before = False
            # With nothing temporary left, and nothing uncommitted, there is no more that others do not see.
            self.is_stale |= self.is_own and not sight.contents

    def can_see(self, sight: Sight, status: int) -> bool:
        """Tell whether a catalog that the session has read is the one that the target goes by.

        Names are looked up in what is committed by then. The queries of a transaction of repeatable read are not.
        """
        self._is_blind = status != IDLE and not sight.is_current
        self.is_stale |= self._is_blind
        return not self._is_blind

    def took_own(self, sight: Sight, status: int) -> None:
        """Take note that the session goes by a catalog of its own now."""
        self.is_own = True
        self._contents = sight.contents
        self._settled(status)

    def took_shared(self, status: int) -> None:
        """Take note that the session goes by the shared catalog again."""
        self.is_own = False
        self._contents = ""
        self._settled(status)

    def _settled(self, status: int) -> None:
        self.is_stale = self._is_stirred = self.is_blocked = False
        if status == IDLE:
            self._uncommitted = self._stirred_before = False
