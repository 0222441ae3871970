"""
The machine itself, read from /proc: memory, disk, load, and who owns a process.

Composed by `cli`; `/proc` is an argument so that a test can write its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from gpuctl.model import HostReading
from gpuctl.ports import Clock

# The last path element that is a container's id: `/docker/<id>` (cgroupfs driver) or
# `/system.slice/docker-<id>.scope` (systemd driver). Source: moby `daemon/oci_linux.go`.
_CONTAINER = re.compile(r"[/-]([0-9a-f]{64})(?:\.scope)?(?=/|$)")
# Time in the last minute, in per cent, that some task waited for memory. Source: the kernel's
# Documentation/accounting/psi.rst.
_STALL = re.compile(r"^some .*\bavg60=([0-9.]+)", re.MULTILINE)
# cgroup v1 has the controller in a line of its own: `4:devices:/docker/<id>`.
_DEVICES = re.compile(r"^\d+:devices:(/.*)$", re.MULTILINE)
# All devices, or the major number of NVIDIA's, to read and write: `a *:* rwm`, `c 195:* rw`. The
# number is that of the kernel's Documentation/admin-guide/devices.txt.
_OPENS_GPUS = re.compile(r"^(?:a|c (?:195|\*):(?:\*|\d+) rw)")


class SystemHost:
    """
    Implements `ports.Host`.

    *sessions* tells which container of the process runtime a pid belongs to. It is asked first:
    gpuctl may itself run in a container, and then every engine it starts has that one's cgroup.
    """

    def __init__(
        self,
        state_directory: Path,
        clock: Clock,
        sessions: Callable[[int], str | None] | None = None,
        *,
        proc: Path = Path("/proc"),
        cgroups: Path = Path("/sys/fs/cgroup"),
    ) -> None:
        self._state_directory = state_directory
        self._clock = clock
        self._sessions = sessions
        self._proc, self._cgroups = proc, cgroups

    def read(self) -> HostReading:
        """
        Return memory, disk and load; what cannot be read is `None`.

        Source: MemTotal, MemAvailable, SwapTotal and SwapFree of `/proc/meminfo`, statvfs(3) of the
        state directory (what an unprivileged writer may use), the first field of `/proc/loadavg`
        over the CPUs of the host, `some avg60` of `/proc/pressure/memory`.
        """
        memory = self._memory()
        free, total = self._disk_bytes()
        return HostReading(
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
            disk_free_bytes=free,
            disk_total_bytes=total,
            swap_total_bytes=memory.get("SwapTotal"),
            swap_free_bytes=memory.get("SwapFree"),
            memory_stall_ratio=self._memory_stall_ratio(),
            load_ratio=self._load_ratio(),
            boot_seconds=self._clock.boot_seconds(),
        )

    def container_of(self, pid: int) -> str | None:
        """
        Return the id of the container that process is in, `None` for a stranger.

        Source: `/proc/<pid>/cgroup`, of which cgroup v1 has a line for each controller and
        v2 one; of nested containers the innermost counts.
        """
        own = self._sessions(pid) if self._sessions is not None else None
        if own is not None:
            return own
        for line in self._text(f"{pid}/cgroup").splitlines():
            found: list[str] = _CONTAINER.findall(line)
            if found:
                return found[-1]
        return None

    def name_of(self, pid: int) -> str | None:
        """
        Return the program's name, at most 15 characters; `None` when the process is gone.

        Source: `/proc/<pid>/comm`.
        """
        return self._text(f"{pid}/comm").rstrip("\n") or None

    def may_open_gpus(self, pid: int) -> bool | None:
        """
        Return whether its cgroup lets a process open NVIDIA's devices, `None` where none tells.

        Source: `devices.list` of cgroup v1's controller; v2 keeps a program, which cannot be read.
        """
        group = _DEVICES.search(self._text(f"{pid}/cgroup"))
        if group is None:
            return None
        try:
            listed = (self._cgroups / f"devices{group[1]}/devices.list").read_text(encoding="utf-8")
        except OSError:
            return None
        return any(_OPENS_GPUS.match(line) for line in listed.splitlines())

    def _memory(self) -> dict[str, int]:
        memory = {}
        for line in self._text("meminfo").splitlines():
            name, _, rest = line.partition(":")
            fields = rest.split()
            # The unit is always written `kB` and always means 1,024 bytes (proc(5)).
            if len(fields) == 2 and fields[0].isdigit():
                memory[name] = int(fields[0]) * 1024
        return memory

    def _disk_bytes(self) -> tuple[int | None, int | None]:
        try:
            disk = os.statvfs(_existing(self._state_directory))
        except OSError:
            return None, None
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def _memory_stall_ratio(self) -> float | None:
        found = _STALL.search(self._text("pressure/memory"))
        return float(found[1]) / 100 if found else None

    def _load_ratio(self) -> float | None:
        fields = self._text("loadavg").split()
        return float(fields[0]) / (os.cpu_count() or 1) if fields else None

    def _text(self, name: str) -> str:
        # A process may end, and its files vanish, between any two reads (ESRCH, ENOENT).
        try:
            return (self._proc / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest above it: before the first `up` it is not there."""
    return next(path for path in (directory, *directory.absolute().parents) if path.exists())
