"""What simulated GPUs and their host hold, and when they cannot be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import host_state
from gpuctl.adapters.simulated import SimulatedHost
from gpuctl.checks import gpu_driver
from gpuctl.errors import GpuUnavailable, RuntimeUnavailable
from gpuctl.gpu_sampler import GpuSource
from gpuctl.host_state import ProcessState, XidState
from gpuctl.model import GIB, MIB, GpuProcess, Xid
from gpuctl.observe import Latest
from tests import make
from tests.adapters.nvml_bench import expected, timeless
from tests.adapters.simulated_bench import CARD, HostFile, Stage, file, probe, stage
from tests.fakes import FakeClock

__all__ = ["file", "stage"]

#: A replica whose VRAM no plan knows: a quarter of a card would leave nothing for the driver.
VRAM = int(0.22 * 6 * GIB)


def test_vram_grows_with_the_load(stage: Stage) -> None:
    """A container's process is on its GPU, holds more while it loads, and is known as its own."""
    container = stage.start()
    stage.clock.advance(5)
    (half,) = stage.held()
    stage.clock.advance(50)
    (whole,) = stage.held()
    assert (half.used_bytes, whole.used_bytes) == (VRAM // 2, VRAM)
    assert (whole.container, whole.name) == (container, "llama.cpp")
    assert stage.host.host.container_of(whole.pid) == container
    assert stage.host.host.name_of(whole.pid) == "llama.cpp"
    assert [gpu.memory_used_bytes for gpu in stage.host.gpus.read()] == [VRAM, 0]


def test_a_replica_holds_what_was_planned_for_it(stage: Stage) -> None:
    """Of each of its GPUs, and growing with the load; what others hold is added."""
    planned = 5 * GIB + 1
    stage.start(gpus=("GPU-0", "GPU-1"), vram_bytes=planned)
    stage.clock.advance(5)
    assert [gpu.memory_used_bytes for gpu in stage.host.gpus.read()] == [planned // 2] * 2
    stage.clock.advance(5)
    stage.start("embed-0", 8091, vram_bytes=MIB)
    stage.clock.advance(10)
    used = [gpu.memory_used_bytes for gpu in stage.host.gpus.read()]
    assert used == [planned + MIB, planned]


def test_memory_grows_with_the_load(stage: Stage) -> None:
    """Half of the limit is held at last, and the host has that much less."""
    stage.loaded()
    assert stage.runtime.list()[0].memory_bytes == GIB // 2
    assert stage.host.host.read().memory_available_bytes == 16 * GIB - GIB // 2


def test_vram_lost(stage: Stage) -> None:
    """Health stays good, the process is off the GPU, and no canary speaks for it."""
    stage.loaded()
    stage.file.fault("chat-0", "vram_lost")
    assert (stage.ask(), stage.held(), stage.prober.canary(probe())) == ("ok", [], False)


def test_strangers_and_owners_of_the_file(stage: Stage) -> None:
    """A process of the file is a stranger's, or a replica's where it names one that runs."""
    container = stage.start()
    mine = ProcessState(pid=7, used_bytes=MIB, container="chat-0", name="worker")
    other = ProcessState(pid=8, used_bytes=MIB, name="blender")
    stage.file.write(gpus=(replace(CARD, processes=(mine, other)),))
    assert stage.held()[:2] == [
        GpuProcess(pid=7, used_bytes=MIB, container=container, name="worker"),
        GpuProcess(pid=8, used_bytes=MIB, name="blender"),
    ]
    assert (stage.host.host.name_of(8), stage.host.host.container_of(8)) == ("blender", None)
    assert stage.host.host.name_of(9) is None


def test_a_lost_gpu_tells_nothing(stage: Stage) -> None:
    """A GPU off the bus is listed as lost, without a number."""
    stage.file.write(gpus=(replace(CARD, lost=True, temperature_celsius=90.0),))
    (gpu,) = stage.host.gpus.read()
    assert (gpu.state, gpu.temperature_celsius, gpu.processes) == ("lost", None, None)


@pytest.mark.parametrize("name", ["p106x8", "a100x8", "a6000x2", "rtx3090"])
def test_every_field_of_every_shipped_host_is_read(name: str) -> None:
    """A simulated card reads as the same one does through NVML."""
    clock = FakeClock()
    simulated = SimulatedHost(name, clock=clock).gpus.read()
    host = host_state.read(host_state.find(name))
    assert [timeless(gpu) for gpu in simulated] == [expected(host, gpu) for gpu in host.gpus]
    assert {(gpu.at, gpu.boot_seconds) for gpu in simulated} == {(clock.wall, clock.seconds)}


def test_an_xid_in_the_file_is_told_once(stage: Stage) -> None:
    """It is as old as the edit that brought it; what is in the file later is told later."""
    stage.file.write(xids=(XidState(gpu=1, number=31, source="kernel", pid=7, message="fault"),))
    at = stage.file.path.stat().st_mtime
    boot_seconds = stage.clock.seconds - (stage.clock.wall - at)
    first = Xid(
        number=31, gpu="GPU-1", source="kernel", pid=7, message="fault", at=at,
        boot_seconds=boot_seconds,
    )  # fmt: skip
    assert (stage.host.gpus.xids(), stage.host.gpus.xids()) == ((first,), ())
    stage.file.write(xids=(XidState(gpu=1, number=31), XidState(gpu=0, number=79)))
    assert [(xid.number, xid.gpu, xid.source) for xid in stage.host.gpus.xids()] == [
        (79, "GPU-0", "nvml")
    ]


def test_a_restarted_daemon_is_told_no_xid_again(file: HostFile, tmp_path: Path) -> None:
    """As a real driver tells what happens, and not what has happened; unless it happens anew."""
    stage = Stage(file, tmp_path / "state")
    stage.file.write(xids=(XidState(gpu=0, number=79),))
    assert [xid.number for xid in stage.host.gpus.xids()] == [79]
    stage.born()
    assert stage.host.gpus.xids() == ()
    stage.file.write(xids=(XidState(gpu=0, number=79), XidState(gpu=1, number=13)))
    stage.born()
    assert [xid.number for xid in stage.host.gpus.xids()] == [13]
    stage.file.write(xids=())
    assert stage.host.gpus.xids() == ()
    stage.file.write(xids=(XidState(gpu=0, number=79),))
    assert [xid.number for xid in stage.host.gpus.xids()] == [79]


def test_an_xid_that_cannot_be_noted_is_told_later(file: HostFile, tmp_path: Path) -> None:
    """A full or lost state directory holds it up, and loses none."""
    state = tmp_path / "state"
    stage = Stage(file, state)
    stage.file.write(xids=(XidState(gpu=0, number=79),))
    state.write_text("in the way")
    assert stage.host.gpus.xids() == ()
    state.unlink()
    assert [xid.number for xid in stage.host.gpus.xids()] == [79]


def test_a_file_that_cannot_be_read_tells_no_xid(stage: Stage) -> None:
    """The reading says what is wrong with it, and what was not told comes later."""
    stage.file.put("{")
    assert stage.host.gpus.xids() == ()
    stage.file.write(xids=(XidState(gpu=0, number=48),))
    assert [xid.number for xid in stage.host.gpus.xids()] == [48]


def test_a_simulated_driver_is_asked_on(stage: Stage) -> None:
    """It hangs where its file says so, and not because of an Xid."""
    stage.host.gpus.distrust("Xid 79 of GPU-0")
    assert len(stage.host.gpus.read()) == 2


def test_what_a_card_does_not_report_is_none(stage: Stage) -> None:
    """`null` in the file is None in the reading, also where containers run on the card."""
    stage.start()
    bare = replace(CARD, processes=None, memory_total_bytes=None)
    stage.file.write(gpus=(bare,))
    (gpu,) = stage.host.gpus.read()
    assert (gpu.processes, gpu.memory_used_bytes, gpu.power_watts) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "words", "reason"),
    [
        pytest.param({"init_error": 18}, "error 18", "driver_mismatch", id="mismatch"),
        pytest.param({"init_error": 9}, "error 9", "driver_not_loaded", id="not-loaded"),
        pytest.param({"driver_version": None}, "no driver", "driver_not_loaded", id="no-driver"),
        pytest.param({"calls": {"nvmlInit_v2": "hang"}}, "nvmlInit_v2", "nvml_hung", id="hang"),
        pytest.param({"calls": {"nvmlInit_v2": 6.0}}, "nvmlInit_v2", "nvml_hung", id="late"),
    ],
)
def test_gpus_that_cannot_be_read(
    stage: Stage, fields: dict[str, Any], words: str, reason: str
) -> None:
    """A broken, missing or hung driver is an error at once, and judged as a real one is."""
    stage.file.write(**fields)
    with pytest.raises(GpuUnavailable, match=words):
        stage.host.gpus.read()
    latest = Latest()
    GpuSource(stage.host.gpus, stage.host.host, stage.clock, latest, lambda _: None).sample()
    now = replace(make.snapshot(), errors=latest.errors)
    assert [verdict.reason for verdict in gpu_driver.CHECK.run(make.scene(now))] == [reason]


def test_a_slow_call_within_its_deadline_is_read(stage: Stage) -> None:
    """What takes a second is answered; what the library lacks has an elder."""
    stage.file.write(calls={"nvmlInit_v2": 1.0, "nvmlDeviceGetMemoryInfo_v2": "missing"})
    assert len(stage.host.gpus.read()) == 2


def test_a_bad_edit_is_a_source_that_cannot_be_read(stage: Stage) -> None:
    """Nothing is known until the file is mended, and then everything runs as before."""
    container = stage.loaded()
    stage.file.put("{")
    with pytest.raises(RuntimeUnavailable, match="not JSON"):
        stage.runtime.list()
    with pytest.raises(GpuUnavailable, match="not JSON"):
        stage.host.gpus.read()
    assert (stage.ask(), stage.prober.canary(probe())) == ("error", False)
    stage.file.write()
    assert [found.id for found in stage.runtime.list()] == [container]
