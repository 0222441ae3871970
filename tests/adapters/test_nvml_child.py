"""The child that holds the driver: hung, killed, renewed, small, and gone with its reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import gpuctl
from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.errors import GpuUnavailable
from gpuctl.model import GpuReading
from tests.adapters.nvml_bench import Clock, clock, fake, nvml
from tests.rig.nvml import FakeNvml
from tests.rig.processes import lives
from tests.rig.waiting import wait_for

__all__ = ["clock", "fake", "nvml"]

pytestmark = pytest.mark.nvml


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
    code = f"import os; from gpuctl.adapters.nvml.child import loop; {how}; loop.main()"
    # The package under test, wherever the child is started.
    environment = fake.environment() | {"PYTHONPATH": str(Path(gpuctl.__file__).parents[1])}
    return NvmlGpus(environment=environment, command=(sys.executable, "-c", code))


def test_with_a_card_lost_the_child_is_renewed_in_time(fake: FakeNvml) -> None:
    """A card that is back is seen by a new initialisation only, so one takes place now and then."""
    gpus = altered(fake, "loop._LOST_SECONDS = 0.0")
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
        "init = loop.pynvml.nvmlInit;"
        "loop.pynvml.nvmlInit = lambda: os.write(1, b'noise') and init()",
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
