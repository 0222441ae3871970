"""The readings under the real NVML binding, on a driver that a test breaks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import gpuctl
from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.errors import GpuUnavailable
from gpuctl.host_state import THROTTLE_REASONS, GpuState, ProcessState
from gpuctl.model import GpuProcess, GpuReading
from tests.rig.nvml import FakeNvml
from tests.rig.processes import lives
from tests.rig.waiting import wait_for

pytestmark = pytest.mark.nvml

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


def test_a_lost_gpu_is_lost_alone_and_comes_back(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """The other seven are read as before, and the lost one keeps its name and place."""
    healthy = nvml.read()
    fake.lose(3)
    lost = nvml.read()
    assert (lost[3].uuid, lost[3].state, lost[3].memory_total_bytes, lost[3].processes) == (
        healthy[3].uuid,
        "lost",
        6 * GIB,
        None,
    )
    others = [timeless(gpu) for gpu in lost if gpu.index != 3]
    assert others == [timeless(gpu) for gpu in healthy if gpu.index != 3]
    fake.release()
    assert [timeless(gpu) for gpu in nvml.read()] == [timeless(gpu) for gpu in healthy]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(999, id="unknown"),  # nvidia-smi: "Unable to determine the device handle"
        pytest.param(8, id="insufficient-power"),
        pytest.param(10, id="interrupts"),
        pytest.param(4, id="no-permission"),
        pytest.param(2, id="no-such-index-any-more"),
    ],
)
def test_a_gpu_that_cannot_be_asked_is_lost_alone(
    fake: FakeNvml, nvml: NvmlGpus, code: int
) -> None:
    """Whatever NVML answers for one card, the others are read, and it keeps its name and place."""
    healthy = [timeless(gpu) for gpu in nvml.read()]
    fake.fail(5, code)
    found = [timeless(gpu) for gpu in nvml.read()]
    assert found[:5] + found[6:] == healthy[:5] + healthy[6:]
    named = (found[5].index, found[5].uuid, found[5].name, found[5].state)
    assert named == (5, healthy[5].uuid, healthy[5].name, "lost")
    fake.release()
    assert [timeless(gpu) for gpu in nvml.read()] == healthy


def test_a_failure_of_every_gpu_is_the_drivers(
    fake: FakeNvml, nvml: NvmlGpus, clock: Clock
) -> None:
    """Where no card can be asked and none is lost, nothing is known, and nothing is called lost."""
    nvml.read()
    for index in range(8):
        fake.fail(index, 4)
    with pytest.raises(GpuUnavailable) as raised:
        nvml.read()
    assert raised.value.message == "NVML: no permission"
    assert "/dev/nvidia0" in raised.value.hint
    fake.release()
    clock.now += 10
    assert len(nvml.read()) == 8


def test_a_failure_of_the_driver_is_never_one_cards(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """A driver that is unloaded under us fails the reading, whichever card it was asked about."""
    nvml.read()
    fake.fail(7, 9)
    with pytest.raises(GpuUnavailable, match="the driver is not loaded"):
        nvml.read()


def test_with_the_others_lost_a_gpu_that_cannot_be_asked_is_lost_too(
    fake: FakeNvml, nvml: NvmlGpus
) -> None:
    """One card that is off the bus for certain tells that the driver itself answers."""
    nvml.read()
    fake.fail(0, 999)
    for index in range(1, 8):
        fake.lose(index)
    assert {gpu.state for gpu in nvml.read()} == {"lost"}


def test_another_order_moves_every_reading_with_its_uuid(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """An index is only a place: what is known of a card follows its UUID."""
    fake.set(0, temperature_celsius=77)
    before = {gpu.uuid: gpu.temperature_celsius for gpu in nvml.read()}
    first = nvml.read()[0].uuid
    fake.shuffle()
    after = nvml.read()
    assert {gpu.uuid: gpu.temperature_celsius for gpu in after} == before
    assert [gpu.index for gpu in after] == list(range(8))
    assert after[0].uuid != first


def test_a_gpu_that_is_gone_is_not_in_the_list(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """Seven of eight are seven readings; who is missing is for the plan to say."""
    uuids = [gpu.uuid for gpu in nvml.read()]
    fake.remove(2)
    assert [gpu.uuid for gpu in nvml.read()] == [*uuids[:2], *uuids[3:]]


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCount", "nvmlDeviceGetPowerUsage"]
)
def test_a_hung_call_ends_in_an_error_in_time_and_in_a_reading_after_release(
    fake: FakeNvml, clock: Clock, call: str
) -> None:
    """Whichever call hangs, the reader lives, and a new child reads once the driver does."""
    with closing(
        NvmlGpus(environment=fake.environment(), deadline_seconds=0.5, clock=clock)
    ) as nvml:
        _hang_and_release(fake, nvml, clock, call)


def _hang_and_release(fake: FakeNvml, nvml: NvmlGpus, clock: Clock, call: str) -> None:
    wait_for(lambda: _read(nvml), "the first child")
    hung = nvml.child_pid
    fake.hang(call)
    before = time.monotonic()
    with pytest.raises(GpuUnavailable, match=r"NVML: no answer for 500 ms"):
        nvml.read()
    assert time.monotonic() - before < 2.5
    assert hung is not None
    wait_for(lambda: not lives(hung), "the hung child to be killed")
    fake.release()
    with pytest.raises(GpuUnavailable):
        nvml.read()
    clock.now += 60
    assert len(wait_for(lambda: _read(nvml), "the second child")) == 8


def _read(nvml: NvmlGpus) -> tuple[GpuReading, ...]:
    """Return the reading, () where a child that starts has not had its time."""
    try:
        return nvml.read()
    except GpuUnavailable:
        return ()


def test_a_slow_driver_within_the_deadline_is_no_fault(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """Latency is not a hang."""
    fake.slow("nvmlDeviceGetCount", 0.3)
    assert len(nvml.read()) == 8


def test_a_mismatch_says_reboot_and_is_over_when_it_is(
    fake: FakeNvml, nvml: NvmlGpus, clock: Clock
) -> None:
    """The driver was upgraded under a loaded module: nothing but a reboot mends it."""
    fake.mismatch()
    with pytest.raises(GpuUnavailable) as raised:
        nvml.read()
    assert raised.value.message == "NVML: driver and library are of different versions"
    assert "reboot" in raised.value.hint
    fake.release()
    clock.now += 10
    assert len(nvml.read()) == 8


def test_a_killed_child_costs_no_reading(nvml: NvmlGpus) -> None:
    """The next read starts another."""
    nvml.read()
    first = nvml.child_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert len(nvml.read()) == 8
    assert nvml.child_pid != first


def test_two_hundred_reads_leave_nothing_behind(nvml: NvmlGpus) -> None:
    """Neither descriptors nor processes, though the child is killed now and then."""
    nvml.read()
    before = _descriptors(), _children()
    for count in range(200):
        if count % 50 == 25 and nvml.child_pid is not None:
            os.kill(nvml.child_pid, signal.SIGKILL)
        assert len(nvml.read()) == 8
    assert (_descriptors(), _children()) == before


def altered(fake: FakeNvml, how: str) -> NvmlGpus:
    """A reader whose child runs this line of Python before it begins."""
    code = f"import os; from gpuctl.adapters.nvml import child; {how}; child.main()"
    # The package under test, wherever the child is started.
    environment = fake.environment() | {"PYTHONPATH": str(Path(gpuctl.__file__).parents[1])}
    return NvmlGpus(environment=environment, command=(sys.executable, "-c", code))


def test_with_a_card_lost_the_child_is_renewed_in_time(fake: FakeNvml) -> None:
    """A card that is back is seen by a new initialisation only, so one takes place now and then."""
    gpus = altered(fake, "child._LOST_SECONDS = 0.0")
    try:
        assert len(gpus.read()) == 8
        first = gpus.child_pid
        gpus.read()
        assert gpus.child_pid == first
        fake.lose(0)
        gpus.read()
        gpus.read()
        assert gpus.child_pid != first
    finally:
        gpus.close()


def test_what_the_library_prints_is_no_answer(fake: FakeNvml) -> None:
    """A driver that writes to standard output does not break the conversation."""
    gpus = altered(
        fake,
        "init = child.pynvml.nvmlInit;"
        "child.pynvml.nvmlInit = lambda: os.write(1, b'noise') and init()",
    )
    try:
        assert len(gpus.read()) == 8
    finally:
        gpus.close()


@pytest.mark.usefixtures("unmeasured")
def test_the_child_is_small(nvml: NvmlGpus) -> None:
    """It holds under 24 MB, the interpreter and the binding; 15.8 MB were measured."""
    nvml.read()
    status = Path(f"/proc/{nvml.child_pid}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) < 24 * 1024


def test_the_child_ends_with_a_reader_that_was_killed(fake: FakeNvml) -> None:
    """A daemon that dies by SIGKILL leaves no reader of NVML behind."""
    code = (
        "import os; from gpuctl.adapters.nvml import NvmlGpus; gpus = NvmlGpus(); gpus.read();"
        "print(gpus.child_pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run(
        (sys.executable, "-c", code),
        env=fake.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    wait_for(lambda: not lives(int(ended.stdout)), "the child to end")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> int:
    """Count the processes below this one, ended ones that nobody reaped among them."""
    paths = Path("/proc/self/task").glob("*/children")
    return sum(len(path.read_text().split()) for path in paths)
