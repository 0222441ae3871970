"""An Xid through a whole daemon: an Event once, before anything is judged by it."""

from __future__ import annotations

import time
from typing import Any

from gpuctl.model import Xid
from tests import make
from tests.make import AT, NOW
from tests.stage import Stage

BUS = "00000000:01:00.0"


def stage() -> Stage:
    made = Stage()
    made.fakes.gpus.readings = (make.gpu(pci_bus_id=BUS),)
    return made


def line(number: int = 31, after: float = 1.0, **fields: Any) -> Xid:
    """A line of the kernel, so many seconds after the stage was set."""
    at, boot_seconds = AT + after, NOW + after
    return Xid(
        number=number, pci_bus_id=BUS, source="kernel", at=at, boot_seconds=boot_seconds, **fields
    )


def begun(stage: Stage) -> Stage:
    """A daemon that has said that it started, a while ago."""
    stage.daemon._say("started", {})
    stage.pass_(10)
    return stage


def test_an_xid_of_the_kernel_is_an_event_with_its_gpu() -> None:
    """Its subject is the GPU, its reason the number, its time that of the line."""
    played = begun(stage())
    played.fakes.kernel_log.told = (line(pid=7, message="MMU Fault"),)
    played.pass_()
    assert played.tale("xid", subject="GPU-0") == ["xid 31"]
    (event,) = (event for event in played.fakes.store.stored if event.kind == "xid")
    assert (event.evidence["pid"], event.boot_seconds) == (7, NOW + 1)
    assert played.daemon.journal.history.gpu("GPU-0").xids[0].number == 31


def test_a_restarted_daemon_tells_no_xid_again() -> None:
    """It reads the log from the beginning, and remembers."""
    played = begun(stage())
    told = (line(31), line(48, 2.0))
    played.fakes.kernel_log.told = told
    played.pass_()
    played.born()
    begun(played)
    played.fakes.kernel_log.told = told
    played.pass_(3)
    assert played.tale("xid") == ["xid 31", "xid 48"]


def test_what_came_while_no_daemon_ran_is_told_by_the_next() -> None:
    """The log has it, and the history begins before it."""
    played = begun(stage())
    played.fakes.clock.advance(600)
    played.born()
    begun(played)
    played.fakes.kernel_log.told = (line(79, 300.0),)
    played.pass_()
    assert played.tale("xid") == ["xid 79"]


def test_a_fresh_journal_begins_now() -> None:
    """What the log has of before the first start of all is nobody's news."""
    played = begun(stage())
    played.fakes.kernel_log.told = (line(79, -60.0), line(48, 5.0))
    played.pass_()
    assert played.tale("xid") == ["xid 48"]


def test_an_xid_that_hangs_the_driver_has_it_left_alone() -> None:
    """The daemon goes on with what it last read."""
    played = begun(stage())
    played.fakes.clock.advance(1)
    played.fakes.kernel_log.told = (line(119, 20.0),)
    played.pass_()
    assert played.fakes.gpus.distrusted == ["Xid 119 of GPU-0"]


def test_an_xid_wakes_the_loop_at_once() -> None:
    """From NVML to the Event it takes two passes of its source: one second."""
    played = begun(stage())
    daemon = played.daemon
    daemon.sources.xids.sample()
    daemon.step()
    played.fakes.gpus.told = (line(94, 9.0),)
    began = time.monotonic()
    daemon.sources.xids.sample()
    daemon.sources.xids.sample()
    daemon.step(wait_seconds=5.0)  # returns with the first message
    assert time.monotonic() - began < 2.0
    assert played.tale("xid") == ["xid 94"]
