"""The readings under the real NVML binding: every field of every card."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.host_state import THROTTLE_REASONS, GpuState, ProcessState
from gpuctl.model import GpuProcess, GpuReading
from tests.adapters.nvml_bench import GIB, clock, fake, nvml, timeless
from tests.rig.nvml import FakeNvml

__all__ = ["clock", "fake", "nvml"]

pytestmark = pytest.mark.nvml


def expected(gpu: GpuState) -> GpuReading:
    """What a healthy card of that state reads as."""
    return GpuReading(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        memory_total_bytes=gpu.memory_total_bytes,
        memory_used_bytes=gpu.memory_used_bytes,
        memory_reserved_bytes=gpu.memory_reserved_bytes,
        utilization_ratio=gpu.utilization_ratio,
        temperature_celsius=gpu.temperature_celsius,
        power_watts=gpu.power_watts,
        power_limit_watts=gpu.power_limit_watts,
        sm_clock_hertz=gpu.sm_clock_hertz,
        throttle_reasons=gpu.throttle_reasons,
        compute_capability=gpu.compute_capability,
        pci_bus_id=gpu.pci_bus_id,
        processes=tuple(
            GpuProcess(pid=process.pid, used_bytes=process.used_bytes)
            for process in gpu.processes or ()
        ),
        at=0.0,
        boot_seconds=0.0,
    )


@pytest.mark.parametrize("host", ["p106x8", "a100x8", "a6000x2", "rtx3090"])
def test_every_field_of_every_shipped_host_is_read_to_the_byte(host: str, tmp_path: Path) -> None:
    """What the driver reports is what is read, in base units, idle and under load."""
    fake = FakeNvml(host, tmp_path)
    gpus = NvmlGpus(environment=fake.environment())
    try:
        idle = [timeless(gpu) for gpu in gpus.read()]
        assert idle == [expected(gpu) for gpu in fake.host.gpus]
        fake.set(
            0,
            utilization_ratio=0.97,
            temperature_celsius=83,
            power_watts=119.123,
            power_limit_watts=110.5,
            sm_clock_hertz=1.709e9,
            throttle_reasons=THROTTLE_REASONS,
        )
        fake.set_processes(0, {os.getpid(): 4_861_203_456, os.getppid(): None})
        loaded = [timeless(gpu) for gpu in gpus.read()]
        assert loaded == [expected(gpu) for gpu in fake.host.gpus]
    finally:
        gpus.close()


def test_a_reading_has_the_time_it_was_taken_at(nvml: NvmlGpus) -> None:
    """Wall time for people and CLOCK_BOOTTIME for arithmetic, both of this moment."""
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    gpu = nvml.read()[0]
    after = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before[0] <= gpu.at <= after[0]
    assert before[1] <= gpu.boot_seconds <= after[1]


def test_what_a_card_does_not_support_is_none(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """NotSupported is no error: the other fields and the other cards are read."""
    bare = GpuState(index=0, uuid="GPU-bare", name="bare")
    changes = {name: getattr(bare, name) for name in GpuState.__slots__ if name != "index"}
    fake.set(0, **changes)
    read = [timeless(gpu) for gpu in nvml.read()]
    assert read[0] == GpuReading(index=0, uuid="GPU-bare", name="bare", at=0.0, boot_seconds=0.0)
    assert read[1] == expected(fake.host.gpus[1])


def test_an_old_driver_counts_its_reserve_as_used(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """Without memory info v2 the first version answers, and the reserve is not known."""
    fake.set(0, memory_reserved_bytes=None)
    fake.set_processes(0, {os.getpid(): GIB})
    gpu = nvml.read()[0]
    assert (gpu.memory_used_bytes, gpu.memory_reserved_bytes) == (GIB, None)


def test_what_is_not_supported_is_not_asked_again(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """One card's lack is remembered for that card, and for as long as the child lives."""
    fake.set(0, power_watts=None)
    nvml.read()
    fake.set(0, power_watts=50.0)
    fake.set(1, power_watts=60.0)
    assert [gpu.power_watts for gpu in nvml.read()[:2]] == [None, 60.0]


def test_a_process_that_ended_is_not_reported(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """Its memory is free again, whether or not its parent has reaped it."""
    process = subprocess.Popen(("sleep", "60"))
    fake.set_processes(0, {process.pid: GIB})
    held = nvml.read()[0]
    assert (held.memory_used_bytes, held.processes) == (
        GIB,
        (GpuProcess(pid=process.pid, used_bytes=GIB),),
    )
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not reaped
    freed = nvml.read()[0]
    process.wait()
    assert (freed.memory_used_bytes, freed.processes) == (0, ())


def test_more_processes_than_a_guess_would_hold_are_all_read(
    fake: FakeNvml, nvml: NvmlGpus
) -> None:
    """The list grows with the number the driver names."""
    fake.set(3, processes=tuple(ProcessState(pid=1, used_bytes=at) for at in range(100)))
    processes = nvml.read()[3].processes
    assert processes is not None
    assert [process.used_bytes for process in processes] == list(range(100))
