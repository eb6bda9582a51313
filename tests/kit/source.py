"""The source as a graph, for tests about how it is built."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bastion

FOLDER = Path(bastion.__file__).parent


@dataclass(frozen=True)
class Module:
    """One module of the product."""

    name: str
    """Without the leading `bastion.`; empty for the package itself."""
    path: Path
    tree: ast.Module
    lines: int

    @functools.cached_property
    def imports(self) -> set[str]:
        """What it imports of the product, as modules without the leading `bastion.`."""
        return {name.removeprefix("bastion").removeprefix(".") for name in self._imported() if _is_ours(name)}

    @functools.cached_property
    def foreign(self) -> set[str]:
        """The top-level packages that it imports from elsewhere."""
        return {name.partition(".")[0] for name in self._imported() if not _is_ours(name)}

    def _imported(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from (alias.name for alias in names)
                case ast.ImportFrom(module=str() as module, names=names, level=0):
                    # `from package import module` names a module; `from module import thing` does not.
                    below = {f"{module}.{alias.name}" for alias in names}
                    submodules = {name for name in below if _is_ours(name) and name in _names()}
                    yield from submodules or {module}

    def docstrings(self) -> set[ast.Constant]:
        """Return every string that stands by itself: docstrings, of attributes too."""
        return {
            node.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }


@functools.cache
def modules() -> dict[str, Module]:
    """Return every module by its name."""
    found = {}
    for path in FOLDER.rglob("*.py"):
        text = path.read_text()
        name = _name(path)
        found[name] = Module(name, path, ast.parse(text), text.count("\n"))
    return found


def reached_from(start: str) -> set[str]:
    """Return the modules that importing `start` imports, itself included."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += modules()[name].imports
    return seen


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(f"bastion.{_name(path)}".rstrip(".") for path in FOLDER.rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_ours(name: str) -> bool:
    return name == "bastion" or name.startswith("bastion.")
