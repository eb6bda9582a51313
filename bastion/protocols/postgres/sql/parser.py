"""PostgreSQL's own parser; but for short texts in a thread whose stack no statement within our bounds can exhaust.

The library answers with a JSON tree; reading that is several times faster than its protocol buffers and fails
cleanly where those fail at some forty levels of nesting. Everything but a clean answer is "not understood".
"""

import ctypes
import queue
import threading
from typing import Any, TypeAlias

import orjson
from postgast.native import lib

from bastion.protocols.postgres.sql.guard import Fault

Node: TypeAlias = dict[str, Any]

_STACK_BYTES = 512 * 1024 * 1024
"""Address space, not memory: pages are used only as deep as a statement goes. A chain of operators as long as
`guard.MAX_BYTES` allows was parsed in a fraction of it."""
ON_THE_SPOT = 1024
"""Bytes of text that any thread's stack has room for: the deepest of that length take less than 128 kB, and the
smallest default is 512. Below this, the way to another thread and back would cost more than the parsing."""
_LIBRARY = 180004
"""The grammar that the analysis was written against; another one may hold nodes that we would not know to refuse."""


class NotParsed(Exception):
    """The text was not understood; carries what the client is told."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Parser:
    """Parses one long text at a time. Its thread starts with the first and lives as long as the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[Node] | Fault] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def parse(self, text: bytes) -> list[Node]:
        """Return the raw statements of `text`, which the guard has let through. Raises `NotParsed`."""
        if len(text) <= ON_THE_SPOT:
            answer = _answer(text)
        else:
            with self._lock:
                if self._thread is None:
                    self._thread = self._started()
                self._asked.put(text)
                answer = self._answers.get()
        if isinstance(answer, Fault):
            raise NotParsed(answer)
        return answer

    def _started(self) -> threading.Thread:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=self._work, name="sql-parser", daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
        return thread

    def _work(self) -> None:
        while True:
            self._answers.put(_answer(self._asked.get()))


def _answer(text: bytes) -> list[Node] | Fault:
    try:
        return _parsed(text)
    except Exception:  # an answer is owed; anything unexpected is "not understood"
        return Fault("54001", "statement is too complex to be read")


def _parsed(text: bytes) -> list[Node] | Fault:
    result = lib.pg_query_parse(text)
    try:
        if result.error:
            error = result.error.contents
            return Fault("42601", _unquoted(error.message or b""), max(error.cursorpos, 0))
        tree = orjson.loads(ctypes.string_at(result.parse_tree))
    except orjson.JSONDecodeError:
        return Fault("54001", "statement is nested too deeply to be read")
    finally:
        lib.pg_query_free_parse_result(result)
    if tree["version"] != _LIBRARY:
        return Fault("58000", "the installed parser is not the one this analysis was written for")
    stmts: list[Node] = tree["stmts"]
    return stmts


def _unquoted(message: bytes) -> str:
    """Return the parser's message without the piece of the statement that it may quote: it may be a secret."""
    words = message.decode(errors="replace").partition(" at or near ")[0].partition(" at end of input")[0]
    return words if words and '"' not in words else "syntax error"
