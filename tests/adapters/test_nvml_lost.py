"""Cards that are lost, moved or gone, and how they are told from a broken driver."""

from __future__ import annotations

import pytest

from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.errors import GpuUnavailable
from tests.adapters.nvml_bench import GIB, Clock, clock, fake, nvml, timeless
from tests.rig.nvml import FakeNvml

__all__ = ["clock", "fake", "nvml"]

pytestmark = pytest.mark.nvml


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


def test_a_mismatch_says_reboot_and_is_over_when_it_is(
    fake: FakeNvml, nvml: NvmlGpus, clock: Clock
) -> None:
    """The driver was upgraded under a loaded module: nothing but a reboot mends it."""
    fake.mismatch()
    with pytest.raises(GpuUnavailable) as raised:
        nvml.read()
    assert raised.value.message == "NVML: driver/library version mismatch"
    assert "reboot" in raised.value.hint
    fake.release()
    clock.now += 10
    assert len(nvml.read()) == 8
