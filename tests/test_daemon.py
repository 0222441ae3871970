"""Lives and deaths under the whole daemon on fakes, and the events that tell of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stage import Stage


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
