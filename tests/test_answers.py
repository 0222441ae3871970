"""What one answer more says of a replica."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.answers import fold, patient, telling, warmed
from gpuctl.model import EngineStats, Outcome, ProbeReading, ProbeResult, ProbeSpec, Replica
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


@pytest.mark.parametrize(
    ("running", "fields", "serves"),
    [
        pytest.param(0, {}, False, id="none"),
        pytest.param(1, {}, True, id="one"),
        pytest.param(1, {"warmup_failures": 1}, False, id="its-own-warm-up"),
        pytest.param(2, {"warmup_failures": 1}, True, id="one-beside-it"),
        pytest.param(2, {"warmup_failures": 2}, False, id="two-of-its-own"),
        pytest.param(
            2, {"warmup_failures": 1, "canary_failures": 1}, False, id="its-own-canary-as-well"
        ),
        pytest.param(0, {"serves": True, "warmup_failures": 1}, True, id="it-did-already"),
    ],
)
def test_it_serves_when_it_answers_requests_of_others(
    running: int, fields: dict[str, Any], serves: bool
) -> None:
    """Counters that moved tell so while more is in flight than gpuctl may have left there."""
    before = replace(answered(None, NOW, progress=7.0, running=running), **fields)
    assert answered(before, NOW + 4, progress=8.0, running=running).serves is serves


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


MUTE = replace(CHAT, probe=ProbeSpec(port=8081, health_path="/v1/models", mute_at_work=True))


def mute(
    outcome: Outcome, before: ProbeReading | None = None, at: float = NOW, took: float = 5.0
) -> ProbeReading:
    result = ProbeResult(outcome=outcome, latency_seconds=took)
    return fold(before, MUTE, "c1", result, None, at)


def test_an_engine_that_answers_nothing_at_work_is_busy_when_it_is_late() -> None:
    """Its answer says that it rests; a late one that it is at a request, since it last rested."""
    rests = mute("ok")
    assert (rests.in_flight, rests.moving_at, rests.stats_late) == (0, NOW, False)
    busy = mute("timeout", rests, NOW + 5)
    assert (busy.in_flight, busy.moving_at, busy.stats_late) == (1, NOW, True)
    rests = mute("ok", busy, NOW + 12)
    assert (rests.in_flight, rests.moving_at, rests.slowest_seconds) == (0, NOW + 12, 0.0)
    assert mute("refused", rests, NOW + 13).in_flight is None


def test_a_question_that_took_long_is_no_gap() -> None:
    """What is known outlives a question that waited for minutes, and no longer."""
    late = mute("timeout", mute("ok"), NOW + 5, took=120.0)
    assert mute("timeout", late, NOW + 5 + 150).moving_at == NOW
    assert mute("timeout", late, NOW + 5 + 151).moving_at == NOW + 5 + 151


@pytest.mark.parametrize(
    ("replica", "before", "seconds"),
    [
        pytest.param(MUTE, None, 5.0, id="the first"),
        pytest.param(MUTE, mute("ok"), 5.0, id="after an answer"),
        pytest.param(MUTE, mute("timeout", took=5.0), 10.0, id="twice the time"),
        pytest.param(MUTE, mute("timeout", took=80.0), 120.0, id="as long as a standstill"),
        pytest.param(MUTE, mute("timeout", took=0.0), 5.0, id="never less"),
        pytest.param(CHAT, mute("timeout"), 5.0, id="an engine that answers at work"),
        pytest.param(
            MUTE, replace(mute("timeout"), container="c0"), 5.0, id="of another container"
        ),
    ],
)
def test_patience(replica: Replica, before: ProbeReading | None, seconds: float) -> None:
    """A question that was late is asked again with twice its time: it waits for its turn."""
    assert patient(replica, "c1", before).timeout_seconds == seconds


@pytest.mark.parametrize(
    ("answered", "told"),
    [
        pytest.param(OK, (1, 0, "before"), id="answered"),
        pytest.param(
            ProbeResult(outcome="dead", status=500, detail="HTTP 500"), (0, 3, "HTTP 500"), id="500"
        ),
        pytest.param(ProbeResult(outcome="reset"), (0, 3, "reset"), id="without words"),
        pytest.param(
            ProbeResult(outcome="error", status=401), (2, 2, "before"), id="it wants a key"
        ),
    ],
)
def test_a_warm_up_request(answered: ProbeResult, told: tuple[int, int, str]) -> None:
    """An answer counts for it, and ends what failed before; without its key it cannot be asked."""
    before = make.probe(warmup_failures=2, warmup_detail="before")
    after = warmed(before, answered, 2, NOW + 9)
    assert (after.warmed, after.warmup_failures, after.warmup_detail) == told
    assert after.boot_seconds == NOW + 9


@pytest.mark.parametrize(
    ("now", "tells"),
    [
        pytest.param({}, False, id="the same again"),
        pytest.param({"warmed": 1}, True, id="warmer"),
        pytest.param({"warmup_failures": 1}, True, id="not warmed"),
        pytest.param({"serves": True}, True, id="it serves others"),
        pytest.param({"canary_failures": 1}, True, id="no canary"),
        pytest.param({"outcome": "timeout"}, True, id="another outcome"),
        pytest.param({"container": "c2"}, True, id="another container"),
    ],
)
def test_the_loop_is_woken_by_what_is_new(now: dict[str, Any], tells: bool) -> None:
    """A change, or one failure more, is looked at at once."""
    assert telling(make.probe(), make.probe(**now)) is tells
    assert telling(None, make.probe(**now))
