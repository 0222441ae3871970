"""A reader of NVML whose children play a script, with a clock that a test sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.errors import GpuUnavailable
from gpuctl.model import GpuReading
from tests.rig.processes import lives
from tests.rig.waiting import wait_for

# Plays the script of its turn, counted by the pids that each child leaves in a file: one act a
# question, `hang`, `exit`, `slow`, `endless` or the line to answer. `slow` answers as soon as there
# is a file of the name in the environment.
PLAYER = """
import json, os, sys, time
started, script = sys.argv[1], json.loads(sys.argv[2])
with open(started, "a+") as file:
    file.write(f"{os.getpid()} ")
    file.seek(0)
    turn = min(len(file.read().split()), len(script)) - 1
for act in script[turn]:
    if not sys.stdin.readline():
        sys.exit()
    if act == "hang":
        time.sleep(3600)
    elif act == "exit":
        sys.exit(3)
    elif act == "slow":
        while not os.path.exists(os.environ["SLOW_UNTIL"]):
            time.sleep(0.01)
        act = '{"gpus": [], "at": 1, "boot_seconds": 2}'
    elif act == "endless":
        while True:
            sys.stdout.write("x" * 65536)
    sys.stdout.write(act.replace("$MARK", os.environ.get("MARK", "")) + "\\n")
    sys.stdout.flush()
sys.stdin.read()
"""


class Played:
    """NvmlGpus with scripted children, a clock set by hand, and how many children there were."""

    def __init__(
        self, directory: Path, script: tuple[tuple[str, ...], ...], deadline_seconds: float
    ) -> None:
        self.now = 1000.0
        self._started = directory / "started"
        self.gpus = NvmlGpus(
            deadline_seconds=deadline_seconds,
            clock=lambda: self.now,
            command=(sys.executable, "-S", "-c", PLAYER, str(self._started), json.dumps(script)),
        )

    @property
    def children(self) -> int:
        return len(self._pids())

    def read(self) -> tuple[GpuReading, ...] | str:
        """Return the reading, or the words it was refused with by a child that had begun."""
        while True:
            try:
                return self.gpus.read()
            except GpuUnavailable as error:
                # A busy machine may take longer than the deadline to start an interpreter.
                if self.gpus.child_pid is None or self.gpus.child_pid in self._pids():
                    return error.message

    def read_after(self, seconds: float) -> tuple[GpuReading, ...] | str:
        self.now += seconds
        given_up = [pid for pid in self._pids() if pid != self.gpus.child_pid]
        wait_for(lambda: not any(map(lives, given_up)), "SIGKILL to take effect")
        return self.read()

    def _pids(self) -> list[int]:
        if not self._started.exists():
            return []
        return [int(pid) for pid in self._started.read_text().split()]
