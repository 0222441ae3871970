"""The loop of a daemon: how it begins, what it waits for, whom it hears, and how it ends."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import gpuctl
from gpuctl.daemon import run
from gpuctl.errors import GpuctlError, ProfileError, StoreError
from gpuctl.model import ContainerSpec, GpuProcess, GpuReading, RuntimeEvent
from tests import make
from tests.fakes import FakeClock
from tests.stage import Stage

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0

OTHER = make.plan(make.replica("embed-0", gpus=()))


class Loop(Stage):
    """A stage on which something happens the next time the daemon gives a certain notice."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[tuple[str, Callable[[], None]]] = []

    def notify(self, word: str) -> None:
        super().notify(word)
        if self.script and self.script[0][0] == word:
            self.script.pop(0)[1]()

    def names(self) -> list[str]:
        return [row["name"] for row in self.fakes.store.status["replicas"]]


@pytest.fixture
def loop() -> Loop:
    return Loop()


class Quiet:
    """An inbox in which nothing comes: whoever waits for something lets the time pass."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.waited: list[float] = []  # seconds

    def get(self, timeout: float) -> str:
        self.waited.append(timeout)
        self._clock.advance(timeout)
        raise queue.Empty

    def put(self, message: object) -> None:
        return


def quiet(loop: Loop) -> Quiet:
    inbox = Quiet(loop.fakes.clock)
    loop.daemon._inbox = inbox  # type: ignore[assignment]
    return inbox


def test_a_life_from_start_to_stop(loop: Loop) -> None:
    """Ready with the first Status, and an end that says so and leaves everything running."""
    loop.up()
    loop.born()
    loop.notices.clear()
    loop.script = [("READY=1", loop.daemon.stop)]
    run(loop.daemon)
    assert loop.notices == ["WATCHDOG=1", "READY=1", "STOPPING=1"]
    assert loop.tale("daemon") == ["daemon started", "daemon stopped"]
    (started,) = (e for e in loop.fakes.store.stored if e.reason == "started")
    assert started.evidence["version"] == gpuctl.__version__
    assert started.evidence["instance"] == loop.fakes.store.status["instance"]
    assert (loop.fakes.store.status["stopping"], loop.phase()) == (True, "ready")
    assert loop.fakes.runtime.running() == ["c1"]


def test_what_cannot_be_said_at_the_end_holds_up_nothing(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """A daemon that ends on a full disk lets go of everything all the same."""
    loop.fakes.store.full = True
    loop.daemon.end()
    assert 'event=not_recorded error="state.db: database or disk is full"' in caplog.messages
    assert loop.fakes.runtime.calls == [("close",)]
    assert loop.fakes.gpus.broken == "closed"
    assert not loop.fakes.store.full, "closed"


def test_a_daemon_without_a_status_leaves_none(loop: Loop) -> None:
    """One that ends before its first tick does not say of anything how it is."""
    loop.daemon.end()
    assert (loop.fakes.store.status, loop.tale()) == ({}, ["daemon stopped"])


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers as they were before."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_signals(loop: Loop, end: signal.Signals) -> None:
    """SIGHUP has the applied profile read again; SIGTERM and SIGINT end the daemon in order."""

    def hang_up() -> None:
        loop.plan = OTHER
        signal.raise_signal(signal.SIGHUP)

    loop.script = [("READY=1", hang_up), ("WATCHDOG=1", lambda: signal.raise_signal(end))]
    run(loop.daemon)
    assert loop.names() == ["embed-0"]
    assert loop.tale("daemon") == ["daemon started", "daemon stopped"]


@contextmanager
def running(loop: Loop) -> Iterator[Callable[[], None]]:
    """Run a daemon that waits for its GPUs to be read; give what has them read."""
    read, ready = threading.Event(), threading.Event()

    def gpus() -> tuple[GpuReading, ...]:
        assert read.wait(PATIENCE_SECONDS)
        return (make.gpu(),)

    def go_on() -> None:
        read.set()
        assert ready.wait(PATIENCE_SECONDS)

    loop.fakes.gpus.read = gpus  # type: ignore[method-assign]
    loop.script = [("READY=1", ready.set)]
    thread = threading.Thread(target=loop.daemon.run, daemon=True)
    thread.start()
    yield go_on
    loop.daemon.stop()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    read.set()
    loop.daemon.end()


def test_the_first_status_is_no_guess(loop: Loop) -> None:
    """Until every source has spoken there is none; requests are answered in the meantime."""
    with running(loop) as go_on:
        assert loop.daemon.handle({"verb": "run", "subject": "chat"}) == {"ok": True, "event": 2}
        assert loop.fakes.store.status == {}
        go_on()
        assert [gpu["uuid"] for gpu in loop.fakes.store.status["gpus"]] == ["GPU-0"]


def test_a_reload_is_heeded_while_the_sources_are_waited_for(loop: Loop) -> None:
    """No SIGHUP is lost, however early it comes."""
    with running(loop) as go_on:
        loop.plan = OTHER
        loop.daemon.reload()
        go_on()
        assert loop.names() == ["embed-0"]


def test_a_stop_does_not_wait_for_the_sources(loop: Loop) -> None:
    """A daemon that is told to end while it begins ends, though a source has not spoken."""
    with running(loop):
        loop.daemon.stop()
    assert loop.notices[-1] == "STOPPING=1"
    assert loop.daemon.latest.gpus_boot_seconds is None


def test_a_source_that_hangs_does_not_hold_up_the_first_status(loop: Loop) -> None:
    """After ten seconds there is a Status of what is known."""
    inbox = quiet(loop)
    loop.daemon.sources.begin = lambda: None  # type: ignore[method-assign]
    loop.script = [("READY=1", loop.daemon.stop)]
    loop.daemon.run()
    assert (inbox.waited, loop.fakes.store.status["seq"]) == ([10.0, 0.0], 1)


def test_a_request_is_answered_where_it_was_made(loop: Loop) -> None:
    """With the id of its event once that is committed, or with why not and what to do."""
    with running(loop) as go_on:
        go_on()
        answer = loop.daemon.handle({"verb": "stop", "subject": "chat-0", "uid": 7, "pid": 8})
        (intent,) = (e for e in loop.fakes.store.stored if e.kind == "intent")
        assert answer == {"ok": True, "event": intent.id}
        assert (intent.reason, intent.evidence) == ("stop", {"uid": 7, "pid": 8})
        assert loop.daemon.handle({"verb": "stop", "subject": "chat-9"}) == {
            "ok": False,
            "error": "'chat-9' is no replica or workload of the profile 'test'",
            "hint": "`gpuctl status` lists them",
        }


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


def test_it_is_ready_with_its_first_status_and_not_before(loop: Loop) -> None:
    """Whoever waits for `systemctl start` then finds a Status; a first tick that failed is none."""
    inbox = quiet(loop)
    loop.fakes.store.full = True
    loop.daemon.sources.begin = lambda: None  # type: ignore[method-assign]
    loop.daemon.journal.record = lambda events: ()  # type: ignore[method-assign]
    publish, refused = loop.fakes.store.publish, [StoreError("full"), ZeroDivisionError()]

    def published(status: str) -> None:
        if refused:
            raise refused.pop()
        publish(status)

    loop.fakes.store.publish = published  # type: ignore[method-assign]
    loop.script = [("READY=1", loop.daemon.stop)]
    loop.daemon.run()
    assert inbox.waited == [10.0, 0.0, 1.0, 1.0]
    assert loop.notices == ["WATCHDOG=1", "WATCHDOG=1", "READY=1", "STOPPING=1"]


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


def test_a_death_has_the_gpus_read(loop: Loop) -> None:
    """Whether its VRAM is free again is known by the time it is started."""
    loop.up()
    hurried: list[bool] = []
    loop.daemon.sources.hurry_gpus = lambda *, wake: hurried.append(wake)  # type: ignore[method-assign]
    died = RuntimeEvent(at=make.AT, action="die", container="c1", replica="chat-0", exit_code=1)
    loop.daemon.sources.runtime._take(died)
    loop.daemon.step()
    assert hurried == [False]


def test_a_start_that_waits_for_vram_has_the_gpus_read(loop: Loop) -> None:
    """At every look, so that it waits no longer than the old process holds on to its memory."""
    loop.plan = make.plan()
    held = GpuProcess(pid=1001, used_bytes=make.MIB, container="c1")
    loop.fakes.gpus.readings = (make.gpu(processes=[held]),)
    loop.born()
    loop.up()
    hurried: list[bool] = []
    loop.daemon.sources.hurry_gpus = lambda *, wake: hurried.append(wake)  # type: ignore[method-assign]
    loop.fakes.runtime.die("c1", 1)
    loop.pass_()
    assert (loop.row()["reason"], hurried) == ("vram_held", [True])
    inbox = quiet(loop)
    loop.daemon.turn()
    assert (inbox.waited, hurried) == ([5.0], [True, True]), "it is the reading that wakes it"
    loop.fakes.gpus.readings = (make.gpu(),)
    loop.pass_()
    assert (loop.fakes.runtime.running(), hurried) == (["c2"], [True, True])
