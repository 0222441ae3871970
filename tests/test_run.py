"""`tests/run`: which runs of pytest it starts, and what it puts on a host that lacks something."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: In the interpreter's place: it has no headers, and tells what it is started with.
PYTHON = """\
#!/bin/sh
if [ "$1" = -c ]; then echo /nowhere; exit; fi
echo "ran $*"
"""
#: In its own place: it installs nothing, and is as talkative as the real one.
APT_GET = """\
#!/bin/sh
echo "apt-get $1"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder with both, which is looked into first."""
    for name, text in (("python", PYTHON), ("apt-get", APT_GET)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run(
    path: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUCTL_")}
    kept |= {"PYTHON": str(path / "python"), "PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(
        ["tests/run", *arguments],
        cwd=ROOT,
        env={**kept, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def selected(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what each run of pytest selects by its markers."""
    lines = [line for line in ran.stdout.splitlines() if line.startswith("ran ")]
    return [line.rpartition(" -m ")[2].removesuffix(" FILE") for line in lines]


def test_what_each_run_selects(path: Path) -> None:
    """Each test is in one of them: the markers of real tests are known to tests/conftest.py."""
    assert selected(run(path, "all", "FILE")) == [
        "not real",
        "program",
        "real and not (program or alone)",
        "real and not program and alone",
    ]


def test_a_soak_is_one_run(path: Path) -> None:
    """Nothing runs beside another, and no later run writes over what the first recorded."""
    assert selected(run(path, "real", "FILE", environment={"GPUCTL_SOAK": "1"})) == ["real"]


def test_what_a_program_says_is_its_own(path: Path) -> None:
    """What is installed before it is told on stderr: a program's output is read by others."""
    ran = run(path, "program", "FILE")
    assert ran.stdout == "ran FILE\n"


def test_a_lane_installs_nothing(path: Path) -> None:
    """Who starts several at once has installed: two of apt-get would find each other's lock."""
    ran = run(path, "lane", "FILE")
    assert (ran.stdout, ran.stderr) == ("ran FILE\n", "")
