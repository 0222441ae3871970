"""Whether a process of a test still runs."""

from __future__ import annotations

from pathlib import Path


def lives(pid: int) -> bool:
    """Return whether that process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
