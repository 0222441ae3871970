"""The real NVML binding on a driver that a test breaks, and seconds that it lets pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl import host_state
from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.host_state import GpuState, HostState
from gpuctl.model import GpuProcess, GpuReading
from tests.rig.nvml import FakeNvml

GIB = 1024**3
#: Fields of a host's card that a reading has in another shape.
TOLD_OTHERWISE = frozenset({"processes", "facts", "health", "lost"})


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake(tmp_path: Path) -> FakeNvml:
    return FakeNvml("p106x8", tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nvml(fake: FakeNvml, clock: Clock) -> Iterator[NvmlGpus]:
    gpus = NvmlGpus(environment=fake.environment(), deadline_seconds=2.0, clock=clock)
    yield gpus
    gpus.close()


def timeless(reading: GpuReading) -> GpuReading:
    health = reading.health and replace(reading.health, boot_seconds=0.0)
    return replace(reading, health=health, at=0.0, boot_seconds=0.0)


def expected(host: HostState, gpu: GpuState) -> GpuReading:
    """Return what a healthy card of that state reads as, at no time."""
    same = (each.name for each in dataclasses.fields(gpu))
    return GpuReading(
        **{name: getattr(gpu, name) for name in same if name not in TOLD_OTHERWISE},
        memory_used_bytes=gpu.memory_used_bytes,
        processes=tuple(
            GpuProcess(pid=process.pid, used_bytes=process.used_bytes)
            for process in gpu.processes or ()
        ),
        facts=host_state.facts(host, gpu),
        health=host_state.health(gpu, 0.0),
        at=0.0,
        boot_seconds=0.0,
    )
