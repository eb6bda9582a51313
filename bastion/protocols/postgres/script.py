"""Runs statements and files without a terminal, and ends with psql's exit statuses."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from bastion.protocols.clientside import ConnectRequest, Step
from bastion.protocols.postgres import slash
from bastion.protocols.postgres.conversation import Conversation, Failed, Lost
from bastion.protocols.postgres.listing import Rows, Style, as_json, harmless, listed
from bastion.protocols.postgres.outcomes import EXPIRED, Message
from bastion.protocols.postgres.splitting import Command, Splitter, Statement

DONE, FAILED, LOST, STOPPED, EXPIRED_STATUS, DENIED, INTERRUPTED = 0, 1, 2, 3, 124, 126, 130
_DEEPEST = 20
"""How far files may include one another."""


def run(request: ConnectRequest) -> int:
    """Run every step over one connection; return the exit status."""
    script = Script(request)
    try:
        status = script.run(request.steps)
    except Lost as lost:
        script.tell_lost(str(lost))
        status = LOST
    except KeyboardInterrupt:
        request.printer.say("cancelled")
        status = INTERRUPTED
    finally:
        script.close()
    script.print_document()
    return status


class Script:
    """The state that statements and backslash commands of one run share."""

    def __init__(self, request: ConnectRequest) -> None:
        self.printer = request.printer
        self.style = Style(request.form, request.tuples_only, plain=not request.printer.terminal)
        self.stop_on_error = request.stop_on_error
        self._once = request.once
        self._target = request.address.target
        self._address = request.address
        self._conversation: Conversation | None = None
        self._document: list[dict[str, object]] = []
        self._notices: list[dict[str, object]] = []
        self._copy: list[str] = []
        self._is_output = False
        """Whether the data of a COPY was printed, behind which its tag would look like more of it."""
        self._ruling = DONE
        self._depth = 0
        self._where = ""
        self._data: Callable[[], Iterable[bytes]] = _standard_input

    @property
    def conversation(self) -> Conversation:
        """The connection, opened when the first statement needs it."""
        if self._conversation is None:
            self._conversation = Conversation(self._address, self._noticed)
        return self._conversation

    def close(self) -> None:
        """Hang up."""
        if self._conversation is not None:
            self._conversation.close()

    def run(self, steps: Iterable[Step]) -> int:
        """Run steps one after the other; the last one's outcome is the exit status, unless one stops the rest."""
        status = DONE
        # A target that can't be reached is worth saying before a long file is read.
        _ = self.conversation
        for step in steps:
            status = self._file(step.path) if step.path else self._command(step.text)
            if status != DONE and (self.stop_on_error or self._once):
                break
        return self._ruling or status if self._once else status

    def _command(self, text: str) -> int:
        """Run what was given on the command line: one backslash command, or a text that is sent as it is."""
        self._where, self._data = "", _standard_input
        try:
            if text.lstrip().startswith("\\"):
                return DONE if slash.run(self, text.strip(), "") else FAILED
            return DONE if self.execute(text) else FAILED
        except slash.Quit:
            return DONE

    def _file(self, path: str) -> int:
        try:
            ok = self.include(path)
        except slash.Quit:
            return DONE
        except OSError as error:
            self.printer.say(f"{path}: {error.strerror}")
            return FAILED
        return DONE if ok or not self.stop_on_error else STOPPED

    def include(self, path: str) -> bool:
        """Run a file; tell whether everything in it went well. Raises `OSError` when it can't be read."""
        if self._depth >= _DEEPEST:
            self.printer.say(f"{path}: files include one another more than {_DEEPEST} deep")
            return False
        self._depth += 1
        kept = self._where, self._data
        try:
            if path == "-":
                return self._lines(sys.stdin.buffer, "<stdin>")
            with Path(path).expanduser().open("rb") as file:
                return self._lines(file, path)
        finally:
            self._depth -= 1
            self._where, self._data = kept

    def _lines(self, file: IO[bytes], name: str) -> bool:
        splitter, ok = Splitter(), True
        self._data = lambda: _inline(file)
        for number, raw in enumerate(file, start=1):
            self._where = f"{name}:{number}: "
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")
            for piece in splitter.feed(text):
                ok = self._piece(piece, splitter) and ok
                if not ok and self.stop_on_error:
                    return False
        if (rest := splitter.finish()) is not None:
            ok = self.execute(rest.text) and ok
        return ok

    def _piece(self, piece: Statement | Command, splitter: Splitter) -> bool:
        if isinstance(piece, Statement):
            return self.execute(piece.text)
        if piece.pending and slash.consumes(piece.text):
            splitter.forget()
        return slash.run(self, piece.text, piece.pending)

    def execute(
        self,
        text: str,
        *,
        style: Style | None = None,
        sink: Callable[[bytes], None] | None = None,
        source: Callable[[], Iterable[bytes]] | None = None,
    ) -> bool:
        """Run one text and print what comes back; tell whether it went well. Raises `Lost`."""
        began = time.monotonic()
        try:
            text.encode()
        except UnicodeEncodeError:
            self.printer.say(f"{self._where}ERROR:  the statement is not UTF-8")
            return False
        try:
            for rows in self.conversation.run(text, source or self._data, sink or self._copied):
                self.show(rows, style or self.style)
        except Failed as failed:
            self._failed(failed.message)
            return False
        finally:
            if self.style.timing:
                self.printer.write(f"Time: {(time.monotonic() - began) * 1000:.3f} ms\n")
        return True

    def show(self, rows: Rows, style: Style) -> None:
        """Print one result, or keep it for the document."""
        if style.form == "json":
            copied = {"copied": "".join(self._copy)} if self._copy else {}
            self._copy.clear()
            self._document.append(as_json(rows) | copied)
        elif rows.listed:
            for piece in listed(rows, style):
                self.printer.write(piece)
        elif rows.tag and not self._is_output:
            self.printer.write(rows.tag + "\n")
        self._is_output = False

    def _copied(self, data: bytes) -> None:
        """Print what a COPY sends, as it is to a program."""
        text = data.decode("utf-8", "replace")
        self._is_output = True
        if self.style.form == "json":
            self._copy.append(text)
        elif self.style.plain:
            self.printer.write_bytes(data)
        else:
            self.printer.write(harmless(text, lines=True))

    def _noticed(self, message: Message) -> None:
        self.printer.say(message.lines())
        self._notices.append({"severity": message.severity} | message.as_json())

    def _failed(self, message: Message) -> None:
        if denial := message.denial():
            self._ruling = EXPIRED_STATUS if denial[0] == EXPIRED else DENIED
        if self.style.form == "json":
            self._document.append({"error": message.as_json()})
        else:
            self.printer.say(self._where + message.lines())

    def complain(self, text: str) -> bool:
        """Say what is wrong with a backslash command."""
        self.printer.say(f"{self._where}{text}")
        return False

    def tell_lost(self, words: str) -> None:
        """Say that the connection could not be made, or is gone."""
        if self.style.form == "json":
            self._document.append({"error": {"sqlstate": "08006", "message": words}})
        else:
            self.printer.say(words)

    def print_document(self) -> None:
        """Print everything that was kept for a program."""
        if self.style.form == "json":
            document = {"target": self._target, "results": self._document, "notices": self._notices}
            self.printer.data(document)


def _standard_input() -> Iterator[bytes]:
    r"""Yield what a COPY reads from standard input; a line of `\.` ends it, as does the end."""
    return _inline(sys.stdin.buffer)


def _inline(file: IO[bytes]) -> Iterator[bytes]:
    for line in file:
        if line.rstrip(b"\r\n") == b"\\.":
            return
        yield line
