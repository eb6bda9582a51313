"""A build hook that has mypyc compile the loops over rows. It runs only where HATCH_BUILD_HOOK_ENABLE_CUSTOM=true asks.

All of it is made in a temporary directory, so the source tree stays as it is. The wheel carries the compiled form
beside the source, and Python takes the compiled one. If anything is missing or fails, there is no wheel.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = ("bastion/protocols/postgres/covering/rows.py",)
"""Those that gain several times over: the decoder of messages is no faster compiled."""


class CompileHook(BuildHookInterface):
    """Adds the compiled form of the modules to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the modules; raise if that is not possible."""
        if version == "editable":
            raise ValueError("an editable installation runs the source as it stands: install without --editable")
        self.made = Path(tempfile.mkdtemp())
        try:
            built = _compile(Path(self.root), self.made)
        except BaseException:
            shutil.rmtree(self.made)
            raise
        libraries = [path for path in built.rglob("*") if path.is_file()]
        build_data["force_include"] |= {str(path): path.relative_to(built).as_posix() for path in libraries}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has by now."""
        shutil.rmtree(self.made)


def _compile(root: Path, made: Path) -> Path:
    """Compile below `made`, and return the directory there that has the libraries in their packages."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    built = made / "built"
    # Names of modules are those of paths, seen from where one stands.
    with contextlib.chdir(root):
        options = ["--config-file=", f"--cache-dir={made / 'cache'}", "--follow-imports=silent"]
        extensions = mypycify([*options, *MODULES], target_dir=str(made / "c"), opt_level="3", separate=True)
        command = Distribution({"name": "bastion", "ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(built), str(made / "objects")
        command.ensure_finalized()
        command.run()
    return built
