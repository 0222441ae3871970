"""Engines that run and do not answer well, under the whole daemon on fakes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.model import ProbeResult
from tests.fakes import busy
from tests.stage import Stage, refuse


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_refused_is_a_restart_after_three_in_a_row_and_ten_seconds(stage: Stage) -> None:
    """Refused connections cost a restart only when there are enough of them for long enough."""
    stage.up()
    refuse(stage, "refused")
    stage.pass_(9)
    assert (stage.phase(), stage.tale("failed")) == ("degraded", [])
    stage.pass_(2)
    assert stage.tale("failed") == ["failed health_refused"]
    del stage.fakes.prober.answers[8081]
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.tale("attempt") == [
        "attempt wanted",
        "attempt health_refused",
        "attempt health_refused",
    ]


def test_flapping_below_the_threshold_never_restarts(stage: Stage) -> None:
    """Two refusals, one answer, and again, for an hour: nothing is restarted."""
    stage.up()
    for _ in range(600):
        refuse(stage, "refused")
        stage.pass_(4, step=2)
        del stage.fakes.prober.answers[8081]
        stage.pass_(1)
    assert stage.tale("failed") == []


def test_a_hung_engine_is_killed_after_its_grace(stage: Stage) -> None:
    """Time-outs for two minutes with nothing moving: SIGTERM, SIGKILL 5 s later, one restart."""
    stage.up()
    stage.fakes.runtime.deaf.add("c1")
    refuse(stage, "timeout")
    stage.pass_(118, step=2)
    assert stage.tale("failed") == []
    stage.pass_(10)
    assert stage.tale("failed") == ["failed health_timeout"]
    signals = [call for call in stage.fakes.runtime.calls if call[0].startswith("SIG")]
    assert signals == [("SIGTERM", "c1"), ("SIGKILL", "c1")]


def test_an_engine_frozen_at_work_is_found_by_its_health(stage: Stage) -> None:
    """Neither health nor metrics come, as after a SIGSTOP: two minutes, and it is restarted."""
    stage.up()
    stage.fakes.prober.answers[8081] = busy(tokens=7)
    stage.pass_(5)
    frozen = ProbeResult(outcome="timeout", metrics_late=True)
    stage.fakes.prober.answers[8081] = frozen
    stage.pass_(114, step=2)
    assert stage.tale("failed") == []
    stage.pass_(16, step=2)
    assert stage.tale("failed") == ["failed health_timeout"]


def test_a_batch_that_takes_long_costs_no_restart(stage: Stage) -> None:
    """Health is good, the metrics do not come: for six minutes it is a batch, then it goes on."""
    stage.up()
    stage.fakes.prober.answers[8081] = busy(tokens=7)
    stage.pass_(5)
    stage.fakes.prober.answers[8081] = ProbeResult(outcome="ok", status=200, metrics_late=True)
    stage.pass_(350, step=5)
    stage.fakes.prober.answers[8081] = busy(tokens=2055)
    stage.pass_(10, step=5)
    assert stage.tale("failed") == []
    assert stage.tale("condition") == ["condition long_batch", "condition ok"]


def test_busy_is_not_dead(stage: Stage) -> None:
    """Health that times out while tokens move never costs a restart."""
    stage.up()
    for tokens in range(400):
        answer = replace(busy(tokens + 2.0), outcome="timeout", status=None)
        stage.fakes.prober.answers[8081] = answer
        stage.pass_(1)
    assert stage.tale("failed") == []
    assert stage.row()["reason"] == "health_slow"


def test_ok_is_not_alive(stage: Stage) -> None:
    """200 with requests in flight and no token for two minutes is stalled, and is restarted."""
    stage.up()
    stage.fakes.prober.answers[8081] = busy(tokens=7)
    stage.pass_(115, step=5)
    assert stage.tale("failed") == []
    stage.pass_(10)
    assert stage.tale("failed") == ["failed stalled"]


def test_a_slow_batch_teaches_patience(stage: Stage) -> None:
    """An engine that once stood still for 100 s and went on may do so for 300 s."""
    stage.up()
    stage.fakes.prober.answers[8081] = busy(tokens=7)
    stage.pass_(100, step=5)
    stage.fakes.prober.answers[8081] = busy(tokens=8)
    stage.pass_(5)
    stage.pass_(285, step=5)
    assert stage.tale("failed") == []
    stage.pass_(30, step=5)
    assert stage.tale("failed") == ["failed stalled"]


def test_a_gap_between_ticks_forgets_streaks(stage: Stage) -> None:
    """After a suspend of five minutes a failure streak starts at zero."""
    stage.up()
    refuse(stage, "refused")
    stage.pass_(8, step=4)
    stage.fakes.clock.advance(300)
    stage.pass_(8, step=4)
    assert stage.tale("failed") == []
