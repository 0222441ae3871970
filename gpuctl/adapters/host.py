"""The machine itself: memory, disk, load, and whose a process is. The Host port."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from gpuctl.errors import GpuctlError
from gpuctl.model import HostReading

#: A Docker container's cgroup, v1 (`/docker/<id>`) and v2 (`docker-<id>.scope`).
_CONTAINER = re.compile(r"[/-]([0-9a-f]{64})(?:\.scope)?(?:/|$)", re.MULTILINE)


class SystemHost:
    """
    Reads /proc; *directory* is where the disk's free space matters.

    *resolve* names the container of a pid for a runtime that has no cgroup per container.
    """

    def __init__(self, directory: Path, resolve: Callable[[int], str | None] | None = None) -> None:
        self._directory, self._resolve = directory, resolve

    def read(self) -> HostReading:
        """
        Return memory, disk and load.

        Source: `/proc/meminfo` MemTotal, MemAvailable, proc(5); statvfs(3); getloadavg(3).
        """
        try:
            memory = _memory()
            disk = os.statvfs(_existing(self._directory))
        except OSError as error:
            raise GpuctlError(f"the host cannot be read: {error}") from error
        return HostReading(
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            load_ratio=os.getloadavg()[0] / (os.cpu_count() or 1),
            boot_seconds=time.clock_gettime(time.CLOCK_BOOTTIME),
        )

    def container_of(self, pid: int) -> str | None:
        """Source: `/proc/<pid>/cgroup`, cgroups(7); needs the host's PID namespace."""
        if self._resolve is not None:
            return self._resolve(pid)
        try:
            found = _CONTAINER.search(Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:
            return None  # it has ended
        return found.group(1) if found else None

    def name_of(self, pid: int) -> str | None:
        """Source: `/proc/<pid>/comm`, proc(5)."""
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return None


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest above it: before the first `up` it is not there."""
    return next(path for path in (directory, *directory.absolute().parents) if path.exists())


def _memory() -> dict[str, int]:
    """Return /proc/meminfo in bytes."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        pairs = (line.split()[:2] for line in lines)
        return {name.rstrip(":"): int(kibibytes) * 1024 for name, kibibytes in pairs}
