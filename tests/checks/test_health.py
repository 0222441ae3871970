"""Loading, answering, failing hard, failing softly."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.checks.health import CHECK
from gpuctl.history import History
from gpuctl.model import LoadReading, ProbeReading, ProbeSpec, Verdict
from tests import make
from tests.make import NOW

READY = make.history(make.served())
LOADING = make.history(make.started(at=NOW - 100))


def judged(
    probe: ProbeReading | None, past: History = READY, *, memory: int = 0, **fields: Any
) -> Verdict:
    probes = [probe] if probe else []
    now = make.snapshot(make.container(memory_bytes=memory), probes=probes)
    (verdict,) = CHECK.run(make.scene(now, past=past, **fields))
    return verdict


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        pytest.param("refused", "health_refused", id="refused"),
        pytest.param("reset", "health_reset", id="reset"),
        pytest.param("dead", "health_dead", id="dead"),
        pytest.param("loading", "health_dead", id="503-of-a-ready-engine"),
    ],
)
def test_hard_failures(outcome: str, reason: str) -> None:
    """Three in a row and ten seconds; all kinds count as one streak."""
    verdict = judged(make.probe(outcome=outcome))
    assert (verdict.state, verdict.reason, verdict.remedy) == ("failed", reason, "restart")
    assert (verdict.patience_readings, verdict.patience_seconds) == (3, 10.0)
    assert verdict.streak == "hard"


def test_time_outs_with_nothing_moving() -> None:
    """Six in a row and two minutes, with nothing moving for as long."""
    verdict = judged(make.probe(outcome="timeout", moving_at=NOW - 120))
    assert (verdict.state, verdict.reason, verdict.remedy) == (
        "failed",
        "health_timeout",
        "restart",
    )
    assert (verdict.patience_readings, verdict.patience_seconds) == (6, 120.0)


def test_a_time_out_of_an_engine_that_answers_nothing_at_work() -> None:
    """It is busy, however long it takes: whether it gets on is another check's to say."""
    mute = make.replica(probe=ProbeSpec(port=8081, health_path="/v1/models", mute_at_work=True))
    late = make.probe(outcome="timeout", moving_at=NOW - 500)
    now = make.snapshot(make.container(), probes=[late])
    (verdict,) = CHECK.run(make.scene(now, mute, past=READY))
    assert (verdict.state, verdict.reason) == ("ok", "")


@pytest.mark.parametrize(
    ("warmed", "failures", "age", "told"),
    [
        pytest.param(0, 0, 100, ("ok", "", "none"), id="under way"),
        pytest.param(1, 1, 100, ("degraded", "warmup_failed", "none"), id="failed once"),
        pytest.param(1, 3, 100, ("failed", "warmup_failed", "restart"), id="failed too often"),
        pytest.param(1, 1, 1800, ("failed", "warmup_failed", "restart"), id="no time is left"),
        pytest.param(2, 0, 100, ("ok", "", "none"), id="done"),
    ],
)
def test_warm_up(warmed: int, failures: int, age: int, told: tuple[str, str, str]) -> None:
    """A few tries of a warm-up may fail; more of them, or the end of the time, are a failure."""
    asked = ProbeSpec(port=8081, health_path="/health", warmup_path="/x", warmup_requests=2)
    probe = make.probe(warmed=warmed, warmup_failures=failures, warmup_detail="HTTP 500")
    now = make.snapshot(make.container(), probes=[probe])
    past = make.history(make.started(at=NOW - age))
    (verdict,) = CHECK.run(make.scene(now, make.replica(probe=asked), past=past))
    assert (verdict.state, verdict.reason, verdict.remedy) == told
    assert verdict.evidence.get("tries", 0) == failures


def test_one_that_answers_others_is_warm_enough() -> None:
    """Whatever became of its warm-up requests, which wait behind theirs."""
    asked = ProbeSpec(port=8081, health_path="/health", warmup_path="/x", warmup_requests=2)
    probe = make.probe(serves=True, warmup_failures=3)
    now = make.snapshot(make.container(), probes=[probe])
    past = make.history(make.started(at=NOW - 1800))
    (verdict,) = CHECK.run(make.scene(now, make.replica(probe=asked), past=past))
    assert (verdict.state, verdict.reason, verdict.remedy) == ("ok", "", "none")


@pytest.mark.parametrize(
    ("container", "reached_at", "state"),
    [
        pytest.param("c1", NOW - 30, "ok", id="a stage just now"),
        pytest.param("c1", NOW - 60, "failed", id="a stage long ago"),
        pytest.param("c0", NOW - 30, "failed", id="a stage of another container"),
    ],
)
def test_a_stage_is_progress(container: str, reached_at: float, state: str) -> None:
    """A load whose memory stands still gets on when its log tells of a further stage."""
    load = LoadReading(
        replica="chat-0", container=container, reached={"weights_loaded": reached_at}
    )
    refused = make.probe(outcome="refused", detail="connection refused")
    now = make.snapshot(make.container(), probes=[refused], loads={"chat-0": load})
    before = make.condition(
        check="health",
        evidence={"container": "c1", "held_bytes": 0, "grown_boot_seconds": NOW - 200},
    )
    past = make.history(make.started(at=NOW - 600))
    (verdict,) = CHECK.run(make.scene(now, past=past, before=[before]))
    assert (verdict.state, verdict.evidence["stage"]) == (
        state,
        "weights_loaded" if container == "c1" else "",
    )


def test_time_outs_while_it_moves() -> None:
    """Slow answers of an engine at work are degraded, and part of the same streak."""
    verdict = judged(make.probe(outcome="timeout", moving_at=NOW - 119))
    assert (verdict.state, verdict.reason, verdict.remedy) == ("degraded", "health_slow", "none")
    assert verdict.streak == "soft"


def test_other_answers_are_shown_and_no_more() -> None:
    """A 404 on the health path is a mistake in the profile, not a dead engine."""
    verdict = judged(make.probe(outcome="error", status=404))
    assert (verdict.state, verdict.reason, verdict.remedy) == ("degraded", "health_error", "none")
    assert verdict.evidence["status"] == 404


def test_not_probed_yet() -> None:
    """A ready container that this daemon has not asked yet is unknown, also by an old reading."""
    assert judged(None).reason == "not_probed_yet"
    assert judged(make.probe(id_="c0")).reason == "not_probed_yet"


@pytest.mark.parametrize(
    ("seconds", "grown_ago", "reason"),
    [
        pytest.param(599, 599, "loading", id="within-its-time"),
        pytest.param(600, 60, "startup_timeout", id="over-and-standing-still"),
        pytest.param(600, 59, "loading", id="over-and-getting-on"),
        pytest.param(1800, 1, "startup_timeout", id="past-the-hard-limit"),
    ],
)
def test_startup(seconds: float, grown_ago: float, reason: str) -> None:
    """A load may take 600 s, and 1800 s while it still grows."""
    past = make.history(make.started(at=NOW - seconds))
    before = make.condition(
        "health",
        reason="loading",
        evidence={"container": "c1", "held_bytes": 10**9, "grown_boot_seconds": NOW - grown_ago},
    )
    verdict = judged(make.probe(outcome="loading"), past, memory=10**9, before=[before])
    assert verdict.reason == reason
    assert verdict.remedy == ("restart" if reason == "startup_timeout" else "none")


def test_a_load_that_grows_is_noted() -> None:
    """The most it has held, and when that grew, are carried from tick to tick."""
    before = make.condition(
        "health",
        reason="loading",
        evidence={"container": "c1", "held_bytes": 10**9, "grown_boot_seconds": NOW - 50},
    )
    still = judged(None, LOADING, memory=10**9, before=[before])
    assert (still.evidence["held_bytes"], still.evidence["grown_boot_seconds"]) == (10**9, NOW - 50)
    grown = judged(None, LOADING, memory=2 * 10**9, before=[before])
    assert (grown.evidence["held_bytes"], grown.evidence["grown_boot_seconds"]) == (2 * 10**9, NOW)
    other = judged(None, make.history(make.started(id_="c1")), memory=5)
    assert other.evidence["grown_boot_seconds"] == NOW


def test_an_answer_ends_the_load() -> None:
    """The first ok is ok."""
    assert judged(make.probe(), LOADING).state == "ok"


def test_an_unread_runtime_makes_health_unknown() -> None:
    """docker-proxy dies with dockerd: while that cannot be reached, a refusal says nothing."""
    now = make.snapshot(
        make.container(), probes=[make.probe(outcome="refused")], errors={"runtime": "down"}
    )
    (verdict,) = CHECK.run(make.scene(now, past=READY))
    assert (verdict.state, verdict.reason) == ("unknown", "runtime_unread")


def test_a_stopped_container_is_not_asked_about() -> None:
    """Whatever was last heard of it."""
    now = make.snapshot(make.container(state="exited"), probes=[make.probe()])
    assert list(CHECK.run(make.scene(now, past=READY))) == []
