"""
Add one line to the ledger in docs/reliability.md: `python -m tests.soak RESULTS.xml ...`.

`make soak` calls it with what each pytest wrote (--junitxml), whether the tests passed or not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from gpuctl.quantities import format_seconds

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "docs" / "reliability.md"


def line(results: Iterable[str], *, now: datetime, commit: str, machine: str) -> str:
    """Return the row for the results of these runs, each as JUnit's XML has them."""
    suites = [each for run in results for each in ElementTree.fromstring(run).iter("testsuite")]
    tests, failed, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    took = format_seconds(int(sum(float(suite.get("time", "0")) for suite in suites)))
    passed = tests - failed - skipped
    cells = (f"{now:%Y-%m-%d %H:%M}", commit, machine, passed, failed, skipped, took)
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    results = [Path(name).read_text() for name in sys.argv[1:]]
    described = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB"
    row = line(results, now=datetime.now(UTC), commit=commit.strip(), machine=machine)
    # The table is the end of the page.
    LEDGER.write_text(f"{LEDGER.read_text().rstrip()}\n{row}\n")


if __name__ == "__main__":
    main()
