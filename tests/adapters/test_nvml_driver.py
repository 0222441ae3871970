"""The readings under the real NVML binding: every field of every card."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import host_state
from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.host_state import THROTTLE_REASONS, GpuState, ProcessState
from gpuctl.model import GpuFacts, GpuHealth, GpuProcess, GpuReading
from tests.adapters.nvml_bench import GIB, clock, expected, fake, nvml, timeless
from tests.rig.nvml import FakeNvml

__all__ = ["clock", "fake", "nvml"]

pytestmark = pytest.mark.nvml


#: What no shipped card has, each number another.
SICK: dict[str, Any] = {
    "ecc_corrected_volatile": 3,
    "ecc_uncorrected_volatile": 4,
    "ecc_corrected_aggregate": 2**40,
    "ecc_uncorrected_aggregate": 6,
    "remapped_rows_correctable": 7,
    "remapped_rows_uncorrectable": 8,
    "remapped_rows_pending": True,
    "remapped_rows_failure": False,
    "retired_pages_pending": True,
    "pcie_generation": 2,
    "pcie_width": 4,
    "pcie_replays": 17,
    "recovery_action": "drain_and_reset",
    "energy_joules": 123_456_789.125,
    "serial": "0420218012345",
    "architecture": "turing",
    "minor_number": 31,
    "numa_node": 70,
    "mig_enabled": True,
    "ecc_enabled": True,
    "memory_temperature_max_celsius": 105,
}


@pytest.mark.parametrize("host", ["p106x8", "a100x8", "a6000x2", "rtx3090"])
def test_every_field_of_every_shipped_host_is_read_to_the_byte(host: str, tmp_path: Path) -> None:
    """What the driver reports is what is read, in base units, idle and under load."""
    fake = FakeNvml(host, tmp_path)
    gpus = NvmlGpus(environment=fake.environment())
    try:
        idle = [timeless(gpu) for gpu in gpus.read()]
        assert idle == [expected(fake.host, gpu) for gpu in fake.host.gpus]
        fake.set(
            0,
            utilization_ratio=0.97,
            temperature_celsius=83,
            power_watts=119.123,
            power_limit_watts=110.5,
            sm_clock_hertz=1.709e9,
            memory_clock_hertz=4.004e9,
            memory_utilization_ratio=0.57,
            memory_temperature_celsius=104,
            fan_ratio=0.29,
            performance_state=2,
            throttle_reasons=THROTTLE_REASONS,
            **SICK,
        )
        fake.set_processes(0, {os.getpid(): 4_861_203_456, os.getppid(): None})
        gpus.close()  # what is read once, or was not supported, is asked by the next child
        loaded = [timeless(gpu) for gpu in gpus.read()]
        assert loaded == [expected(fake.host, gpu) for gpu in fake.host.gpus]
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
    driver = GpuFacts(driver_version="570.195.03", cuda_version=(12, 8))
    assert read[0] == GpuReading(
        index=0,
        uuid="GPU-bare",
        name="bare",
        facts=replace(driver, peers=host_state.facts(fake.host, fake.host.gpus[0]).peers),
        health=GpuHealth(),
        at=0.0,
        boot_seconds=0.0,
    )
    assert read[1] == expected(fake.host, fake.host.gpus[1])


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


def test_who_draws_is_read_beside_who_computes(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """Xorg or a game holds VRAM too; NVML lists it apart, and who does both twice."""
    fake.set(
        0,
        processes=(
            ProcessState(pid=os.getppid(), used_bytes=3 * GIB, type="G"),
            ProcessState(pid=os.getpid(), used_bytes=2 * GIB, type="C+G"),
            ProcessState(pid=1, used_bytes=GIB),
        ),
    )
    assert nvml.read()[0].processes == (
        GpuProcess(pid=os.getpid(), used_bytes=2 * GIB),
        GpuProcess(pid=1, used_bytes=GIB),
        GpuProcess(pid=os.getppid(), used_bytes=3 * GIB),
    )


def test_a_driver_before_r510_is_asked_who_draws_by_its_own_name(
    fake: FakeNvml, nvml: NvmlGpus
) -> None:
    """The third version is missing for good, so that each card is asked for it once."""
    fake.lack("nvmlDeviceGetGraphicsRunningProcesses_v3")
    fake.set(0, processes=(ProcessState(pid=1, used_bytes=GIB, type="G"),))
    found = [nvml.read()[0].processes for _ in range(2)]
    assert found == [(GpuProcess(pid=1, used_bytes=GIB),)] * 2
    assert fake.called("nvmlDeviceGetGraphicsRunningProcesses_v3") == 8


def test_a_driver_that_tells_nothing_of_drawing_tells_who_computes(
    fake: FakeNvml, nvml: NvmlGpus
) -> None:
    """A list that is lacking hides nobody of the other, and each card is asked for it once."""
    fake.lack("nvmlDeviceGetGraphicsRunningProcesses")
    fake.set_processes(0, {1: GIB})
    found = [nvml.read()[0].processes for _ in range(3)]
    assert found == [(GpuProcess(pid=1, used_bytes=GIB),)] * 3
    function = "nvmlDeviceGetGraphicsRunningProcesses"
    assert [fake.called(f"{function}_v3"), fake.called(f"{function}_v2")] == [8, 8]


def test_without_the_list_of_who_computes_no_process_is_reported(
    fake: FakeNvml, nvml: NvmlGpus
) -> None:
    """Those that draw are not all: an engine would seem to hold nothing."""
    fake.lack("nvmlDeviceGetComputeRunningProcesses")
    fake.set(0, processes=(ProcessState(pid=1, used_bytes=GIB, type="G"),))
    assert nvml.read()[0].processes is None


@pytest.mark.parametrize(
    "function",
    [
        pytest.param("nvmlDeviceGetMemoryInfo_v2", id="memory-before-r510"),
        pytest.param("nvmlDeviceGetComputeRunningProcesses_v3", id="processes-before-r510"),
        pytest.param("nvmlDeviceGetCurrentClocksEventReasons", id="reasons-before-r535"),
    ],
)
def test_an_old_driver_is_asked_by_its_own_names(
    fake: FakeNvml, nvml: NvmlGpus, function: str
) -> None:
    """A function that the library lacks has an elder that tells the same."""
    fake.lack(function)
    fake.set(0, memory_reserved_bytes=0, throttle_reasons=("sw_thermal",))
    fake.set_processes(0, {os.getpid(): GIB})
    gpu = nvml.read()[0]
    assert (gpu.memory_used_bytes, gpu.throttle_reasons, gpu.processes) == (
        GIB,
        ("sw_thermal",),
        (GpuProcess(pid=os.getpid(), used_bytes=GIB),),
    )


def test_a_driver_that_lacks_most_functions_is_read_for_the_others(
    fake: FakeNvml, nvml: NvmlGpus
) -> None:
    """Whatever is missing is None, asked for once by each card, and hides nothing else."""
    lacking = (
        "nvmlDeviceGetFieldValues",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlEventSetCreate",
    )
    for function in lacking:
        fake.lack(function)
    nvml.read()
    gpu = nvml.read()[3]
    assert gpu.facts is not None
    assert (gpu.temperature_celsius, gpu.facts.driver_version, gpu.facts.cuda_version) == (
        34.0,
        "570.195.03",
        None,
    )
    # Two ids asked for apart: what is read each time, and what is read each minute.
    assert [fake.called(function) for function in lacking] == [8, 1, 1]


def test_limits_told_as_margins_are_read_as_temperatures(tmp_path: Path) -> None:
    """Cards from Ada on tell how far they are from a limit, not where it is."""
    fake = FakeNvml("rtx3090", tmp_path)
    fake.set(0, architecture="ada", temperature_celsius=51)
    with closing(NvmlGpus(environment=fake.environment())) as gpus:
        facts = gpus.read()[0].facts
    assert facts == host_state.facts(fake.host, fake.host.gpus[0])


def test_the_tiers_of_what_is_read(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """Who a card is is asked once, what ages by the minute, the rest each time."""
    for _ in range(3):
        nvml.read()
    assert [
        fake.called(function)
        for function in (
            "nvmlDeviceGetTemperature",
            "nvmlDeviceGetCurrPcieLinkWidth",
            "nvmlDeviceGetName",
            "nvmlDeviceGetTopologyCommonAncestor",
        )
    ] == [24, 8, 8, 56]
