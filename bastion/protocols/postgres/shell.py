"""The conversation on a terminal: pgcli, pointed at the session's endpoint, with its ways of going around it shut.

What pgcli would keep it keeps in a private directory of ours; what a target sends is made harmless before it is drawn;
and a notice appears the moment it comes, because the one that says that a statement is held comes long before the
statement ends.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from pgcli.config import get_config
from pgcli.main import PGCli
from pgcli.pgexecute import PGExecute
from psycopg.types.string import TextLoader

from bastion.protocols.clientside import ConnectRequest
from bastion.protocols.postgres.conversation import message, parameters
from bastion.protocols.postgres.listing import harmless

_TEXTS = (
    "text",
    "varchar",
    "bpchar",
    "name",
    "json",
    "jsonb",
    "xml",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "bytea",
    "refcursor",
    "jsonpath",
)
_UNKNOWN_OID = 705
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RED, _END = "\x1b[31m", "\x1b[0m"
_PROMPT = "{target}\\T> "


def converse(request: ConnectRequest) -> int:
    """Hold a conversation on the terminal; return the exit status."""
    os.umask(0o077)
    home = request.data_dir
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    Executor.say = staticmethod(request.printer.say)
    values = parameters(request.address, "bastion")
    try:
        executor = Executor(
            values.pop("dbname"), values.pop("user"), None, values.pop("host"), values.pop("port"), **values
        )
    except psycopg.OperationalError as error:
        request.printer.say(harmless(str(error).strip(), lines=True))
        return 2
    shell = Shell(executor, home, request.address.target)
    _private_file(home / "history")
    shell.run_cli()
    return 0


class HarmlessLoader(TextLoader):
    """Loads text with what would act on a terminal written out."""

    def load(self, data: Any) -> Any:
        """Return the text; line ends stay."""
        found = super().load(data)
        return harmless(found, lines=True) if isinstance(found, str) else harmless(bytes(found).decode(), lines=True)


class Executor(PGExecute):  # type: ignore[misc]  # pgcli has no types
    """pgcli's connection, with notices shown at once and text made harmless."""

    say: ClassVar[Any] = None

    def connect(self, *given: Any, **named: Any) -> None:
        """Connect, or connect again."""
        with _harmless_errors():
            super().connect(*given, **named)
        self.conn.add_notice_handler(self._noticed)
        for name in _TEXTS:
            self.conn.adapters.register_loader(name, HarmlessLoader)
        # `unknown`, and what psycopg has never heard of, a target's own enumerations among them, load as text too.
        for oid in (_UNKNOWN_OID, 0):
            self.conn.adapters.register_loader(oid, HarmlessLoader)

    def run(
        self,
        statement: str,
        pgspecial: Any = None,
        exception_formatter: Any = None,
        on_error_resume: bool = False,
        explain_mode: bool = False,
    ) -> Iterator[Any]:
        """Run statements. What a target's errors say is made harmless before pgcli prints it."""
        told = exception_formatter and (lambda error: _red(harmless(_plain(exception_formatter(error)), lines=True)))
        with _harmless_errors():
            yield from super().run(statement, pgspecial, told, on_error_resume, explain_mode)

    def execute_normal_sql(self, split_sql: str) -> tuple[str, Any, Any, str]:
        """Run one statement. pgcli's own collects notices until the statement has ended, which is too late."""
        cursor = self.conn.cursor()
        cursor.execute(split_sql)
        status = cursor.statusmessage or ""
        if cursor.description:
            return "", cursor, [harmless(column.name) for column in cursor.description], status
        return "", None, None, status

    def _noticed(self, diagnostic: Any) -> None:
        self.say(message(diagnostic).lines())


class Shell(PGCli):  # type: ignore[misc]  # pgcli has no types
    """pgcli with our defaults, our directory, and no way to other servers."""

    def __init__(self, executor: Executor, home: Path, target: str) -> None:
        config = home / "pgcli.conf"
        _configure(config, home)
        super().__init__(
            pgexecute=executor,
            pgclirc_file=os.fspath(config),
            application_name="bastion",
            less_chatty=True,
            prompt=_PROMPT.format(target=target),
            warn="false",
            never_passwd_prompt=True,
        )

    def change_db(self, pattern: str, **_: Any) -> Any:
        """Connect again: a session leads to one target, and its database belongs to the target."""
        if pattern.strip() not in ("", self.pgexecute.dbname):
            yield (None, None, None, "A session stays at its target; `bastion connect` opens one at another.")
            return
        self.pgexecute.connect()
        yield (None, None, None, f"You are connected to {self.pgexecute.dbname} again, in a new session.")

    def echo_via_pager(self, text: str, color: Any = None) -> None:
        """Show output, with nothing left in it that acts but colours."""
        super().echo_via_pager(_drawn(text), color)


@contextlib.contextmanager
def _harmless_errors() -> Iterator[None]:
    """Replace an error by one of its own class whose words can be printed as they are."""
    try:
        yield
    except psycopg.Error as error:
        raise type(error)(harmless(str(error), lines=True)) from error


def _plain(text: str) -> str:
    """Return what pgcli makes of an error without the colour that it puts around it."""
    return text.removeprefix(_RED).removesuffix(_END)


def _red(text: str) -> str:
    return f"{_RED}{text}{_END}"


def _drawn(text: str) -> str:
    """Return output of pgcli's formatters with every escape but its colours written out."""
    at, parts = 0, []
    for colour in _COLOUR.finditer(text):
        parts += [harmless(text[at : colour.start()], lines=True), colour.group()]
        at = colour.end()
    return "".join([*parts, harmless(text[at:], lines=True)])


def _configure(path: Path, home: Path) -> None:
    """Write pgcli's configuration the first time; after that it is the person's to change."""
    if path.exists():
        return
    config = get_config(os.fspath(path))
    main = config["main"]
    main["history_file"] = os.fspath(home / "history")
    main["log_file"] = os.fspath(home / "pgcli.log")
    # Its log would hold statements and errors: the recording is the gateway's.
    main["log_level"] = "NONE"
    main["keyring"] = "False"
    main["multi_line"] = "True"
    main["destructive_warning"] = ""
    main["less_chatty"] = "True"
    main["enable_pager"] = "True"
    main["auto_expand"] = "True"
    main["timing"] = "False"
    # What was under way when a connection broke may have happened: only the person can know whether to repeat it.
    main["auto_retry_closed_connection"] = "False"
    main["max_field_width"] = ""
    main["row_limit"] = "0"
    config.filename = os.fspath(path)
    config.write()


def _private_file(path: Path) -> None:
    """Make a file that its owner alone can read, also of one that an older umask left open."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    os.close(fd)
