"""`tests/run program` runs what `make bench` measures where the real tests run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.rig.images import REPOSITORY

pytestmark = pytest.mark.docker


def test_a_program_runs_in_a_namespace_of_its_own_and_its_exit_code_is_kept() -> None:
    program = "import os, sys; print(os.environ['GPUCTL_RIG_NAMESPACE'], os.getpid()); sys.exit(7)"
    ran = subprocess.run(
        ["tests/run", "program", "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    flag, pid = ran.stdout.split()
    assert (ran.returncode, flag) == (7, "1")
    assert int(pid) < 10  # among its own processes


def test_an_unknown_half_is_answered_with_the_usage() -> None:
    ran = subprocess.run(
        ["tests/run", "everything"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 2
    assert "tests/run program FILE" in ran.stderr
