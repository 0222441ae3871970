"""What one answer more says of a replica, and who is asked when."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gpuctl.model import EngineStats, Plan, ProbeReading, ProbeResult, ProbeSpec, Replica
from gpuctl.observe import Latest
from gpuctl.probing import ProbeSource, fold
from tests import fakes, make
from tests.fakes import FakeClock, FakeProber, busy
from tests.make import NOW

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0

CHAT = make.replica()
OK = ProbeResult(outcome="ok", status=200)


def answered(
    before: ProbeReading | None,
    at: float,
    *,
    progress: float | None = None,
    running: int | None = None,
    stats: bool = True,
    container: str = "c1",
    result: ProbeResult = OK,
) -> ProbeReading:
    told = EngineStats(progress=progress, running=running) if stats else None
    return fold(before, CHAT, container, result, told, at)


def test_the_first_answer_is_a_beginning() -> None:
    """Nothing moved yet, and it counts as seen moving and as asked just now."""
    result = ProbeResult(outcome="timeout", status=None, latency_seconds=5.0, detail="slow")
    assert answered(None, NOW, progress=7.0, running=1, result=result) == ProbeReading(
        replica="chat-0",
        container="c1",
        outcome="timeout",
        latency_seconds=5.0,
        detail="slow",
        stats=EngineStats(progress=7.0, running=1),
        stats_at=NOW,
        in_flight=1,
        moving_at=NOW,
        canary_at=NOW,
        boot_seconds=NOW,
    )


def test_progress_is_a_counter_that_changed() -> None:
    """A counter that grew, or began again, is progress; the same number is none."""
    first = answered(None, NOW, progress=7.0, running=1)
    still = answered(first, NOW + 5, progress=7.0, running=1)
    assert (still.moving_at, still.progress_at) == (NOW, None)
    moved = answered(still, NOW + 10, progress=8.0, running=1)
    assert (moved.moving_at, moved.progress_at) == (NOW + 10, NOW + 10)
    assert (moved.slowest_seconds, still.slowest_seconds) == (10.0, 0.0)
    reset = answered(moved, NOW + 12, progress=0.0, running=1)
    assert (reset.progress_at, reset.slowest_seconds) == (NOW + 12, 10.0)


def test_idle_is_no_standstill() -> None:
    """With nothing in flight it is well for ever, and a rest is no slow batch."""
    first = answered(None, NOW, progress=7.0, running=0)
    rested = answered(first, NOW + 30, progress=7.0, running=0)
    assert (rested.moving_at, rested.progress_at) == (NOW + 30, None)
    woken = answered(rested, NOW + 60, progress=9.0, running=1)
    assert woken.slowest_seconds == 0.0


def test_unread_metrics_leave_the_last_ones_standing() -> None:
    """A scrape that failed is unknown, not idle: what was in flight still is."""
    first = answered(None, NOW, progress=7.0, running=2)
    unread = answered(first, NOW + 5, stats=False)
    assert (unread.stats, unread.in_flight, unread.moving_at) == (first.stats, 2, NOW)
    assert (unread.stats_at, unread.stats_late) == (NOW, False)
    assert answered(unread, NOW + 10, progress=8.0, running=2).progress_at == NOW + 10
    never = answered(None, NOW, stats=False)
    assert (never.stats, never.in_flight) == (None, None)
    assert (never.stats_at, answered(never, NOW + 5, stats=False).in_flight) == (None, None)


def test_metrics_that_do_not_come_in_time_are_late() -> None:
    """Being late is told of the last question alone; the last answer stands meanwhile."""
    first = answered(None, NOW, progress=7.0, running=2)
    late = ProbeResult(outcome="ok", status=200, metrics_late=True)
    mute = answered(first, NOW + 5, stats=False, result=late)
    assert (mute.stats_late, mute.stats, mute.stats_at) == (True, first.stats, NOW)
    again = answered(mute, NOW + 10, progress=7.0, running=2)
    assert (again.stats_late, again.stats_at, again.moving_at) == (False, NOW + 10, NOW)


def test_an_engine_without_a_counter_makes_no_progress() -> None:
    """What is not reported is neither progress nor a standstill that ends."""
    first = answered(None, NOW, progress=7.0, running=1)
    mute = answered(first, NOW + 5, running=1)
    assert (mute.progress_at, mute.moving_at) == (None, NOW)
    assert answered(mute, NOW + 10, progress=9.0, running=1).progress_at is None


@pytest.mark.parametrize(
    ("container", "seconds", "kept"),
    [("c1", 35.0, 2), ("c1", 36.0, 0), ("c2", 1.0, 0)],
    ids=["within-the-gap", "after-a-gap", "another-container"],
)
def test_a_gap_or_another_container_starts_afresh(
    container: str, seconds: float, kept: int
) -> None:
    """What was remembered of another life of the replica says nothing of this one."""
    before = make.probe(canary_failures=2)
    assert answered(before, NOW + seconds, container=container).canary_failures == kept


METRICS = fakes.METRICS.format(tokens=1, running=0)


@dataclass
class Probed:
    """A source of probes on fakes, and what woke the loop."""

    plan: Plan = field(default_factory=make.plan)
    clock: FakeClock = field(default_factory=FakeClock)
    prober: FakeProber = field(default_factory=FakeProber)
    latest: Latest = field(default_factory=Latest)
    woken: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        stats = {"llama.cpp": fakes.stats}
        self.source = ProbeSource(self.prober, self.clock, self.latest, self.woken.put, stats)

    def follow(self, **containers: str) -> None:
        """Follow these containers; `chat_0="c1"`."""
        running = {
            name.replace("_", "-"): make.container(name.replace("_", "-"), id_)
            for name, id_ in containers.items()
        }
        self.source.follow(self.plan, running)

    def reading(self, name: str = "chat-0") -> ProbeReading:
        return self.latest.probes[name]

    def wakes(self) -> list[str]:
        told = []
        while not self.woken.empty():
            told.append(self.woken.get())
        return told


@pytest.fixture
def probed() -> Iterator[Probed]:
    made = Probed()
    yield made
    made.source.end()


def test_only_what_runs_and_is_planned_is_asked(probed: Probed) -> None:
    """A container that does not run, or is in no plan, is left alone."""
    dead = make.container(state="exited")
    probed.source.follow(probed.plan, {"chat-0": dead, "old-0": make.container("old-0")})
    probed.source.sample()
    assert probed.prober.asked == 0
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert (probed.prober.asked, probed.reading().container) == (1, "c1")


@pytest.mark.parametrize(
    ("outcomes", "wakes"),
    [
        (["ok", "ok"], [1, 0]),
        (["ok", "refused", "refused"], [1, 1, 1]),
        (["loading", "loading", "ok"], [1, 0, 1]),
    ],
)
def test_what_matters_wakes_the_loop(probed: Probed, outcomes: list[Any], wakes: list[int]) -> None:
    """A change, and each failure, wake the loop; what goes on well does not."""
    probed.follow(chat_0="c1")
    found = []
    for outcome in outcomes:
        probed.prober.answers[8081] = ProbeResult(outcome=outcome)
        probed.source.sample()
        found.append(len(probed.wakes()))
    assert found == wakes


def test_a_hurried_probe_wakes_the_loop_whatever_it_says(probed: Probed) -> None:
    """Who asks for an answer now is waiting for it; what does not run cannot be hurried."""
    probed.follow(chat_0="c1")
    probed.source.sample()
    probed.wakes()
    probed.source.hurry("chat-0")
    probed.source.hurry("chat-9")
    probed.source.sample()
    assert probed.wakes() == ["probe chat-0"]
    probed.source.sample()
    assert probed.wakes() == []


ASKABLE = make.replica(
    probe=ProbeSpec(port=8081, health_path="/health", canary_path="/completion", canary_body="{}")
)


def canaries(replica: Replica, *, after: float = 60.0, good: Any = True, **answer: Any) -> Any:
    """Ask once now and once *after*; return what is known of the canary then."""
    probed = Probed(plan=make.plan(replica, watchdog=replica.watchdog))
    probed.prober.canaries[8081] = good
    probed.prober.answers[8081] = replace(ProbeResult(outcome="ok", metrics=METRICS), **answer)
    probed.follow(chat_0="c1")
    probed.source.sample()
    probed.clock.advance(after)
    probed.latest.probes["chat-0"] = replace(probed.reading(), boot_seconds=NOW + after - 1)
    probed.source.sample()
    found = probed.reading()
    return found.canary, found.canary_failures


def test_an_idle_engine_is_asked_for_one_token() -> None:
    """After a minute of rest, and not before, it must show that it can still answer."""
    assert canaries(ASKABLE) == (True, 0)
    assert canaries(ASKABLE, good=False) == (False, 1)
    assert canaries(ASKABLE, after=59.0) == (None, 0)


def test_a_canary_that_is_not_let_in_is_no_failure() -> None:
    """A prober that cannot tell says nothing for the engine, and nothing against it."""
    assert canaries(ASKABLE, good=None) == (None, 0)


@pytest.mark.parametrize(
    ("replica", "answer"),
    [
        pytest.param(CHAT, {}, id="no-canary"),
        pytest.param(
            replace(ASKABLE, watchdog=replace(make.SETTINGS, canary_seconds=0.0)), {}, id="off"
        ),
        pytest.param(ASKABLE, {"outcome": "refused"}, id="not-well"),
        pytest.param(ASKABLE, {"metrics": busy(1).metrics}, id="busy"),
        pytest.param(ASKABLE, {"metrics": None}, id="nobody-knows-whether-it-is-idle"),
    ],
)
def test_no_canary_where_it_would_disturb(replica: Replica, answer: dict[str, Any]) -> None:
    """Only an engine that is well, awake and certainly idle is asked."""
    assert canaries(replica, **answer) == (None, 0)


def test_a_sleeping_engine_is_left_asleep() -> None:
    """A canary would wake what was put to sleep on purpose."""
    probed = Probed(plan=make.plan(ASKABLE))
    asleep = {"llama.cpp": lambda _: EngineStats(running=0, sleeping=True)}
    probed.source = ProbeSource(
        probed.prober, probed.clock, probed.latest, probed.woken.put, asleep
    )
    probed.latest.probes["chat-0"] = make.probe(canary_at=NOW - 900)
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert probed.reading().canary is None


def test_a_failed_canary_wakes_the_loop() -> None:
    """One that failed is news, though the engine says that it is well."""
    probed = Probed(plan=make.plan(ASKABLE))
    probed.latest.probes["chat-0"] = make.probe(canary_at=NOW - 900, boot_seconds=NOW - 1)
    probed.prober.canaries[8081] = False
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert probed.wakes() == ["probe chat-0"]


def test_the_answer_of_a_replaced_container_is_dropped() -> None:
    """What was asked before a restart and answered after it is of nobody's interest."""
    probed = Probed()

    class Replacing(FakeProber):
        def probe(self, spec: ProbeSpec) -> ProbeResult:
            probed.follow(chat_0="c2")
            return super().probe(spec)

    probed.source._prober = Replacing()
    probed.follow(chat_0="c1")
    probed.source.sample()
    assert probed.latest.probes == {}


@pytest.mark.parametrize(
    ("reading", "seconds"),
    [
        pytest.param(None, 4.0, id="never"),
        pytest.param(make.probe(), 4.0, id="ok"),
        pytest.param(make.probe(outcome="refused"), 1.0, id="refused"),
        pytest.param(make.probe(outcome="timeout", latency_seconds=3.0), 1.0, id="timeout"),
        pytest.param(make.probe(outcome="timeout", latency_seconds=9.0), 0.0, id="long-timeout"),
    ],
)
def test_the_pace(probed: Probed, reading: ProbeReading | None, seconds: float) -> None:
    """A little more often than the tick; every second while it is not well; a time-out counts."""
    if reading is not None:
        probed.latest.probes["chat-0"] = reading
    assert probed.source._pause(CHAT) == seconds


class Gate(FakeProber):
    """A prober whose every question waits until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = queue.SimpleQueue[int]()
        self.go = threading.Semaphore(0)

    def probe(self, spec: ProbeSpec) -> ProbeResult:
        self.begun.put(spec.port)
        self.go.acquire(timeout=PATIENCE_SECONDS)
        return super().probe(spec)

    def next_port(self) -> int:
        return self.begun.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def gated() -> Iterator[tuple[Probed, Gate]]:
    gate = Gate()
    plan = make.plan(*(make.replica(f"chat-{i}") for i in range(2)))
    made = Probed(plan=plan, prober=gate)
    made.source.begin()
    yield made, gate
    made.source.end()
    gate.go.release(100)


def woken(probed: Probed) -> str:
    return probed.woken.get(timeout=PATIENCE_SECONDS)


def test_a_replica_that_hangs_delays_no_other(gated: tuple[Probed, Gate]) -> None:
    """While one question waits for its answer, the other replica is asked."""
    probed, gate = gated
    probed.follow(chat_0="c1", chat_1="c2")
    assert {gate.next_port(), gate.next_port()} == {8081, 8082}
    gate.go.release(2)
    assert {woken(probed), woken(probed)} == {"probe chat-0", "probe chat-1"}


def test_a_new_container_is_asked_at_once(gated: tuple[Probed, Gate]) -> None:
    """A container that began to run does not wait for the pace of the one before."""
    probed, gate = gated
    probed.follow(chat_0="c1")
    assert gate.next_port() == 8081
    gate.go.release()
    woken(probed)
    probed.follow(chat_0="c1")
    assert gate.begun.empty()
    probed.follow(chat_0="c2")
    assert gate.next_port() == 8081
    gate.go.release()
    woken(probed)
    assert probed.reading().container == "c2"


def test_a_replica_has_one_place_in_the_queue(probed: Probed) -> None:
    """One that was restarted or hurried while it was asked is not asked twice ever after."""

    def asked() -> list[tuple[float, str]]:
        with probed.source._changed:
            probed.source._put_back("chat-0")
        return probed.source._due

    assert asked() == []
    probed.follow(chat_0="c1")
    assert asked() == [(NOW, "chat-0")]
    probed.source._due.clear()
    assert asked() == [(NOW + 4, "chat-0")]
    probed.source.hurry("chat-0")
    assert asked() == [(NOW, "chat-0")]


def test_what_has_gone_is_asked_no_more(gated: tuple[Probed, Gate]) -> None:
    """A replica that stopped while it was asked has no place in the queue."""
    probed, gate = gated
    probed.follow(chat_0="c1")
    gate.next_port()
    probed.follow(chat_1="c2")
    gate.next_port()
    gate.go.release(2)
    assert woken(probed) == "probe chat-1"
    assert "chat-0" not in probed.latest.probes


def test_the_threads_end() -> None:
    """When the source ends, its threads do."""
    probed = Probed()
    probed.source.begin()
    probed.follow(chat_0="c1")
    woken(probed)
    threads = [t for t in threading.enumerate() if t._target == probed.source._run]  # type: ignore[attr-defined]
    assert threads
    probed.source.end()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
