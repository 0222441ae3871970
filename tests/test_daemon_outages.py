"""A host, an engine, a clock or a disk that fails under the whole daemon on fakes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gpuctl.errors import RuntimeUnavailable
from gpuctl.model import RuntimeEvent
from tests import make
from tests.fakes import Instant
from tests.stage import Stage, refuse


@pytest.fixture
def stage() -> Stage:
    return Stage()


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


@pytest.mark.parametrize(
    ("dying", "reasons"),
    [
        pytest.param(("c1", "c2", "c3", "c4"), {"runtime_restarted"}, id="all"),
        pytest.param(("c1",), {"killed"}, id="one-of-four"),
    ],
)
def test_an_engine_that_restarts_behind_its_socket(
    dying: tuple[str, ...], reasons: set[str]
) -> None:
    """No question is refused: the stream ended and all are dead. One that lived on tells not so."""
    stage = Stage(make.plan(*(make.replica(f"chat-{i}", gpus=()) for i in range(4))))
    stage.pass_(3)
    source = stage.daemon.sources.runtime
    source._ended = Instant()
    errors: list[object] = []

    def watch(since: float | None) -> Iterator[RuntimeEvent]:
        stage.pass_(6)
        for id_ in dying:
            stage.fakes.runtime.die(id_, 137)
        stage.fakes.runtime.watch = ended  # type: ignore[method-assign]
        yield from ()

    def ended(since: float | None) -> Iterator[RuntimeEvent]:
        errors.append(dict(stage.daemon.latest.errors))
        source.end()
        yield from ()

    stage.fakes.runtime.watch = watch  # type: ignore[method-assign]
    source.watch()
    stage.pass_(5)
    assert {reason.removeprefix("failed ") for reason in stage.tale("failed")} == reasons
    assert errors == [{}], "nothing was held back, and no condition told"
    assert {stage.phase(f"chat-{i}") for i in range(4)} == {"ready"}


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
