"""A simulated host on a file that a test edits and a clock that it moves."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import host_state
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.host_state import GpuState, HostState
from gpuctl.model import GIB, ContainerSpec, GpuProcess, ProbeSpec
from tests.adapters.runtime_contract import marked
from tests.fakes import FakeClock

CARD = GpuState(
    index=0, uuid="GPU-0", name="P106-100", memory_total_bytes=6 * GIB, processes=()
)  # fmt: skip
HOST = HostState(
    name="test", driver_version="580", cpus=4, memory_total_bytes=16 * GIB, load_seconds=10.0,
    gpus=(CARD, replace(CARD, index=1, uuid="GPU-1")),
)  # fmt: skip


class HostFile:
    """A host-state file; every edit of it is seen, however fast they follow each other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "host.json"
        self._edits = itertools.count(1)
        self.write()

    def write(self, **fields: Any) -> None:
        """Make it HOST but for *fields*."""
        self.put(host_state.dump(replace(HOST, **fields)))

    def put(self, text: str) -> None:
        self.path.write_text(text)
        os.utime(self.path, ns=(next(self._edits) * 10**9,) * 2)

    def fault(self, replica: str, fault: str) -> None:
        self.write(replicas={replica: fault})


@pytest.fixture
def file(tmp_path: Path) -> HostFile:
    return HostFile(tmp_path)


def spec(port: int = 8081, **fields: Any) -> ContainerSpec:
    return ContainerSpec(
        **{"image": "org/llama.cpp:server", "host_port": port, "container_port": 8080, **fields}
    )


class Stage:
    """A simulated host on a clock that a test moves, with one replica's container started."""

    def __init__(self, file: HostFile, state: Path | None = None) -> None:
        self.file, self.state, self.clock = file, state, FakeClock()
        self.born()

    def born(self) -> None:
        """A new process comes to the same host."""
        host = SimulatedHost(str(self.file.path), state_directory=self.state, clock=self.clock)
        self.host, self.runtime, self.prober = host, host.runtime, host.prober

    def start(self, replica: str = "chat-0", port: int = 8081, **fields: Any) -> str:
        made = spec(port, **{"gpus": ("GPU-0",), "memory_bytes": GIB, **fields})
        container = self.runtime.create(f"gpuctl-{replica}", made, marked(replica, gpus="GPU-0"))
        self.runtime.start(container)
        return container

    def loaded(self) -> str:
        container = self.start()
        self.clock.advance(10)
        return container

    def ask(self, port: int = 8081) -> str:
        return self.prober.probe(probe(port)).outcome

    def held(self) -> list[GpuProcess]:
        return list(self.host.gpus.read()[0].processes or ())


def probe(port: int = 8081, **fields: Any) -> ProbeSpec:
    return ProbeSpec(**{"port": port, "health_path": "/", "metrics_path": "/metrics", **fields})


@pytest.fixture
def stage(file: HostFile) -> Stage:
    return Stage(file)
