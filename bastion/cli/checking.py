"""Checks configuration and policy the way the gateway does when it loads them."""

import os
from pathlib import Path

from bastion.config import clauses, kinds_of_mask, load
from bastion.errors import UsageError
from bastion.paths import config_file
from bastion.policy import document
from bastion.policy.marks import Problem, Problems

Found = dict[str, object]


def checked(path: Path | None) -> tuple[list[Found], int]:
    """Return every mistake in the configuration and its policy, or the one at `path`; and its rules and masks, counted.

    Raises `ConfigError` or `UsageError` for a file that cannot be read.
    """
    try:
        config = load(config_file(), os.environ)
    except Problems as problems:
        return [_told(problem) for problem in problems.found], 0
    try:
        policy = document.load(path or config.policy_path, clauses(), config.targets, kinds=kinds_of_mask())
    except Problems as problems:
        return [_told(problem) for problem in problems.found], 0
    except OSError as error:
        raise UsageError(f"{path or config.policy_path} cannot be read: {error.strerror}") from error
    return [], len(policy.rules) + len(policy.masks)


def _told(problem: Problem) -> Found:
    return {
        "file": problem.place.file,
        "line": problem.place.line,
        "column": problem.place.column,
        "key": problem.path,
        "expected": problem.expected,
        "found": problem.found,
        "hint": problem.hint,
        "text": str(problem),
    }
