"""Tells whether the set-up of this user holds together, from what can be looked at without a target."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

from bastion.cli.output import OUT
from bastion.errors import BastionError
from bastion.paths import config_file, runtime_dir, state_dir

if TYPE_CHECKING:
    from bastion.store.reader import SessionRow


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    said: str
    wrong: bool = False
    hint: str = ""


def tell_health(*, as_json: bool) -> int:
    """Print what was found and return the exit status: 1 where something is wrong."""
    found = list(findings())
    wrong = [one for one in found if one.wrong]
    if as_json:
        told = [{"what": f.what, "ok": not f.wrong, "found": f.said, "hint": f.hint} for f in found]
        OUT.data({"ok": not wrong, "findings": told})
        return 1 if wrong else 0
    OUT.fields((one.what, f"{'WRONG: ' if one.wrong else ''}{one.said}") for one in found)
    for one in wrong:
        if one.hint:
            OUT.say(f"{one.what}: {one.hint}")
    return 1 if wrong else 0


def findings() -> Iterator[Finding]:
    """Yield what there is to say of each part."""
    yield _program("program")
    yield _looked_at("configuration", _configuration)
    yield _looked_at("gateway", _gateway)
    yield _looked_at("recordings", _recordings)
    yield _looked_at("login", _login)


def _looked_at(what: str, look: Callable[[str], Finding]) -> Finding:
    try:
        return look(what)
    except BastionError as error:
        return Finding(what, error.message, wrong=True, hint=error.hint)


def _program(what: str) -> Finding:
    import bastion

    # Python prefers a module's compiled form, if that is made for it, to the source beside it.
    is_compiled = any(Path(bastion.__file__).parent.rglob(f"*{EXTENSION_SUFFIXES[0]}"))
    form = "compiled" if is_compiled else "not compiled"
    return Finding(what, f"version {bastion.__version__}; the loops over rows are {form}")


def _configuration(what: str) -> Finding:
    from bastion.cli.checking import checked

    problems, rules = checked(None)
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        return Finding(
            what, f"{problems[0]['text']}{more}", wrong=True, hint="`bastion policy check` shows every mistake"
        )
    return Finding(what, f"{config_file()}, with a policy of {rules} rules and masks")


def _gateway(what: str) -> Finding:
    from bastion.client.gateway import Gateway, GatewayAbsent

    try:
        found = Gateway(runtime_dir(), str).status()
    except GatewayAbsent:
        return Finding(what, "none runs; the first `bastion connect` starts one")
    if error := found.get("policy_error"):
        return Finding(
            what, f"it keeps an older policy: {error}", wrong=True, hint="mend it, then `bastion gateway reload`"
        )
    return Finding(what, f"version {found.get('version')} answers in {found.get('directory')}")


def _recordings(what: str) -> Finding:
    from bastion.store.checkpoints import PUBLIC_KEY
    from bastion.store.reader import Reader
    from bastion.store.verify import verify

    directory = state_dir()
    if not (directory / PUBLIC_KEY).exists():
        return Finding(what, "there are none yet")
    with Reader.open(directory) as reader:
        newest = _newest(reader.sessions(limit=1))
    proof = verify(directory, directory / PUBLIC_KEY, session=newest)
    seen = f"the newest, {newest}, holds" if newest else "there are none yet"
    return Finding(what, f"{seen} ({proof.entries} entries looked at; `bastion verify` proves them all)")


def _login(what: str) -> Finding:
    from bastion.client.credentials import LoginStore
    from bastion.client.login import access_token

    if LoginStore(state_dir()).read() is None:
        return Finding(what, "nobody is logged in")
    access_token(state_dir())
    return Finding(what, "you are logged in")


def _newest(rows: "list[SessionRow]") -> str | None:
    return rows[0].id if rows else None
