"""The real NVML binding on a driver that a test breaks, and seconds that it lets pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.model import GpuReading
from tests.rig.nvml import FakeNvml

GIB = 1024**3


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
    return replace(reading, at=0.0, boot_seconds=0.0)
