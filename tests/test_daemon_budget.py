"""Starts that the engine does not carry out: how often they are tried, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpuctl.errors import NameTaken, RuntimeTimeout, RuntimeUnavailable, StartRefused
from tests.stage import Stage, intend


@pytest.fixture
def stage() -> Stage:
    return Stage()


class Counted:
    """A call of the engine's that does not succeed, and when it was made."""

    def __init__(self, stage: Stage, error: Exception, *, seconds: float = 0.0) -> None:
        self._stage, self._error, self._seconds = stage, error, seconds
        self.at: list[float] = []
        self.breaks: Callable[[], None] = lambda: None

    def __call__(self, *_: object) -> str:
        clock = self._stage.fakes.clock
        self.at.append(clock.seconds)
        clock.advance(self._seconds)
        self.breaks()
        raise self._error

    def most(self, seconds: float) -> int:
        """Return how many were made within so many seconds at most."""
        return max(sum(at <= other < at + seconds for other in self.at) for at in self.at)


@pytest.mark.parametrize(
    ("call", "error", "seconds", "reason"),
    [
        pytest.param(
            "start", RuntimeTimeout("no answer for 45 s"), 45, "runtime_timeout", id="45-s"
        ),
        pytest.param("start", RuntimeUnavailable("500"), 0, "runtime_error", id="error"),
        pytest.param("create", RuntimeTimeout("no answer"), 10, "runtime_timeout", id="create"),
        pytest.param("rename", NameTaken("a stranger's"), 0, "name_taken", id="name-taken"),
    ],
)
def test_a_start_that_is_not_carried_out_waits_its_turn(
    stage: Stage, call: str, error: Exception, seconds: float, reason: str
) -> None:
    """An engine that lists and does not start: 6 tries in 15 min, 9 an hour, each announced."""
    tries = Counted(stage, error, seconds=seconds)
    setattr(stage.fakes.runtime, call, tries)
    stage.pass_(4000, step=5)
    assert (tries.most(900) <= 6, tries.most(3600) <= 9, len(tries.at) > 8) == (True,) * 3
    row = stage.row()
    assert (row["phase"], row["reason"]) == ("backoff", f"crash_loop: {reason}")
    assert row["next_attempt_at"] > stage.fakes.clock.now()
    assert row["restarts_24h"] == len(tries.at) - 1, "every try after a failure"


def test_the_first_wait_is_announced_too(stage: Stage) -> None:
    """Right after a try that came to nothing: back-off, why, and when the next one is."""
    stage.fakes.runtime.start = Counted(stage, RuntimeUnavailable("500"))  # type: ignore[assignment, method-assign]
    stage.pass_(1)
    row = stage.row()
    assert (row["phase"], row["reason"]) == ("backoff", "runtime_error")
    assert row["next_attempt_at"] == stage.fakes.clock.now() + 5.0
    stage.pass_(6)
    row = stage.row()
    assert (row["phase"], row["reason"]) == ("backoff", "runtime_error")
    assert row["next_attempt_at"] == pytest.approx(stage.fakes.clock.now() + 10.0, abs=1.0)


def test_an_outage_in_a_start_is_not_held_against_it(stage: Stage) -> None:
    """The engine goes away under one start: when it is back the next one waits for nothing."""
    tries = Counted(stage, RuntimeUnavailable("connection reset"))
    tries.breaks = lambda: setattr(stage.fakes.runtime, "unreachable", True)
    start = stage.fakes.runtime.start
    stage.fakes.runtime.start = tries  # type: ignore[assignment, method-assign]
    stage.pass_(60)
    stage.fakes.runtime.start = start  # type: ignore[method-assign]
    stage.fakes.runtime.unreachable = False
    stage.pass_(2)
    assert (len(tries.at), stage.phase(), stage.row()["restarts_1h"]) == (1, "ready", 0)


def test_an_engine_that_every_start_brings_down_is_spared(stage: Stage) -> None:
    """One outage excuses one start: a replica that no engine survives keeps to its budget."""
    tries = Counted(stage, RuntimeUnavailable("connection reset"))
    tries.breaks = lambda: setattr(stage.fakes.runtime, "unreachable", True)
    stage.fakes.runtime.start = tries  # type: ignore[assignment, method-assign]
    for _ in range(800):
        stage.pass_(4, step=4)
        stage.fakes.runtime.unreachable = False
        stage.fakes.clock.advance(1)
    assert (tries.most(900) <= 6, tries.most(3600) <= 9, len(tries.at) > 8) == (True,) * 3


def test_an_image_that_was_missing_is_one_restart(stage: Stage) -> None:
    """A start that finds no image restarts nothing; the one after it does."""
    stage.up()
    stage.fakes.runtime.containers.clear()
    stage.fakes.runtime.images.clear()
    stage.pass_(5)
    assert (stage.phase(), stage.row()["restarts_1h"]) == ("ready", 1)


def test_an_image_that_stays_missing_is_not_fetched_without_end(stage: Stage) -> None:
    """A pull that ends well and leaves no image: the budget holds here too."""
    stage.fakes.runtime.images.clear()
    pulls: list[float] = []
    stage.fakes.runtime.pull = (  # type: ignore[method-assign]
        lambda image, progress: pulls.append(stage.fakes.clock.seconds)
    )
    stage.pass_(900, step=2)
    assert (len(pulls) <= 6, stage.row()["phase"]) == (True, "backoff")


@pytest.mark.parametrize("pruned", [False, True], ids=["start", "pull"])
def test_what_served_for_hours_keeps_to_the_budget_too(stage: Stage, pruned: bool) -> None:
    """Its ready time makes its next failure the first one, and no other after it."""
    stage.up()
    stage.pass_(3600, step=60)
    if pruned:
        stage.fakes.runtime.images.clear()
        stage.fakes.runtime.containers.clear()
    tries = Counted(stage, StartRefused("the registry says 429" if pruned else "driver failed"))
    setattr(stage.fakes.runtime, "pull" if pruned else "start", tries)
    if not pruned:
        stage.fakes.runtime.die("c1", 1)
    stage.pass_(7200, step=2)
    assert (tries.most(900) <= 6, tries.most(3600) <= 9, len(tries.at) > 8) == (True,) * 3
    assert (stage.phase(), stage.row()["reason"]) == ("backoff", "crash_loop: start_refused")


def test_an_operator_who_asks_again_wipes_the_slate_of_a_pull_too(stage: Stage) -> None:
    """After a crash loop of pulls the next one that fails is the first failure."""
    stage.fakes.runtime.images.clear()
    pulls = Counted(stage, StartRefused("the registry says 429"))
    stage.fakes.runtime.pull = pulls  # type: ignore[assignment, method-assign]
    stage.pass_(400, step=2)
    assert stage.row()["reason"] == "crash_loop: start_refused"
    before = len(pulls.at)
    intend(stage, "run", "chat-0")
    stage.pass_(1)
    assert (len(pulls.at), stage.row()["reason"]) == (before + 1, "start_refused")
