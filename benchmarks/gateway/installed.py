"""
The gateway as the compiled wheel installs it, in `.cache/compiled`.

`installed` builds and installs the wheel anew, in a minute, when a source of it has changed;
`environment` is what a Python imports it with, and `is_compiled` tells of a process what it runs.
For another program: `env $(python -m benchmarks.gateway.installed) PROGRAM`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import hatch_build

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "compiled"
#: Of these the newest are kept: one may be in use as another is made.
KEPT = 3


@cache
def installed() -> Path:
    """Return the folder in which the compiled wheel of these sources is installed."""
    folder = CACHE / _digest()
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE, prefix="new-") as name:
            _install(Path(name))
            os.rename(Path(name) / "installed", folder)
        made = sorted(CACHE.glob(f"{'[0-9a-f]' * 16}"), key=lambda path: path.stat().st_mtime)
        for old in made[:-KEPT]:
            shutil.rmtree(old)
    return folder


def environment() -> dict[str, str]:
    """Return the variables with which it is imported from there, and benchmarks from here."""
    # Without PYTHONSAFEPATH `python -m` looks into the current folder first.
    return {"PYTHONPATH": f"{installed()}:{ROOT}", "PYTHONSAFEPATH": "1"}


def is_compiled(pid: int) -> bool:
    """Return whether a process has the compiled gateway. Source: /proc/PID/maps."""
    return f"/{hatch_build.LIBRARY}__mypyc." in Path(f"/proc/{pid}/maps").read_text()


def _digest() -> str:
    """Return what tells one build from another: sources, interpreter and compiler of Python."""
    found = hashlib.sha256(f"{sys.version} {version('mypy')}".encode())
    sources = (ROOT / "hatch_build.py", ROOT / "pyproject.toml", *(ROOT / "gpuctl").rglob("*.py"))
    for path in sorted(sources):
        found.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _install(folder: Path) -> None:
    _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", str(ROOT))
    (wheel,) = folder.glob("*.whl")
    target = f"--target={folder / 'installed'}"
    _pip("install", "--no-deps", "--no-index", "--no-warn-script-location", target, str(wheel))


def _pip(*arguments: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        env={**os.environ, "GPUCTL_COMPILE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"the compiled wheel cannot be installed\n{ran.stdout}")


if __name__ == "__main__":
    print(*(f"{name}={value}" for name, value in environment().items()))
