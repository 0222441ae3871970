"""What one answer more says of a replica."""

from __future__ import annotations

import pytest

from gpuctl.model import EngineStats, ProbeReading, ProbeResult
from gpuctl.answers import fold
from tests import make
from tests.make import NOW
from tests.probing_bench import CHAT

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
