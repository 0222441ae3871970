"""The kernel and its limits: memory, control groups, the clock, the log, who enforces what."""

from __future__ import annotations

import ctypes
import os
import re
import resource
from pathlib import Path

from gpuctl.adapters.diagnosis.deadline import said
from gpuctl.diagnosis.facts import SystemFacts

#: struct timex on 64-bit Linux is 208 bytes, its status an int at 40. Source: adjtimex(2),
#: linux/timex.h; STA_UNSYNC.
_TIMEX_BYTES, _STATUS_AT, _UNSYNCHRONIZED = 256, 40, 0x0040
_SYSTEMD = re.compile(r"systemd ([0-9]+)")


def system(root: Path = Path("/")) -> SystemFacts:
    """
    Return what the kernel tells; `None` where it does not.

    Source: /proc/meminfo, statvfs(3) of /dev/shm, getrlimit(2), /sys/fs/cgroup, /proc/cgroups,
    adjtimex(2), /dev/kmsg and the journal's files, /sys/fs/selinux/enforce.
    """
    memory = _memory(_text(root / "proc/meminfo"))
    version, controller = _cgroups(root)
    return SystemFacts(
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        swap_total_bytes=memory.get("SwapTotal"),
        shm_total_bytes=_size(root / "dev/shm"),
        open_files_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        locked_memory_limit=resource.getrlimit(resource.RLIMIT_MEMLOCK)[1],
        cgroup_version=version,
        memory_controller=controller,
        systemd_version=_systemd(root),
        clock_synchronized=_synchronized(),
        kernel_log=_kernel_log(root),
        selinux_enforcing=_text(root / "sys/fs/selinux/enforce") == "1",
        apparmor=_text(root / "sys/module/apparmor/parameters/enabled") == "Y",
    )


def _memory(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    # The unit is always written `kB` and always means 1,024 bytes (proc(5)).
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}


def _cgroups(root: Path) -> tuple[int | None, bool | None]:
    """Return the version that has the memory controller, or would; and whether it is there."""
    folder = root / "sys/fs/cgroup"
    if (controllers := folder / "cgroup.controllers").exists():
        return 2, "memory" in _text(controllers).split()
    if not folder.is_dir() or not any(folder.iterdir()):
        return None, None
    # subsystem, hierarchy, number of groups, enabled. Source: cgroups(7).
    rows = (line.split() for line in _text(root / "proc/cgroups").splitlines())
    return 1, any(row[0] == "memory" and row[3:] == ["1"] for row in rows)


def _systemd(root: Path) -> int | None:
    if not (root / "run/systemd/system").is_dir():  # sd_booted(3)
        return None
    found = _SYSTEMD.match(said(["systemctl", "--version"]))
    return int(found.group(1)) if found else None


def _synchronized() -> bool | None:
    """Ask the kernel without changing anything: no mode is set."""
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return None
    status = int.from_bytes(buffer.raw[_STATUS_AT : _STATUS_AT + 4], "little")
    return not status & _UNSYNCHRONIZED


def _kernel_log(root: Path) -> bool | None:
    """Return whether /dev/kmsg or a system journal may be read, `None` where there is neither."""
    kmsg = root / "dev/kmsg"
    journals = [
        path
        for folder in ("var/log/journal", "run/log/journal")
        for path in (root / folder).glob("*/system.journal")
    ]
    if any(os.access(path, os.R_OK) for path in journals):
        return True
    try:
        # Who may is decided when it is opened: kernel.dmesg_restrict, capabilities(7).
        os.close(os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        return False if journals else None
    except OSError:
        return False
    return True


def _size(path: Path) -> int | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
