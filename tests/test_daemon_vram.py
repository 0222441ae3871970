"""A start that waits for the VRAM of the process before it: how the GPUs are looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gpuctl.model import GpuProcess, GpuReading
from tests import make
from tests.fakes import FakeClock
from tests.stage import Stage

READINGS = 20


class Passing(threading.Event):
    """An event that is waited for in the fake time; before it passes the daemon has its turn."""

    def __init__(self, clock: FakeClock, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._clock, self._meanwhile = clock, meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        self._meanwhile()
        if not self.is_set():
            self._clock.advance(timeout or 0.0)
        return self.is_set()


class HeldStage(Stage):
    """A dead replica whose process stays on its GPU, which takes so long to be read."""

    def __init__(self, reading_seconds: float) -> None:
        super().__init__(make.plan(make.replica()))
        self.reading_seconds = reading_seconds
        self.began: list[float] = []
        self.ended: list[float] = []
        self.fakes.gpus.readings = (make.gpu(),)
        self.up()
        holder = GpuProcess(pid=1001, used_bytes=make.MIB, container="c1", name="llama-server")
        self.fakes.gpus.readings = (make.gpu(processes=[holder]),)
        self.fakes.runtime.die("c1", 1)
        self.pass_()
        self.fakes.gpus.read = self._read  # type: ignore[method-assign]
        sampler = self.daemon.sources._gpus
        sampler._hurry = Passing(self.fakes.clock, self._turn)
        sampler._ended = Passing(self.fakes.clock, self._turn)

    def _read(self) -> tuple[GpuReading, ...]:
        self.began.append(self.fakes.clock.seconds)
        self.fakes.clock.advance(self.reading_seconds)
        self.ended.append(self.fakes.clock.seconds)
        if len(self.began) == READINGS:
            self.daemon.sources._gpus.end()
        return self.fakes.gpus.readings

    def _turn(self) -> None:
        while not self.daemon._inbox.empty():
            self.daemon.step()


@pytest.mark.parametrize("reading_seconds", [0.0, 0.01, 0.2, 0.3, 1.0])
def test_the_gpus_are_read_four_times_a_second_and_no_more(reading_seconds: float) -> None:
    """The first is read at once; each is followed by one decision, and 250 ms later by the next."""
    stage = HeldStage(reading_seconds)
    assert stage.row()["reason"] == "vram_held"
    before = stage.fakes.store.status["seq"]
    stage.daemon.sources._gpus._run()
    pauses = [began - ended for began, ended in zip(stage.began[1:], stage.ended, strict=False)]
    assert pauses == pytest.approx([0.0, *[0.25] * (READINGS - 2)])
    assert stage.fakes.store.status["seq"] - before == READINGS
    assert stage.row()["reason"] == "vram_held"
