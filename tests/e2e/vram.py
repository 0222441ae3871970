"""
What a real driver would know by itself: which container's process holds how much VRAM where.

The fake driver is told, from a thread, what the engine says runs; a test says which models are
gone from VRAM.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path

from docker import APIClient
from docker.errors import DockerException

from tests.rig.nvml import FakeNvml

#: What a process of each workload holds; any other workload's holds 1 GiB.
HELD_BYTES: Mapping[str, int] = {"chat": 4 << 30, "embed": 600 << 20}
OTHERS_BYTES = 1 << 30
#: Well within the shortest interval at which a test has gpuctl read the driver.
EVERY_SECONDS = 0.1


class VramFeed:
    """A context manager that reports each container's process on its GPUs."""

    def __init__(self, nvml: FakeNvml, client: APIClient) -> None:
        self.lost: set[str] = set()  # replicas whose model has left VRAM
        self.held: dict[str, int] = {}  # replica → bytes, instead of its workload's
        self.strangers: dict[int, dict[int, int]] = {}  # GPU index → pid → bytes, of others
        self._nvml, self._client = nvml, client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)

    def __enter__(self) -> VramFeed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5)

    def _feed(self) -> None:
        told: dict[int, dict[int, int]] = {}
        while not self._ended.wait(EVERY_SECONDS):
            # The engine may be down, and a container or its process gone since it was listed.
            with contextlib.suppress(DockerException, OSError, IndexError):
                for index, processes in self._held().items():
                    if told.get(index) != processes:
                        self._nvml.set_processes(index, processes)
                        told[index] = processes

    def _held(self) -> dict[int, dict[int, int]]:
        """Return GPU index → pid → bytes."""
        held: dict[int, dict[int, int]] = {gpu.index: {} for gpu in self._nvml.host.gpus}
        index = {gpu.uuid: gpu.index for gpu in self._nvml.host.gpus}
        for place, processes in self.strangers.items():
            held[place] |= processes
        for row in self._client.containers(filters={"label": "gpuctl.replica"}):
            labels = row["Labels"]
            name = labels["gpuctl.replica"]
            if name in self.lost or not labels["gpuctl.gpus"]:
                continue
            pid = engine_pid(self._client.inspect_container(row["Id"])["State"]["Pid"])
            usual = HELD_BYTES.get(name.rpartition("-")[0], OTHERS_BYTES)
            used = self.held.get(name, usual)
            for uuid in labels["gpuctl.gpus"].split(","):
                held[index[uuid]][pid] = used
        return held


def engine_pid(init: int) -> int:
    """
    Return the first child of a container's init.

    Raises:
        IndexError: it has none yet.
    """
    return int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])
