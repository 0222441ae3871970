"""
A container's host RAM, from its control group: cheaper than the engine's own statistics.

`GET /containers/{id}/stats` waits for a second sample; two small files say the same.
"""

from __future__ import annotations

from pathlib import Path

#: Where the memory counters are, v1 first: on a hybrid host the v2 tree has no memory controller.
_V1 = ("memory", "memory/", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "", "memory.current", "inactive_file")


def memory_bytes(
    pid: int | None,
    container: str,
    *,
    proc: Path = Path("/proc"),
    root: Path = Path("/sys/fs/cgroup"),
) -> int | None:
    """
    Return what the container of process *pid* holds of host RAM, `None` where that is unknown.

    The page cache that the kernel would give back is left out, as `docker stats` does.
    Source: cgroup v1 memory.usage_in_bytes - total_inactive_file, v2 memory.current -
    inactive_file.
    """
    if pid is None:
        return None
    try:
        groups = (proc / str(pid) / "cgroup").read_text()
        for controller, folder, usage, inactive in (_V1, _V2):
            path = _path(groups, controller)
            # A remote engine's pid names some other process here: its path lacks the id.
            if path is not None and container in path:
                group = root / f"{folder}{path.lstrip('/')}"
                held = int((group / usage).read_text())
                return max(0, held - _field((group / "memory.stat").read_text(), inactive))
    except (OSError, ValueError):
        return None
    return None


def _path(groups: str, controller: str) -> str | None:
    """Return the path of a controller in `/proc/<pid>/cgroup`; "" names the v2 tree."""
    for row in groups.splitlines():
        _, names, path = row.split(":", 2)
        if controller in names.split(","):
            return path
    return None


def _field(statistics: str, name: str) -> int:
    for row in statistics.splitlines():
        key, _, value = row.partition(" ")
        if key == name:
            return int(value)
    return 0
