"""The life of a daemon: how it begins, whom it hears meanwhile, and how it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import gpuctl
from gpuctl.daemon import run
from gpuctl.errors import StoreError
from gpuctl.model import GpuReading
from tests import make
from tests.daemon_loop_bench import OTHER, Loop, loop, quiet

__all__ = ["loop"]

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0


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


def test_the_hour_that_an_end_cuts_short_is_kept(loop: Loop) -> None:
    """What was highest since the last full hour is told before the daemon goes."""
    loop.fakes.gpus.readings = (make.gpu(temperature_celsius=91.0),)
    loop.pass_(1)
    loop.fakes.gpus.readings = (make.gpu(temperature_celsius=40.0),)
    loop.pass_(1)
    loop.daemon.end()
    assert loop.tale("peak", "daemon") == ["peak part", "daemon stopped"]
    (told,) = (e for e in loop.fakes.store.stored if e.kind == "peak")
    assert (told.subject, told.evidence["temperature_celsius"]) == ("GPU-0", 91.0)


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
            "exit_code": 2,
        }


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
