"""Xids as NVML tells them, and the silence that the worst of them ask for."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.adapters.clock import SystemClock
from gpuctl.adapters.nvml import NvmlGpus
from gpuctl.errors import GpuUnavailable
from gpuctl.model import Xid
from gpuctl.observe import Latest
from gpuctl.sources import Sources
from tests.adapters.nvml_bench import Clock, clock, fake, nvml
from tests.fakes import FakeWorld
from tests.rig.nvml import FakeNvml
from tests.rig.waiting import wait_for

__all__ = ["clock", "fake", "nvml"]

pytestmark = pytest.mark.nvml


def told(gpus: NvmlGpus, count: int = 1) -> list[tuple[int, str]]:
    """Wait for so many Xids; return the number and the card of each."""
    return [(xid.number, xid.gpu) for xid in heard(gpus, count)]


def heard(gpus: NvmlGpus, count: int = 1) -> list[Xid]:
    found: list[Xid] = []

    def enough() -> bool:
        found.extend(gpus.xids())
        return len(found) >= count

    wait_for(enough, "the Xids")
    return found


def test_an_xid_is_told_without_being_asked_for(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """It comes by itself, once, with the card's UUID and bus id, and the time it was heard."""
    uuids = [gpu.uuid for gpu in nvml.read()]
    fake.xid(2, 79)
    (xid,) = heard(nvml)
    assert replace(xid, at=0.0, boot_seconds=0.0) == Xid(
        number=79,
        gpu=uuids[2],
        pci_bus_id=fake.host.gpus[2].pci_bus_id,
        source="nvml",
        at=0.0,
        boot_seconds=0.0,
    )
    assert nvml.xids() == ()


def test_xids_between_two_readings_are_kept_in_order(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """A reading that comes in between takes none of them away."""
    uuids = [gpu.uuid for gpu in nvml.read()]
    for index, number in enumerate((13, 31, 94)):
        fake.xid(index, number)
        assert len(nvml.read()) == 8
    assert told(nvml, 3) == [(13, uuids[0]), (31, uuids[1]), (94, uuids[2])]


def test_an_xid_follows_its_card_to_another_place(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """It is told of the UUID, wherever that is enumerated now."""
    nvml.read()
    fake.shuffle()
    nvml.read()
    fake.xid(0, 48)
    assert told(nvml) == [(48, fake.host.gpus[0].uuid)]


def test_a_card_that_came_back_is_heard_again(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """It is registered anew when it answers again."""
    nvml.read()
    fake.lose(1)
    nvml.read()
    fake.release()
    before = fake.called("nvmlDeviceRegisterEvents")
    nvml.read()
    assert fake.called("nvmlDeviceRegisterEvents") == before + 1
    fake.xid(1, 94)
    assert told(nvml) == [(94, fake.host.gpus[1].uuid)]


def test_a_card_without_events_does_not_silence_the_others(fake: FakeNvml, nvml: NvmlGpus) -> None:
    """NotSupported by one card leaves the set usable."""
    fake.deaf(0)
    nvml.read()
    fake.xid(0, 31)
    fake.xid(7, 31)
    assert told(nvml) == [(31, fake.host.gpus[7].uuid)]


def test_after_an_event_what_ages_is_read_at_once(tmp_path: Path) -> None:
    """A double-bit error is counted in the reading that follows it, not a minute later."""
    fake = FakeNvml("a100x8", tmp_path)
    with closing(NvmlGpus(environment=fake.environment())) as gpus:
        gpus.read()
        fake.set(4, ecc_uncorrected_volatile=1)
        counted = [_double_bit_errors(gpus)]
        fake.xid(4, 48)
        told(gpus)
        counted.append(_double_bit_errors(gpus))
    assert counted == [0, 1]


def _double_bit_errors(gpus: NvmlGpus) -> int | None:
    health = gpus.read()[4].health
    assert health is not None
    return health.ecc_uncorrected_volatile


@pytest.fixture
def doubted(nvml: NvmlGpus) -> NvmlGpus:
    """A reader that was told that its GPUs may hang whoever asks."""
    nvml.read()
    nvml.distrust("Xid 119 of GPU 3")
    return nvml


def refused(gpus: NvmlGpus) -> str:
    with pytest.raises(GpuUnavailable) as raised:
        gpus.read()
    return raised.value.message


def test_a_distrusted_nvml_is_not_called_at_all(
    fake: FakeNvml, doubted: NvmlGpus, clock: Clock
) -> None:
    """Not one call is made until the probe, which reads everything when it is answered."""
    before = fake.called()
    for seconds in (0.0, 2.0, 2.9):
        clock.now += seconds
        assert refused(doubted) == "NVML: not asked since Xid 119 of GPU 3"
        assert doubted.xids() == ()
    assert (fake.called(), doubted.child_pid) == (before, None)
    clock.now += 0.1
    assert len(doubted.read()) == 8
    assert fake.called() > before


def test_a_probe_that_hangs_is_followed_by_another_after_60_then_300_seconds(
    fake: FakeNvml, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a process of its own, given up when it has had its time."""
    monkeypatch.setattr("gpuctl.adapters.nvml.gpus._PROBE_SECONDS", 1.0)
    with closing(NvmlGpus(environment=fake.environment(), clock=clock)) as gpus:
        gpus.read()
        gpus.distrust("Xid 79 of GPU 0")
        fake.hang("nvmlDeviceGetCount")
        for wait in (5.0, 60.0, 300.0):
            clock.now += wait - 0.1
            before = fake.called("nvmlInitWithFlags")
            refused(gpus)
            assert fake.called("nvmlInitWithFlags") == before
            clock.now += 0.1
            refused(gpus)
            assert (fake.called("nvmlInitWithFlags"), gpus.child_pid) == (before + 1, None)
        fake.release()
        clock.now += 300
        assert len(gpus.read()) == 8


def test_doubt_while_doubted_begins_nothing_anew(doubted: NvmlGpus, clock: Clock) -> None:
    """The kernel's line and NVML's event of one Xid are one reason to be silent."""
    clock.now += 4.9
    doubted.distrust("Xid 79 of GPU 1")
    assert refused(doubted) == "NVML: not asked since Xid 119 of GPU 3"
    clock.now += 0.1
    assert len(doubted.read()) == 8


def test_a_card_that_was_lost_is_named_after_the_probe(
    fake: FakeNvml, doubted: NvmlGpus, clock: Clock
) -> None:
    """The silence forgets nothing of who was there."""
    fake.lose(3)
    clock.now += 5
    lost = doubted.read()[3]
    assert (lost.uuid, lost.state) == (fake.host.gpus[3].uuid, "lost")


def test_an_xid_is_on_the_board_within_two_seconds_and_silences_the_reader(
    fake: FakeNvml, nvml: NvmlGpus, clock: Clock
) -> None:
    """Through the daemon's own threads, as fast as they go; then NVML is not called once."""
    fakes, latest = FakeWorld(), Latest()
    world = replace(fakes.world, gpus=nvml, clock=SystemClock())
    sources = Sources(world, latest, lambda _: None, 0.1)
    sources.begin()
    try:
        wait_for(lambda: latest.gpus, "the first reading")
        told_at = time.monotonic()
        fake.xid(2, 79)
        wait_for(lambda: latest.xids, "the Xid")
        assert time.monotonic() - told_at < 2.0
        wait_for(lambda: "gpus" in latest.errors, "the silence")
        before = fake.called()
        for _ in range(5):  # readings that are refused
            sources.gpus.sample()
        assert fake.called() == before
        clock.now += 5
        wait_for(lambda: "gpus" not in latest.errors, "the probe")
    finally:
        sources.end()
    assert [(xid.number, xid.gpu) for xid in latest.xids] == [(79, fake.host.gpus[2].uuid)]
    assert fake.called() > before
