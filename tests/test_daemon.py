"""Scenarios of the whole daemon on fakes: what happens, and the events that tell of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import RuntimeUnavailable
from gpuctl.model import ProbeResult, RuntimeEvent
from tests import make
from tests.fakes import Instant, busy
from tests.stage import Stage, refuse


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_replica_comes_up(stage: Stage) -> None:
    """A wanted replica is started once, is loading until it answers, then ready."""
    stage.up()
    assert stage.tale("attempt", "done", "ready") == ["attempt wanted", "done wanted", "ready"]
    assert stage.fakes.runtime.running() == ["c1"]
    assert [call[0] for call in stage.fakes.runtime.calls] == ["create", "rename", "start"]


@pytest.mark.parametrize(
    ("exit_code", "fields", "reason"),
    [
        pytest.param(0, {}, "exit_0", id="exit-0"),
        pytest.param(1, {}, "exit_1", id="exit-1"),
        pytest.param(137, {}, "killed", id="sigkill"),
        pytest.param(143, {}, "terminated", id="sigterm-from-outside"),
        pytest.param(139, {}, "crashed", id="segmentation-fault"),
        pytest.param(137, {"oom_killed": True}, "oom_killed", id="out-of-memory"),
        pytest.param(127, {"error": "exec format error"}, "start_error", id="start-error"),
    ],
)
def test_a_death_is_one_restart(
    stage: Stage, exit_code: int, fields: dict[str, Any], reason: str
) -> None:
    """However it died: it serves again after exactly one restart that names the reason."""
    stage.up()
    stage.fakes.runtime.die("c1", exit_code, **fields)
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.tale("failed") == [f"failed {reason}"]
    assert stage.fakes.runtime.running() == ["c2"]
    assert list(stage.fakes.runtime.containers) == ["c2"]
    assert stage.row()["restarts_1h"] == 1
    left = [e for e in stage.fakes.store.stored if e.kind == "evidence"]
    assert left[0].evidence["log"] == ("last words of c1",)


def test_removed_by_another_client(stage: Stage) -> None:
    """A container removed behind our back is started again, and the evidence says by whom."""
    stage.up()
    del stage.fakes.runtime.containers["c1"]
    stage.pass_(5)
    assert stage.phase() == "ready"
    failed = [e for e in stage.fakes.store.stored if e.kind == "failed"]
    assert [(e.reason, e.evidence["removed_by"]) for e in failed] == [("removed", "another client")]


def test_an_old_container_that_cannot_be_removed_stays_aside(stage: Stage) -> None:
    """The replica serves again although the runtime would not remove the dead container."""
    stage.up()
    stage.fakes.runtime.irremovable.add("c1")
    stage.fakes.runtime.die("c1", 1)
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.fakes.runtime.containers["c1"].name == "gpuctl-chat-0.old-c1"
    assert stage.tale("failed") == ["failed exit_1"]
    stage.fakes.runtime.irremovable.clear()
    stage.pass_(70)
    assert list(stage.fakes.runtime.containers) == ["c2"]


def test_one_that_cannot_be_removed_holds_up_no_later_start(stage: Stage) -> None:
    """A replica dies, dies again, and serves again, whatever has become of the first container."""
    stage.up()
    stage.fakes.runtime.irremovable.update({"c1", "c2"})
    stage.fakes.runtime.die("c1", 1)
    stage.pass_(5)
    stage.fakes.runtime.die("c2", 1)
    stage.pass_(15)
    assert stage.phase() == "ready"
    assert stage.tale("failed") == ["failed exit_1", "failed exit_1"]
    assert stage.fakes.runtime.running() == ["c3"]
    assert list(stage.fakes.runtime.containers) == ["c1", "c2", "c3"]


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


def test_a_crash_loop_obeys_its_budget_and_says_when_it_tries_next(stage: Stage) -> None:
    """A container that dies at once: at most 6 starts in 15 min, 9 an hour, for three hours."""
    starts: list[float] = []
    for _ in range(3 * 3600 // 2):
        before = len(stage.fakes.runtime.specs)
        stage.pass_()
        stage.fakes.clock.advance(2)
        for id_ in stage.fakes.runtime.running():
            stage.fakes.runtime.die(id_, 1)
        if len(stage.fakes.runtime.specs) > before:
            starts.append(stage.fakes.clock.seconds)
    quarter = max(sum(at <= other < at + 900 for other in starts) for at in starts)
    hour = max(sum(at <= other < at + 3600 for other in starts) for at in starts)
    assert (quarter <= 6, hour <= 9, len(starts) > 12) == (True, True, True)
    row = stage.row()
    assert (row["phase"], row["reason"]) == ("backoff", "crash_loop: exit_1")
    assert row["next_attempt_at"] > stage.fakes.clock.now()


def test_docker_gone_is_no_failure(stage: Stage) -> None:
    """An engine that cannot be reached for ten minutes changes nothing; a condition says so."""
    stage.up()
    stage.fakes.runtime.unreachable = True
    refuse(stage, "refused")
    stage.pass_(600, step=5)
    assert stage.tale("failed", "attempt") == ["attempt wanted"]
    assert "runtime_unread" in json.dumps(stage.fakes.store.status["conditions"])
    stage.fakes.runtime.unreachable = False
    del stage.fakes.prober.answers[8081]
    stage.pass_(10)
    assert stage.phase() == "ready"
    assert stage.fakes.runtime.running() == ["c1"]


def test_an_engine_that_tells_no_events_is_watched_at_the_interval(stage: Stage) -> None:
    """One steady condition says so; a death is repaired all the same, and excused by nothing."""
    stage.up()
    source = stage.daemon.sources.runtime
    source._ended = Instant()
    seen: list[list[tuple[str, float]]] = []

    def watch(since: float | None) -> Iterator[RuntimeEvent]:
        if len(seen) == 2:
            stage.fakes.runtime.die("c1", 1)
        stage.pass_(4)
        seen.append([(c["reason"], c["since"]) for c in stage.fakes.store.status["conditions"]])
        if len(seen) == 6:
            source.end()
        raise RuntimeUnavailable("cannot read the events: 403")

    stage.fakes.runtime.watch = watch  # type: ignore[method-assign]
    source.watch()
    assert (seen[0], seen[1:]) == ([], [[("events_unread", make.AT + 7)]] * 5)
    assert (stage.phase(), stage.tale("failed")) == ("ready", ["failed exit_1"])


def test_a_death_beside_a_list_that_failed_is_the_replica_s_own(stage: Stage) -> None:
    """On a host with one replica: the stream of events that went on tells that the engine did."""
    stage.up()
    source = stage.daemon.sources.runtime
    source._ended = Instant()

    def watch(since: float | None) -> Iterator[RuntimeEvent]:
        stage.pass_(6)
        stage.fakes.runtime.unreachable = True
        stage.pass_(2)
        stage.fakes.runtime.unreachable = False
        stage.fakes.runtime.die("c1", 1)
        stage.pass_(5)
        source.end()
        yield from ()

    stage.fakes.runtime.watch = watch  # type: ignore[method-assign]
    source.watch()
    assert (stage.phase(), stage.tale("failed")) == ("ready", ["failed exit_1"])
    assert stage.row()["restarts_1h"] == 1


def test_a_docker_restart_is_not_held_against_anyone() -> None:
    """Containers that went down with their engine start again, without using any budget."""
    plan = make.plan(
        *(make.replica(f"chat-{i}", gpus=()) for i in range(4)),
        watchdog=replace(make.SETTINGS, host_fault_ratio=0.5),
    )
    stage = Stage(plan)
    stage.pass_(3)
    stage.fakes.runtime.unreachable = True
    stage.pass_(10)
    for id_ in stage.fakes.runtime.running():
        stage.fakes.runtime.die(id_, 137)
    stage.fakes.runtime.unreachable = False
    stage.pass_(5)
    assert {stage.phase(f"chat-{i}") for i in range(4)} == {"ready"}
    assert set(stage.tale("failed")) == {"failed runtime_restarted"}
    assert stage.tale("host_fault") == []
    assert {stage.row(f"chat-{i}")["restarts_1h"] for i in range(4)} == {0}


def test_a_host_fault_holds_starts_until_one_is_ready() -> None:
    """Half the replicas failing within a minute: one probe start, and all when it is ready."""
    plan = make.plan(
        *(make.replica(f"chat-{i}", gpus=()) for i in range(4)),
        watchdog=replace(make.SETTINGS, host_fault_ratio=0.5),
    )
    stage = Stage(plan)
    stage.pass_(3)
    for port in range(8081, 8085):
        refuse(stage, "loading", port)
    for id_ in stage.fakes.runtime.running():
        stage.fakes.runtime.die(id_, 1)
    stage.pass_(30)
    assert stage.tale("host_fault") == ["host_fault many_failed_at_once"]
    assert len(stage.fakes.runtime.running()) == 1
    stage.fakes.prober.answers.clear()
    stage.pass_(5)
    assert stage.tale("host_ok") == ["host_ok a replica is ready again"]
    assert {stage.phase(f"chat-{i}") for i in range(4)} == {"ready"}


def test_a_step_of_the_wall_clock_changes_nothing(stage: Stage) -> None:
    """An hour forward, two back: no restart, and the back-off stays as long as it was."""
    stage.up()
    for step in (3600.0, -7200.0, 3600.0):
        stage.fakes.clock.wall += step
        stage.pass_(20)
    assert stage.tale("failed") == []
    stage.fakes.runtime.die("c1", 1)
    stage.pass_(2)
    stage.fakes.runtime.die("c2", 1)
    stage.pass_()
    stage.fakes.clock.wall += 3600.0
    stage.pass_(5)
    assert stage.phase() == "backoff"
    stage.pass_(8)
    assert stage.phase() == "ready"


def test_a_gap_between_ticks_forgets_streaks(stage: Stage) -> None:
    """After a suspend of five minutes a failure streak starts at zero."""
    stage.up()
    refuse(stage, "refused")
    stage.pass_(8, step=4)
    stage.fakes.clock.advance(300)
    stage.pass_(8, step=4)
    assert stage.tale("failed") == []


def test_a_full_disk_does_not_end_the_daemon(stage: Stage) -> None:
    """What cannot be committed is not begun; when there is room again it is."""
    stage.up()
    stage.fakes.store.full = True
    stage.fakes.runtime.die("c1", 1)
    stage.pass_(5)
    assert stage.fakes.runtime.running() == []
    stage.fakes.store.full = False
    stage.pass_(5)
    assert stage.fakes.runtime.running() == ["c2"]


def test_a_refused_start_backs_off(stage: Stage) -> None:
    """A start that the runtime refuses is told in its words, counted, and tried again later."""
    stage.fakes.runtime.refuses = "port 8081 is taken"
    stage.pass_(30)
    row = stage.row()
    assert (row["phase"], row["reason"]) == ("backoff", "start_refused")
    undone = [e for e in stage.fakes.store.stored if e.kind == "undone"]
    assert undone[0].evidence["error"] == "port 8081 is taken"
    assert len(undone) == 3
    stage.fakes.runtime.refuses = ""
    stage.pass_(30)
    assert stage.phase() == "ready"
    assert len(stage.fakes.runtime.containers) == 1


def test_a_source_that_hangs_counts_as_unread(stage: Stage) -> None:
    """When the containers have not been listed for half a minute nothing is done about them."""
    stage.up()
    stage.fakes.runtime.die("c1", 1)
    for _ in range(20):
        stage.fakes.clock.advance(2)
        stage.daemon.step()
    assert stage.tale("failed") == []
    (told,) = (
        c for c in stage.fakes.store.status["conditions"] if c["check"] == "runtime_readable"
    )
    assert told["evidence"]["error"].startswith("no reading for")
    stage.pass_(5)
    assert stage.fakes.runtime.running() == ["c2"]
