"""The tour: an engineer reads, asks for a change, is stopped; another approves; an auditor looks. All for real.

Each step runs the command line as somebody would type it, and is checked against what came of it: in the command's own
output, and in the database asked past the gateway.
"""

import json
import select
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from bastion.demo.accounts import AUDITOR, DBA, ENGINEER, Account
from bastion.demo.running import Running, Unexpected
from bastion.demo.stage import TARGET, Outcome, Stage, shown

READ = "select customers.id, name, email, card_number from customers join orders on customer_id = customers.id \
join payments on order_id = orders.id order by payments.id limit 3"
DISGUISED = "select reverse(ssn) as note, left(email, 12) from customers order by id limit 1"
DELETE = "delete from orders where status = 'abandoned' and placed_at < '2024-01-01'"
_DOOMED = DELETE.replace("delete", "select count(*)", 1)
DROP = "drop table customers"
REASON = "clean up abandoned carts of 2023"


class Screen(Protocol):
    """What the tour is told on: the command line's output."""

    def line(self, text: str = "") -> None:
        """Print one line."""
        ...

    def heading(self, text: str) -> None:
        """Print a line that begins a part."""
        ...

    def statement(self, text: str) -> None:
        """Print text in its own shape, set off from ours."""
        ...


class Tour:
    """Walks through the steps on a stage; each raises `Unexpected` when something did not happen as it should."""

    def __init__(self, stage: Stage, screen: Screen, *, attended: bool) -> None:
        """Prepare; `attended` waits for Enter before each step, and lets the person act in other terminals."""
        self._stage = stage
        self._screen = screen
        self._attended = attended
        self._number = 0
        self._said: list[Outcome] = []

    def walk(self) -> None:
        """Take every step in order."""
        for step in (self._log_in, self._read, self._change, self._destroy, self._audit):
            step()
        self._expect("the database's password appeared in no output", not self._leaked())

    def _log_in(self) -> None:
        self._step(
            "Ada, an engineer, logs in",
            "The gateway trusts an identity provider and knows nobody by itself. `login` shows a code; whoever "
            "confirms it in a browser, on any device, is logged in here.",
        )
        self._login(ENGINEER)
        seen = self._json(ENGINEER, "whoami", "--json")
        self._expect("the gateway sees ada, of the group engineers", seen["subject"] == ENGINEER.subject)
        self._expect("and reads her groups from the token", seen["groups"] == list(ENGINEER.groups))
        self._do(ENGINEER, "targets")
        offered = [t["name"] for t in self._json(ENGINEER, "targets", "--json")["targets"]]
        self._expect(f"{TARGET} is open to her", offered == [TARGET])

    def _read(self) -> None:
        self._step(
            "She reads",
            "The policy lets engineers read, and masks personal data. She has no password for the database: the "
            f"gateway holds it, and records what she does. `bastion connect {TARGET}` without -c opens a full session; "
            f"so does psql, see `bastion tunnel {TARGET}`.",
        )
        done = self._do(ENGINEER, "connect", TARGET, "-c", READ)
        rows = self._stage.database.query(READ)
        self._expect("the rows came from the database", done.status == 0 and all(str(r[1]) in done.out for r in rows))
        secret = [str(value) for row in rows for value in row[2:]]
        self._expect("without an address or a card number", not any(value in done.out for value in secret))
        self._expect("of which only the last digits show", all(str(r[3])[-4:] in done.out for r in rows))
        done = self._do(ENGINEER, "connect", TARGET, "-c", DISGUISED)
        ((note, start),) = self._stage.database.query(DISGUISED)
        hidden = str(note) not in done.out and str(start) not in done.out
        self._expect("however she asks for them", done.status == 0 and hidden)

    def _change(self) -> None:
        self._step(
            "She deletes, and is held",
            "A DELETE on production waits for a database administrator. Nothing has reached the database yet.",
        )
        database = self._stage.database
        ((doomed,),) = database.query(_DOOMED)
        asking = self._start(ENGINEER, "exec", TARGET, "--reason", REASON, "--", DELETE)
        try:
            request = asking.wait_for(r"bastion approve ([a-z0-9]+)")[1]
            ((left,),) = database.query(_DOOMED)
            self._expect(f"all {doomed} rows are still there", left == doomed)
            own = self._do(ENGINEER, "approve", request, "--yes")
            self._expect("she cannot approve it herself", own.status == 77)
            self._approve(asking, request)
            done = asking.finish()
            self._said.append(done)
        finally:
            asking.kill()
        ((left,),) = database.query(_DOOMED)
        settled = next(a for a in self._json(DBA, "approvals", "--all", "--json")["approvals"] if a["id"] == request)
        if self._attended and settled["state"] != "approved":
            self._expect(f"it was {settled['state']}, so nothing ran", done.status != 0 and left == doomed)
            return
        self._expect("it was approved by Bo", [v["voter"] for v in settled["votes"]] == [DBA.name])
        self._expect("then it ran, once", done.status == 0 and left == 0 and f"DELETE {doomed}" in done.out + done.err)

    def _approve(self, asking: Running, request: str) -> None:
        self._step(
            "Bo, a database administrator, looks and approves",
            "He sees the whole statement, who asks and why, and how many rows it would touch.",
            pause=False,
        )
        self._login(DBA)
        self._do(DBA, "approvals")
        waiting = [a["id"] for a in self._json(DBA, "approvals", "--json")["approvals"]]
        self._expect("he sees the request", waiting == [request])
        command = ("approve", request, "--yes", "--reason", "agreed with the shop team")
        if self._attended:
            self._screen.line("To decide yourself, open a second terminal and paste:")
            self._screen.statement(self._exports(DBA))
            self._screen.statement(f"bastion approve {request}")
            if not self._enter_or("Or press Enter here, and Bo approves. ", lambda: asking.ended):
                return
        done = self._do(DBA, *command)
        self._expect("his approval counts", done.status == 0)
        self._expect("he was shown what would run", DELETE in done.out and REASON in done.out)

    def _destroy(self) -> None:
        self._step(
            "She drops a table, and is stopped",
            "The policy denies it, so the database never sees it. To her client it is an ordinary error: the session "
            "goes on.",
        )
        done = self._do(ENGINEER, "exec", TARGET, "--", DROP)
        self._expect("the rule that denies it is named", done.status == 126 and "no-schema-changes" in done.err)
        done = self._do(ENGINEER, "connect", TARGET, "-c", DROP, "-c", "select 'still here' as session")
        self._expect("the session goes on after a denial", done.status == 0 and "still here" in done.out)
        ((found,),) = self._stage.database.query("select count(*) from customers")
        self._expect(f"the table is untouched, all {found} customers", found == 2000)

    def _audit(self) -> None:
        self._step(
            "Cleo, an auditor, looks at what was done",
            "Every statement, verdict, approval and result is recorded, chained by hashes and signed.",
        )
        self._login(AUDITOR)
        self._do(AUDITOR, "sessions")
        recorded = self._json(AUDITOR, "sessions", "--json")["sessions"]
        held = [s for s in recorded if s["subject"] == ENGINEER.subject and s["held"]]
        self._expect("Ada's session with the held statement is among them", len(held) == 1)
        session = held[0]["id"]
        story = self._do(AUDITOR, "show", session)
        told = (DELETE, "writes-need-a-dba", DBA.name, REASON)
        self._expect("it tells what ran, and who approved it", all(part in story.out for part in told))
        self._export(next(s["id"] for s in recorded if not s["held"] and not s["denied"]))
        done = self._do(AUDITOR, "verify", "--store", str(self._stage.state))
        self._expect("the recordings are unaltered", done.status == 0)

    def _export(self, session: str) -> None:
        file = self._stage.home / "gateway" / f"{session}.cast"
        done = self._do(AUDITOR, "export", session, "--format", "cast", "--output", str(file))
        self._expect("a session can be exported", done.status == 0)
        self._expect("and plays in asciinema", _is_cast(file))

    def _login(self, person: Account) -> None:
        """Log somebody in by the device flow, confirming the code as a browser would."""
        running = self._start(person, "login", "--no-browser")
        try:
            address = running.wait_for(r"(http://127\.0\.0\.1:\d+/activate)\?user_code=([A-Z]{4}-?[A-Z]{4})")
            offer = f"Open that address and choose {person.name}, or press Enter here and it is done for you. "
            if not self._attended or self._enter_or(offer, lambda: running.ended):
                _confirm(address[1], address[2], person)
            done = running.finish()
        finally:
            running.kill()
        self._expect(f"{person.name} is logged in", done.status == 0)

    def _step(self, title: str, explanation: str, *, pause: bool = True) -> None:
        self._number += 1
        self._screen.line()
        self._screen.heading(f"{self._number}. {title}")
        self._screen.line(explanation)
        if pause and self._attended:
            self._enter_or("Press Enter to go on. ", lambda: False)

    def _do(self, person: Account, *words: str) -> Outcome:
        """Run a command to its end, showing it and what it says."""
        self._announce(person, words)
        done = Running(shown(words), self._stage.start(person, *words), self._screen.statement).finish()
        self._said.append(done)
        return done

    def _start(self, person: Account, *words: str) -> Running:
        """Start a command that others run beside; what it says is marked as its own."""
        self._announce(person, words)
        show = self._screen.statement
        return Running(shown(words), self._stage.start(person, *words), lambda line: show(f"{person.subject}| {line}"))

    def _json(self, person: Account, *words: str) -> Any:
        """Return what a command prints for programs, without showing it."""
        done = self._stage.run(person, *words)
        self._said.append(done)
        if done.status != 0:
            raise Unexpected(f"`{done.command}` ended with status {done.status}: {done.err.strip()[-500:]}")
        return json.loads(done.out)

    def _announce(self, person: Account, words: Sequence[str]) -> None:
        self._screen.line()
        self._screen.heading(f"{person.subject}$ {shown(words)}")

    def _expect(self, promise: str, kept: bool) -> None:
        if not kept:
            last = self._said[-1] if self._said else None
            detail = f"; the last command was `{last.command}`, status {last.status}" if last else ""
            raise Unexpected(f"step {self._number} of the tour failed: {promise}{detail}")
        self._screen.line(f"  ✓ {promise}")

    def _leaked(self) -> bool:
        password = self._stage.database.password
        return any(password in text for done in self._said for text in (done.out, done.err))

    def _exports(self, person: Account) -> str:
        return exports(self._stage, person)

    def _enter_or(self, prompt: str, otherwise: Callable[[], bool]) -> bool:
        """Wait for Enter and return True, or for what may happen elsewhere and return False."""
        self._screen.line(prompt)
        while not otherwise():
            if select.select([sys.stdin], [], [], 0.2)[0]:
                if not sys.stdin.readline():
                    # Nobody is there to press anything.
                    raise KeyboardInterrupt
                return True
        return False


def exports(stage: Stage, person: Account) -> str:
    """Return the lines that make another terminal one of `person`."""
    bin_directory = Path(sys.executable).parent
    lines = [f"export {name}={value}" for name, value in stage.exports(person).items()]
    return "\n".join([f'export PATH="{bin_directory}:$PATH"', *lines])


def _confirm(address: str, code: str, person: Account) -> None:
    """Send the provider's form as a browser would."""
    form = urllib.parse.urlencode({"user_code": code, "account": person.subject, "answer": "allow"})
    # The provider is on this machine; a proxy for the web has nothing to do with it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, form.encode(), timeout=30) as answer:
        if answer.status != 200:
            raise Unexpected(f"the provider's page answered {answer.status}")


def _is_cast(path: Path) -> bool:
    """Tell whether a file is an asciicast of version 2 that shows something."""
    header, *events = [json.loads(line) for line in path.read_text().splitlines()]
    times = [event[0] for event in events]
    return header["version"] == 2 and bool(events) and times == sorted(times) and {e[1] for e in events} <= set("or")
