"""Which of our engines a process belongs to: for GPU readings, which name nothing but pids."""

from __future__ import annotations

import re
from pathlib import Path

from gpuctl.adapters.process.resolve import CONTAINER_VARIABLE

#: The unit of an engine, as `launch` names it; every process it starts stays in that cgroup.
_UNIT = re.compile(r"/gpuctl-([0-9a-f]{64})-[0-9a-f]+\.service")
_VARIABLE = re.compile(rb"(?:^|\0)" + CONTAINER_VARIABLE.encode() + rb"=([0-9a-f]{64})(?:\0|$)")


def container_of(pid: int) -> str | None:
    """
    Return the id of the engine that a process is, or was started by; `None` for a stranger.

    The cgroup is asked first: without CAP_SYS_PTRACE the daemon may not read the environment of a
    process that has more capabilities than itself.

    Source: /proc/<pid>/cgroup, cgroups(7); /proc/<pid>/environ, proc(5).
    """
    try:
        if unit := _UNIT.search(Path(f"/proc/{pid}/cgroup").read_text()):
            return unit.group(1)
        found = _VARIABLE.search(Path(f"/proc/{pid}/environ").read_bytes())
    except OSError:
        return None  # it has ended, or is another user's
    return found.group(1).decode() if found else None
