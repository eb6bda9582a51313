"""What becomes of a bug: an error whose text gives nothing away, and a place in the log."""

import logging
import traceback

from bastion.errors import BastionError

_log = logging.getLogger("bastion")


def bug(error: BaseException, where: str) -> BastionError:
    """Return a bug as an error for others; log where it is, not what it says: that may be somebody's data."""
    _log.error("%s in %s:\n%s", type(error).__name__, where, "".join(traceback.format_tb(error.__traceback__)))
    return BastionError(f"internal error ({type(error).__name__}) in {where}", hint="see the gateway's log")
