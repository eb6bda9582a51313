"""Narrows what the gateway's process gives away: no core dumps, not dumpable, private files."""

import ctypes
import os
import resource
import sys

_PR_SET_DUMPABLE = 4


def confine() -> None:
    """Forbid core dumps and the reading of this process's memory by others of the same user; new files are private."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        # Without this, /proc/PID/mem and /proc/PID/environ show credentials to every process of the same user.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 65536, hard))
