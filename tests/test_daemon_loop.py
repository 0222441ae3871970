"""The turns of a daemon's loop: how long it waits, what fails, and what it takes up anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.errors import GpuctlError, ProfileError, StoreError
from gpuctl.model import ContainerSpec, GpuProcess
from tests import make
from tests.daemon_loop_bench import OTHER, Loop, loop, quiet

__all__ = ["loop"]


@pytest.mark.parametrize(
    ("interval_seconds", "waits"),
    [pytest.param(5.0, [5.0, 5.0], id="interval"), pytest.param(60.0, [10.0, 10.0], id="watchdog")],
)
def test_a_quiet_turn_lasts_an_interval(
    loop: Loop, interval_seconds: float, waits: list[float]
) -> None:
    """But never so long that systemd's watchdog (30 s) would take the daemon for dead."""
    loop.plan = make.plan(
        make.replica(gpus=()), watchdog=replace(make.SETTINGS, interval_seconds=interval_seconds)
    )
    loop.born()
    loop.up()
    inbox = quiet(loop)
    loop.notices.clear()
    loop.daemon.turn()
    loop.daemon.turn()
    assert (inbox.waited, loop.notices) == (waits, ["WATCHDOG=1"] * 2)


@pytest.mark.parametrize(
    ("error", "fed"),
    [
        pytest.param(None, True, id="published"),
        pytest.param(StoreError("disk is full"), True, id="a-full-disk"),
        pytest.param(ZeroDivisionError(), False, id="a-mistake"),
    ],
)
def test_systemd_s_watchdog_is_fed_where_a_new_daemon_would_do_no_better(
    loop: Loop, error: Exception | None, fed: bool
) -> None:
    """A tick that came through, or met what it was prepared for; not one mistake after another."""
    loop.up()
    loop.notices.clear()
    publish = loop.fakes.store.publish

    def published(status: str) -> None:
        if error is not None:
            raise error
        publish(status)

    loop.fakes.store.publish = published  # type: ignore[method-assign]
    loop.pass_(60)
    assert set(loop.notices) == ({"WATCHDOG=1"} if fed else set())


@pytest.mark.parametrize(
    ("error", "traceback"),
    [
        pytest.param(StoreError("disk is full"), False, id="expected"),
        pytest.param(ZeroDivisionError(), True, id="a-mistake"),
    ],
)
def test_a_tick_that_fails_is_tried_again_in_a_second(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: Exception, traceback: bool
) -> None:
    """What was expected to go wrong is one line, a mistake a traceback; neither ends the loop."""
    loop.up()
    publish = loop.fakes.store.publish

    def broken(status: str) -> None:
        loop.fakes.store.publish = publish  # type: ignore[method-assign]
        raise error

    loop.fakes.store.publish = broken  # type: ignore[method-assign]
    loop.daemon.step()
    (record,) = caplog.records
    assert record.getMessage().startswith("event=tick_failed")
    assert (record.exc_info is not None) is traceback
    inbox = quiet(loop)
    loop.daemon.turn()
    loop.daemon.turn()
    assert inbox.waited == [1.0, 5.0]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ProfileError((("p.toml:1: no", ""),)), id="a-bad-profile"),
        pytest.param(ZeroDivisionError(), id="a-mistake"),
    ],
)
def test_a_reload_that_fails_changes_nothing(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The last good profile goes on, and what came after it in the inbox is not lost."""
    create = loop.fakes.runtime.create

    def reloaded(name: str, spec: ContainerSpec, labels: dict[str, str]) -> str:
        loop.daemon.reload()
        return create(name, spec, labels)

    loop.fakes.runtime.create = reloaded  # type: ignore[method-assign, assignment]
    loop.unreadable = error
    loop.up()
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) == 1
    assert loop.tale("attempt", "done") == ["attempt wanted", "done wanted"]


@pytest.mark.parametrize("verb", ["up", "reload"])
def test_an_up_reads_the_applied_profile_again(loop: Loop, verb: str) -> None:
    """What the request asks for is what was applied just before it; a bad one refuses it."""
    loop.up()
    loop.unreadable = ProfileError((("p.toml:1: no", ""),))
    with pytest.raises(GpuctlError, match="no"):
        loop.daemon.intend({"verb": verb})
    loop.pass_()
    assert (loop.names(), loop.tale("intent")) == (["chat-0"], [])
    loop.plan, loop.unreadable = OTHER, None
    loop.daemon.intend({"verb": verb})
    loop.pass_()
    assert (loop.names(), loop.tale("intent")) == (["embed-0"], [f"intent {verb}"])


@pytest.mark.parametrize("how", ["up", "SIGHUP"])
def test_another_interval_is_that_of_the_sources_too(loop: Loop, how: str) -> None:
    """A profile that is taken up anew sets the pace of whatever is read at the interval."""
    paces: list[float] = []
    loop.daemon.sources.pace = paces.append  # type: ignore[method-assign, assignment]
    loop.plan = make.plan(watchdog=replace(make.SETTINGS, interval_seconds=2.0))
    if how == "up":
        loop.daemon.intend({"verb": how})
    else:
        loop.daemon.reload()
    loop.daemon.step()
    assert (paces, loop.fakes.store.status["daemon"]["interval_seconds"]) == ([2.0], 2.0)


def test_a_start_that_waits_for_vram_has_the_gpus_read(loop: Loop) -> None:
    """At every look, so that it waits no longer than the old process holds on to its memory."""
    loop.plan = make.plan()
    held = GpuProcess(pid=1001, used_bytes=make.MIB, container="c1")
    loop.fakes.gpus.readings = (make.gpu(processes=[held]),)
    loop.born()
    loop.up()
    hurried: list[bool] = []
    loop.daemon.sources.hurry_gpus = lambda: hurried.append(True)  # type: ignore[method-assign]
    loop.fakes.runtime.die("c1", 1)
    loop.pass_()
    assert (loop.row()["reason"], hurried) == ("vram_held", [True])
    inbox = quiet(loop)
    loop.daemon.turn()
    assert (inbox.waited, hurried) == ([5.0], [True, True]), "it is the reading that wakes it"
    loop.fakes.gpus.readings = (make.gpu(),)
    loop.pass_()
    assert (loop.fakes.runtime.running(), hurried) == (["c2"], [True, True])
