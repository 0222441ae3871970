"""
The wheel's build hook: with GPUCTL_COMPILE=1 the gateway's data path is compiled by mypyc.

What `pyproject.toml` lists goes into the wheel as C extensions beside its sources. Nothing of it is
written into the source tree, where it would be imported instead of what is edited there. Without
the variable the wheel is pure and needs no compiler; an editable install is so in any case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The library of them all; mypyc adds `__mypyc`. Beside the package, not in it: mypyc takes its
#: folder for that of all packages when it tells a module its `__file__`.
LIBRARY = "gpuctl_gateway"
#: What `make lint` asks for is no part of a build, nor is every library in its environment.
MYPY = ("--config-file=", "--ignore-missing-imports")
CFLAGS = (
    # The warnings of a compiler that nobody has tried yet end no build.
    "-Wno-error",
    # So that one module calls another straight: 3 % fewer machine instructions a request.
    "-fvisibility=hidden",
)


class Compiled(BuildHookInterface[Any]):
    """Made and called by hatchling; its options stand in `pyproject.toml`."""

    def dependencies(self) -> list[str]:
        """
        Return what the environment of a build has beside hatchling.

        That of an editable install too, which compiles nothing: hatchling asks before a hook can
        know what is to be built.
        Source: hatchling/build.py, get_requires_for_build_editable
        """
        return list(self.config["dependencies"]) if wanted(os.environ) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the files that go into the wheel, and where in it."""
        if version != "standard" or not wanted(os.environ):
            return
        self._folder = TemporaryDirectory(prefix="gpuctl-build-")
        with chdir(self.root):  # a traceback shows the paths that are compiled
            built = _compile(self.config["modules"], Path(self._folder.name))
        build_data["force_include"].update(
            {str(path): str(path.relative_to(built)) for path in built.rglob("*.so")}
        )
        build_data["infer_tag"], build_data["pure_python"] = True, False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        if not build_data["pure_python"]:
            self._folder.cleanup()


def wanted(environment: Mapping[str, str]) -> bool:
    """Return whether to compile. Raises ValueError for what is neither yes nor no."""
    value = environment.get("GPUCTL_COMPILE", "0")
    if value not in ("0", "1"):
        raise ValueError(f"GPUCTL_COMPILE={value}: 1 compiles the gateway, 0 does not")
    return value == "1"


def _compile(modules: Iterable[str], folder: Path) -> Path:
    """Compile paths of the current folder into *folder*; return where the built packages lie."""
    # Only a build that compiles has these.
    from mypyc.build import mypycify
    from setuptools import Distribution

    extensions = mypycify(
        [*MYPY, f"--cache-dir={folder / 'types'}", *modules],
        opt_level="3",
        debug_level="0",
        group_name=LIBRARY,
        target_dir=str(folder / "c"),
    )
    for extension in extensions:
        extension.extra_compile_args.extend(CFLAGS)
    # No setup(): that would read the project's file, whose license it may be too old for.
    command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    built = folder / "built"
    command.build_lib, command.build_temp = str(built), str(folder / "objects")
    command.ensure_finalized()
    command.run()
    return built
