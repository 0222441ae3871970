"""
Another user who runs this Python: in the mounts of a test run, every folder on the way is open.

Root's own folder is closed to others as a rule, and so is whatever is installed in it. Its mounts
are the test run's own (`tests/run`), so a folder that only lets others through is put in its place
for a while, with the one thing needed bound into it; nothing of the host is changed.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.rig.images import REPOSITORY


@contextmanager
def reachable() -> Iterator[None]:
    """Let every user reach the interpreter and the package, for as long as this lasts."""
    assert "GPUCTL_RIG_NAMESPACE" in os.environ, "run it by tests/run: it changes mounts"
    with ExitStack() as mounted:
        for needed in (Path(sys.base_prefix).resolve(), REPOSITORY, Path(sys.prefix)):
            while (step := _closed(needed)) is not None:
                mounted.enter_context(_opened(*step))
        yield


def _closed(path: Path) -> tuple[Path, Path] | None:
    """Return the first folder on the way that others may not enter, and what of it is needed."""
    way = [*reversed(path.parents), path]
    for folder, below in itertools.pairwise(way):
        if not folder.stat().st_mode & 0o001:
            return folder, below
    return None


@contextmanager
def _opened(folder: Path, below: Path) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="gpuctl-way-") as kept:
        _mount("--bind", str(below), kept)
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))
        below.mkdir()
        _mount("--bind", kept, str(below))
        try:
            yield
        finally:
            # Whoever still runs from there keeps it until then.
            for path in (str(below), str(folder), kept):
                subprocess.run(["umount", "--lazy", path], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
