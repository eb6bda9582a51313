"""How the source is built: who imports whom, what stays pure, and where what is dangerous may stand."""

import ast
import re
from collections.abc import Callable, Iterator

from bastion.protocols.contract import installed
from tests.kit.source import Module, modules, reached_from

FLOORS = (
    ("", "errors"),
    ("model", "paths", "private"),
    ("masking", "protocols.contract", "protocols.clientside"),
    ("policy",),
    ("protocols",),
    ("config", "vault", "identity", "store"),
    ("gateway",),
    ("client", "demo", "doctor"),
    ("tui",),
    ("cli",),
    ("__main__",),
)
"""Lowest first. A module imports its own floor and those below, never above."""

CLIENT_SIDE = ("client", "demo", "doctor", "tui", "cli", "__main__")
DAEMON_SIDE = ("gateway", "store", "identity", "vault", "config", "policy")
CROSSINGS = {
    ("client", "identity.discovery"): "the login finds the issuer in the very way in which the gateway does",
    ("client", "identity.fetching"): "as above",
    ("cli.commands.gateway", "gateway.daemon"): "the command that becomes the gateway",
    ("cli.commands.gateway", "gateway.state"): "as above",
    ("cli.commands.secret", "vault.secrets"): "an operator's command, run as the gateway's user",
    ("cli.checking", "config"): "`policy check` reads files, before any gateway does",
    ("cli.checking", "policy"): "as above",
    ("cli.verifying", "store"): "`verify` proves a copy of the store where no gateway is",
    ("cli.health", "store"): "`doctor` looks at the newest recording",
    ("doctor", "config"): "an operator's command: it looks at what the gateway will read",
    ("doctor.leaking", "policy.marks"): "as above: what is wrong in it, in the words of `policy check`",
    ("doctor.leaking", "vault.secrets"): "as above, and hands the target's credential to a gateway of its own",
}
"""What of the daemon's side the client's side imports all the same, and why."""

LINES = 400
LONGER = {
    "protocols.postgres.interceptor": "one state machine, whose states are easier to check in one place",
    "store.writer": "one transaction after another, and what guards their order",
}
"""Modules that are longer, and why they are better whole."""

PURE = ("model", "masking", "policy")
PURE_IN_PROTOCOLS = re.compile(
    r"protocols\.\w+\.(codec|interceptor|clause|options|transcript|messages|covering\..*|sql\.(?!loading).*)"
)
"""What reads and judges. `sql.loading` asks a target for its catalog, so it is no part of that."""
WORLD = {"asyncio", "http", "httpx2", "os", "psycopg", "random", "secrets", "socket", "ssl", "subprocess", "time"}
SPEAKERS = ("cli.output", "cli.commands.auditing", "cli.logging_in", "__main__")
"""Who looks at the streams: to print, or to see whether somebody is there."""
EVALUATORS = {"eval", "exec", "compile", "__import__"}

ENVIRONMENT = ("paths", "gateway.state", *CLIENT_SIDE)
"""Who reads the environment. The daemon's side reads it in one place, and hands it on."""

CATCHERS = {
    "gateway.control": "a bug in an answer ends that answer",
    "gateway.relay": "a bug in an interceptor ends the conversation",
    "policy.conditions": "the engine of conditions has no error class of its own",
    "policy.evaluation": "no failure of a check may ever mean yes",
    "policy.explanation": "tells of the same failures",
    "protocols.postgres.sql.guard": "whatever a tokenizer does with hostile text, it is refused",
    "protocols.postgres.sql.parser": "whatever the parser does with hostile text, it is refused",
    "protocols.postgres.sql.shapes": "whatever the grammar does with hostile text, it is read whole, and refused there",
    "protocols.postgres.sql.secrets": "text that cannot be searched for secrets counts as one",
}
"""Who may catch every `Exception`; each of them then refuses. (`BaseException` is for cleaning up and raising on.)"""

MODULES = sorted(modules().values(), key=lambda module: module.name)
Found = dict[str, object]
"""What is wrong, by module."""


def within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or (place and name.startswith(f"{place}.")) for place in places)


def floor(name: str) -> int:
    """Return a module's floor: that of the longest place that it is within."""
    fitting = [(len(place), number) for number, row in enumerate(FLOORS) for place in row if within(name, (place,))]
    assert fitting, f"{name} has no floor"
    return max(fitting)[1]


def found(problem: Callable[[Module], object]) -> Found:
    """Return what `problem` finds, in each module where it finds something."""
    return {module.name or "bastion": wrong for module in MODULES if (wrong := problem(module))}


def test_nothing_imports_what_is_above_it() -> None:
    def above(module: Module) -> set[str]:
        return {name for name in module.imports if floor(name) > floor(module.name)}

    assert found(above) == {}


def test_the_client_side_keeps_to_the_control_api() -> None:
    def across(module: Module) -> set[str]:
        if not within(module.name, CLIENT_SIDE):
            return set()
        allowed = tuple(place for importer, place in CROSSINGS if within(module.name, (importer,)))
        return {name for name in module.imports if within(name, DAEMON_SIDE) and not within(name, allowed)}

    assert found(across) == {}


def test_every_crossing_is_one() -> None:
    for importer, place in CROSSINGS:
        importers = [m for m in MODULES if within(m.name, (importer,))]
        assert any(within(name, (place,)) for m in importers for name in m.imports), (importer, place)


def test_protocols_do_not_know_one_another() -> None:
    def others(module: Module) -> set[str]:
        folder = re.match(r"protocols\.(\w+)\.", module.name)
        known = {name for name in module.imports if re.match(r"protocols\.\w+\.", name)}
        return {name for name in known if not name.startswith(folder[0])} if folder else set()

    assert found(others) == {}


def test_only_its_own_folder_names_a_protocol() -> None:
    def named(module: Module) -> list[str]:
        # The demo brings a target along, so it has to name what that speaks.
        strange = [p for p in installed() if not within(module.name, (f"protocols.{p}", "demo"))]
        return [w for w in _words(module) for p in strange if re.search(rf"(?<![a-z]){p}(?![a-z])", w.lower())]

    assert found(named) == {}


def test_what_decides_touches_nothing() -> None:
    """Neither the world nor a clock: a decision is a value of its arguments."""

    def touched(module: Module) -> Found:
        if not (within(module.name, PURE) or PURE_IN_PROTOCOLS.fullmatch(module.name)):
            return {}
        reached = {name: modules()[name].foreign & WORLD for name in reached_from(module.name)}
        return {name: foreign for name, foreign in reached.items() if foreign}

    assert found(touched) == {}


def test_only_few_read_the_environment() -> None:
    def reads(module: Module) -> list[str]:
        used = _attributes(module, "os", "environ", "getenv")
        return [] if within(module.name, ENVIRONMENT) else used

    assert found(reads) == {}


def test_only_the_gateway_and_listeners_start_tasks() -> None:
    def started(module: Module) -> list[str]:
        if within(module.name, ("gateway",)) or module.name.endswith(".endpoint"):
            return []
        return [
            ast.unparse(node)
            for node in ast.walk(module.tree)
            # A TaskGroup may: it waits for what it starts.
            if isinstance(node, ast.Attribute)
            and node.attr in ("create_task", "ensure_future", "run_coroutine_threadsafe")
            and ("loop" in ast.unparse(node.value) or _is_name(node.value, "asyncio"))
        ]

    assert found(started) == {}


def test_only_the_command_line_prints() -> None:
    def prints(module: Module) -> list[str]:
        calls = [n.lineno for n in ast.walk(module.tree) if isinstance(n, ast.Call) and _is_name(n.func, "print")]
        streams = [] if within(module.name, SPEAKERS) else _attributes(module, "sys", "stdout", "stderr")
        return [*map(str, calls), *streams]

    assert found(prints) == {}


def test_nothing_runs_text() -> None:
    """No shell, no evaluation of text, no pickle."""

    def runs(module: Module) -> list[str]:
        calls = [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]
        evaluations = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id in EVALUATORS]
        shells = [c for c in calls if any(word.arg == "shell" for word in c.keywords)]
        return [*map(ast.unparse, [*evaluations, *shells]), *(module.foreign & {"pickle", "marshal", "shelve", "code"})]

    assert found(runs) == {}


def test_catching_everything_has_a_reason() -> None:
    def catches(module: Module) -> list[int]:
        handlers = [node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler)]
        bare = [h.lineno for h in handlers if h.type is None]
        broad = [h.lineno for h in handlers if h.type is not None and _is_name(h.type, "Exception")]
        return bare + ([] if module.name in CATCHERS else broad)

    assert found(catches) == {}


def test_every_module_says_what_it_is() -> None:
    def silent(module: Module) -> bool:
        first = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
        return re.search(r"[.:]$", first) is None

    assert found(silent) == {}


def test_modules_stay_small() -> None:
    assert found(lambda module: module.lines > LINES and module.name not in LONGER) == {}


def _attributes(module: Module, owner: str, *names: str) -> list[str]:
    return [
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in names and _is_name(node.value, owner)
    ]


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _words(module: Module) -> Iterator[str]:
    """Yield every name and string of a module but its docstrings."""
    docstrings = module.docstrings()
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.alias(name=word):
                yield word
            case ast.ImportFrom(module=str() as word):
                yield word
            case ast.FunctionDef(name=word) | ast.AsyncFunctionDef(name=word) | ast.ClassDef(name=word):
                yield word
            case ast.Constant(value=str() as word) if node not in docstrings:
                yield word
