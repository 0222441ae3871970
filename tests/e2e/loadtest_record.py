"""What the long runs of `make soak` came to, for docs/loadtest.md."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.transcript import put

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "loadtest.md"


def record(capsys: pytest.CaptureFixture[str], mark: str, lines: Iterable[str]) -> None:
    """Print the figures, and put them on the page in place of those before, where asked for."""
    described = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    what = f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.strip()}, {os.cpu_count()} cores, no GPU"
    told = [what, *lines]
    with capsys.disabled():
        print("\n" + "\n".join(told))  # noqa: T201 - for whoever waits for it
    put(PAGE, mark, told)


def quantiles(name: str, seconds: Iterable[float]) -> str:
    """Return a line with the median, the slowest twentieth and the slowest hundredth."""
    ordered = sorted(seconds)
    p50, p95, p99 = (ordered[len(ordered) * percent // 100] for percent in (50, 95, 99))
    return f"{name}: p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s, longest {ordered[-1]:.2f} s"
