"""Writes the manual pages in man/ from the code: `python -m tests.man`; `--check` only tells if they are current."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from bastion.config import CredentialModel, IdentityModel, LimitsModel, TargetModel
from bastion.masking.detectors import NAMES
from bastion.policy.schema import (
    ApprovalModel,
    AuditorsModel,
    CoverModel,
    MaskModel,
    PartialModel,
    RuleModel,
    WhereModel,
    WhoModel,
)
from bastion.protocols.contract import installed
from tests.kit import manual
from tests.kit.roff import Page

FOLDER = Path(__file__).parent.parent / "man"
EXIT_STATUSES = {
    0: "Done.",
    1: "Failed.",
    2: "The command line could not be understood.",
    65: "A recording does not match its hash chain or a signature.",
    69: "The gateway, the target or the identity provider could not be reached, or was not what it should be.",
    74: "The recording cannot be written, so nothing may run.",
    76: "A peer broke its protocol.",
    77: "No identity was proven, or it may not do this.",
    78: "The configuration or the policy is wrong.",
    124: "`exec`: nobody approved in time.",
    126: "`exec`: the policy denied it.",
}
ENVIRONMENT = {
    "BASTION_CONFIG": "The configuration file of the gateway.",
    "BASTION_GATEWAY_USER": "The unix user that the gateway may run as, beside yourself; `bastion` unless set. A "
    "gateway of any other user is not trusted.",
    "BASTION_RUNTIME_DIR": "The private directory of the gateway's sockets.",
    "BASTION_STATE_DIR": "Where things are kept: the gateway's recordings, keys and secrets, and your own login.",
    "BASTION_TOKEN": "A bearer token to use in place of the login, for a job or a machine.",
    "NO_COLOR": "Set to anything, it has the output without colours.",
    "XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_RUNTIME_DIR, XDG_STATE_HOME": "Where the "
    " directories below lie when the variables above are not set.",
}
FILES = {
    "~/.config/bastion/bastion.yaml, /etc/bastion/bastion.yaml": "The gateway's configuration; the first that exists. "
    "The gateway reads it, and the policy, only where nobody but root and its own user can have written them.",
    "policy.yaml": "The policy, beside the configuration unless that names another file or a directory.",
    "~/.local/state/bastion": "Recordings, keys, secrets and your login.",
    "$XDG_RUNTIME_DIR/bastion, ~/.local/state/bastion/run": "The gateway's sockets.",
    "~/.local/share/bastion": "The history of `connect`.",
}
CONFIGURATION = """
identity:
  issuer: https://login.example.com
  client_id: bastion-cli
  audience: bastion
targets:
  prod-db:
    protocol: postgres
    address: db.internal:5432
    database: app
    user: app_rw
    credential: {secret: prod-db}
    tls: {mode: verify-full, ca: /etc/bastion/db-ca.pem}
    labels: {env: prod}
policy: policy.yaml
"""
POLICY = """
version: 1
auditors: {groups: [auditors]}
rules:
  - name: engineers-read
    effect: allow
    who: {groups: [engineers]}
    where: {targets: [prod-db]}
    sql: {access: read}
  - name: writes-need-a-dba
    effect: hold
    who: {groups: [engineers]}
    where: {labels: {env: prod}}
    sql: {verbs: [insert, update, delete, merge]}
    approval: {by: [dba], votes: 1, expires: 15m}
  - name: no-schema-changes
    effect: deny
    where: {labels: {env: prod}}
    sql: {verbs: [create, alter, drop, truncate, grant, revoke]}
    reason: Schema changes go through migrations.
masks:
  - name: personal-data
    where: {targets: [prod-db]}
    columns: [public.users.email, public.users.ssn, "billing.*.card_number"]
    cover: partial
    unless: {groups: [pii-readers]}
    approval: {by: [dba]}
  - name: whatever-looks-like-it
    detect: [payment_card, us_ssn]
    cover: full
"""
MASKING = """
A mask follows its columns wherever they go: under another name, through joins, subqueries, views, partitions,
cursors, prepared statements and COPY, in text and in binary. A column that is shown as it is has the mask's cover;
whatever is computed from one is covered whole, NULL included. What cannot be traced is refused, with the column and
the reason.

Of several masks on one column the one that shows least counts. A covered value is valid for its type: stars for text,
0 for a number, 1900-01-01 for a date, an array of one covered element; NULL where no other value is sure to be valid,
as for enums and composite types. `hash` has digests for text, whole numbers, uuid and bytea, the same for the same
value within one session; `partial` has a form for text, JSON strings and uuid. Other types have the full cover.

A comparison for equality with a value of the user's own is not held; it tells him whether he guessed right. Every
other way in which the outcome depends on a column goes by `predicates`: more than eight such guesses in one
statement, other comparisons, ORDER BY, GROUP BY, DISTINCT ON, joins, CASE conditions, casts that fail by the value,
functions that are not known only to show it. Whether a bare column is NULL, and how many rows there are, stays
visible. A masked value is never written to where it would not be masked.

While a statement is in reach of a mask, and to the end of its transaction, the target's errors and notices come
without the words that could quote a value, and notifications without their payload. That a statement failed stays
visible: writing a value into a column that is masked and unique tells whether it is there already.

What the owner of a table makes it do is not followed: a trigger or a default that copies a value elsewhere, a row of
the table stored in a column of its row type. Mask what it is copied to as well.

Detectors read text, JSON and arrays of text, not numbers, and find what stands there as such: a value that is split,
encoded or spelled otherwise is not found. Columns that are known to hold such values belong in `columns`.

When masks come to name other columns of a target, its sessions end and new ones go by the new masks. When the target
no longer has a column that a mask names, its sessions end, and none begins until the policy names what is there.
"""


def pages() -> dict[str, str]:
    """Return every page by its file's name."""
    made = [_overview(), *_commands(), _configuration(), _policy()]
    return {page.file: page.finished() for page in made}


def stale() -> list[str]:
    """Return what is wrong with the folder, one line each; nothing when it is current."""
    wanted = pages()
    there = {path.name: path.read_text() for path in FOLDER.iterdir()} if FOLDER.is_dir() else {}
    missing = [f"man/{name} is not what the code says" for name in wanted if there.get(name) != wanted[name]]
    return missing + [f"man/{name} describes nothing that exists" for name in there if name not in wanted]


def _complaints() -> int:
    """Have mandoc read every page; return its status and let it print what it does not like."""
    command = ["mandoc", "-T", "lint", "-W", "warning", *map(str, sorted(FOLDER.iterdir()))]
    return subprocess.run(command, check=False).returncode


def _overview() -> Page:
    page = Page("bastion", 1, manual.first_line(manual.ROOT))
    page.section("SYNOPSIS")
    page.line("\\fBbastion\\fR \\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]")
    page.section("DESCRIPTION")
    page.text(manual.rest(manual.ROOT))
    page.section("COMMANDS")
    page.entries((f"`bastion-{name}`(1)", command.help.splitlines()[0]) for name, command in _all())
    page.section("OPTIONS")
    page.entries(manual.options(manual.ROOT))
    page.section("EXIT STATUS")
    page.entries((f"`{number}`", meaning) for number, meaning in EXIT_STATUSES.items())
    page.paragraph("`connect` with `-c`, `-f` or a pipe exits as psql does.")
    page.section("ENVIRONMENT")
    page.entries((f"`{name}`", meaning) for name, meaning in ENVIRONMENT.items())
    page.section("FILES")
    page.entries((f"*{name}*", meaning) for name, meaning in FILES.items())
    _see_also(page, ["bastion.yaml(5)", "bastion-policy(5)"])
    return page


def _commands() -> Iterator[Page]:
    for name, command in _all():
        page = Page(f"bastion-{name}", 1, manual.first_line(command))
        page.section("SYNOPSIS")
        page.line(f"\\fBbastion {name}\\fR {manual.usage(command)}".rstrip())
        if said := manual.rest(command):
            page.section("DESCRIPTION")
            page.text(said)
        _parameters(page, command)
        parts = list(manual.subcommands(command))
        if parts:
            page.section("COMMANDS")
        for below, part in parts:
            page.subsection(f"bastion {name} {below}")
            page.line(f"\\fBbastion {name} {below}\\fR {manual.usage(part)}".rstrip())
            page.paragraph(part.help)
            page.entries([*manual.arguments(part), *manual.options(part)])
        _see_also(page, ["bastion(1)"])
        yield page


def _parameters(page: Page, command: manual.Command) -> None:
    if found := manual.arguments(command):
        page.section("ARGUMENTS")
        page.entries(found)
    if found := manual.options(command):
        page.section("OPTIONS")
        page.entries(found)


def _configuration() -> Page:
    page = Page("bastion.yaml", 5, "the configuration of the gateway")
    page.section("DESCRIPTION")
    page.text(
        "Names the identity provider that vouches for people and machines, and the targets that they reach. It holds "
        "no secret: a target's credential is named by where it comes from. A key that is not known is a mistake, and "
        "a configuration with a mistake does not load. `bastion gateway reload` reads it again."
    )
    page.section("TOP LEVEL")
    page.entries(
        [
            ("`identity`", "Who vouches for people and machines: a mapping, needed; see below."),
            ("`targets`", "The targets by name: a mapping, needed; see below."),
            (
                "`policy`",
                "The policy: a file, or a directory of which all `*.yaml` count; beside this file unless it "
                "is an absolute path. `policy.yaml` unless given. See `bastion-policy`(5).",
            ),
            ("`limits`", "How much the gateway holds at once: a mapping; see below."),
        ]
    )
    _model(page, "identity", IdentityModel)
    _model(page, "targets.NAME", TargetModel)
    _model(page, "targets.NAME.credential", CredentialModel)
    for spec in installed().values():
        _model(page, f"targets.NAME, with protocol: {spec.name}", spec.options, below="targets.NAME")
    _model(page, "limits", LimitsModel)
    page.section("EXAMPLE")
    page.example(CONFIGURATION)
    _see_also(page, ["bastion(1)", "bastion-gateway(1)", "bastion-secret(1)", "bastion-policy(5)"])
    return page


def _policy() -> Page:
    page = Page("bastion-policy", 5, "the policy of the gateway")
    page.section("DESCRIPTION")
    page.text(
        "Rules that say who may do what where. Each effect of an action is judged: a matching rule that denies denies "
        "the action; else one that holds has it wait for approval; and every effect has to be covered by a rule that "
        "allows or holds, or the action is denied. The order of rules never matters. A policy with a mistake does not "
        "load: `bastion policy check` says where it is, and `bastion policy explain` why a statement "
        "is judged as it is."
    )
    page.section("TOP LEVEL")
    page.entries(
        [
            ("`version`", "The number 1, needed."),
            ("`rules`", "A list of rules, needed; see below."),
            ("`masks`", "A list of masks: what is covered in what comes back; see below."),
            ("`auditors`", "Who may read every recording: a mapping; see below. Everybody may read their own."),
        ]
    )
    _model(page, "rules[]", RuleModel)
    for name, model in (("who", WhoModel), ("where", WhereModel), ("approval", ApprovalModel)):
        _model(page, f"rules[].{name}", model, nest=False)
    for spec in installed().values():
        for name, clause in spec.clauses.items():
            _model(page, f"rules[].{name}, for protocol {spec.name}", clause)
    _model(page, "masks[]", MaskModel)
    _model(page, "masks[].cover, where it takes a value", CoverModel)
    _model(page, "masks[].cover.partial", PartialModel)
    page.section("masks[].detect")
    page.entries((f"`{name}`", about) for name, about in NAMES.items())
    page.section("MASKING")
    page.text(MASKING)
    _model(page, "auditors", AuditorsModel)
    page.section("EXAMPLE")
    page.example(POLICY)
    _see_also(page, ["bastion(1)", "bastion-policy(1)", "bastion.yaml(5)"])
    return page


def _model(page: Page, title: str, model: type[BaseModel], *, below: str = "", nest: bool = True) -> None:
    """Write the keys of a model, and those of the models that only it has below its own."""
    page.section(title)
    if model.__doc__:
        page.text(model.__doc__)
    found = list(manual.fields(model))
    page.entries((f"`{name}` ({manual.described(info)})", said) for name, info, said in found)
    for name, info, _ in found:
        part = manual.nested(info)
        if nest and part is not None and below:
            _model(page, f"{below}.{name}", part)


def _all() -> Iterator[tuple[str, manual.Command]]:
    return manual.subcommands(manual.ROOT)


def _see_also(page: Page, names: Iterable[str]) -> None:
    page.section("SEE ALSO")
    page.line(", ".join(f"\\fB{name[:-3]}\\fR{name[-3:]}".replace("-", "\\-") for name in names))


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    if arguments == ["--check"]:
        problems = stale()
        sys.stderr.writelines(f"{line}; `python -m tests.man` writes it\n" for line in problems)
        return bool(problems) or _complaints()
    FOLDER.mkdir(exist_ok=True)
    wanted = pages()
    for path in FOLDER.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
