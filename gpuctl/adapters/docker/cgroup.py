"""
A container's host RAM and processor time, from its control group.

Cheaper than the engine's own statistics: `GET /containers/{id}/stats` waits for a second sample,
and a few small files say the same.
"""

from __future__ import annotations

from pathlib import Path

_PROC, _ROOT = Path("/proc"), Path("/sys/fs/cgroup")

#: Where the memory counters are, v1 first: on a hybrid host the v2 tree has no memory controller.
_V1 = ("memory", "memory", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("", "", "memory.current", "inactive_file")


def memory_bytes(
    pid: int | None, container: str, *, proc: Path = _PROC, root: Path = _ROOT
) -> int | None:
    """
    Return what the container of process *pid* holds of host RAM, `None` where that is unknown.

    The page cache that the kernel would give back is left out, as `docker stats` does.
    Source: cgroup v1 memory.usage_in_bytes - total_inactive_file, v2 memory.current -
    inactive_file.
    """
    try:
        for controller, folder, usage, inactive in (_V1, _V2):
            group = _group(pid, container, controller, proc, root / folder)
            if group is not None:
                held = int((group / usage).read_text())
                return max(0, held - _field((group / "memory.stat").read_text(), inactive))
    except (OSError, ValueError):
        return None
    return None


def cpu_seconds(
    pid: int | None, container: str, *, proc: Path = _PROC, root: Path = _ROOT
) -> float | None:
    """
    Return the processor time that all its processes have used, `None` where that is unknown.

    Source: cgroup v1 cpuacct.usage (nanoseconds), v2 cpu.stat usage_usec, which is there without
    the controller as well.
    """
    try:
        if group := _group(pid, container, "cpuacct", proc, root / "cpuacct"):
            return int((group / "cpuacct.usage").read_text()) / 1e9
        if group := _group(pid, container, "", proc, root):
            return _field((group / "cpu.stat").read_text(), "usage_usec") / 1e6
    except (OSError, ValueError):
        return None
    return None


def _group(
    pid: int | None, container: str, controller: str, proc: Path, folder: Path
) -> Path | None:
    """Return the directory of the container's group in one tree; *controller* "" is the v2 one."""
    if pid is None:
        return None
    path = _path((proc / str(pid) / "cgroup").read_text(), controller)
    # A remote engine's pid names some other process here: its path lacks the id.
    return folder / path.lstrip("/") if path is not None and container in path else None


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
