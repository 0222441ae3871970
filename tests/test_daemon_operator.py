"""What an operator asks of a whole daemon, and how it is carried out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.errors import NotFound
from tests import make
from tests.stage import Stage, intend


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_stop_holds_until_start(stage: Stage) -> None:
    """A stopped replica stays stopped through a new daemon, until it is asked for again."""
    stage.up()
    intend(stage, "stop", "chat-0")
    stage.pass_(3)
    stage.born()
    stage.pass_(100, step=5)
    assert (stage.phase(), stage.fakes.runtime.running()) == ("stopped", [])
    assert stage.tale("failed") == []
    intend(stage, "run", "chat")
    stage.pass_(3)
    assert stage.phase() == "ready"


def test_down_removes_everything(stage: Stage) -> None:
    """After a `down` nothing is left, and `up` brings it back."""
    stage.up()
    intend(stage, "down")
    stage.pass_(5)
    assert stage.fakes.runtime.containers == {}
    assert stage.phase() == "stopped"
    intend(stage, "up")
    stage.pass_(3)
    assert stage.phase() == "ready"


@pytest.mark.parametrize(
    ("verb", "phase", "running"),
    [("stop", "stopped", []), ("down", "stopped", []), ("renew", "ready", ["c2"])],
)
def test_a_paused_replica_goes_like_any_other(
    stage: Stage, verb: str, phase: str, running: list[str]
) -> None:
    """It serves nobody and hears no SIGTERM: no drain, no grace, and no failure."""
    stage.up()
    stage.fakes.runtime.pause("c1")
    stage.pass_(60)
    assert stage.fakes.runtime.containers["c1"].state == "paused", "an operator's doing"
    intend(stage, verb)
    stage.pass_(5)
    assert (stage.phase(), stage.fakes.runtime.running()) == (phase, running)
    assert stage.tale("failed") == []
    assert verb == "stop" or "c1" not in stage.fakes.runtime.containers


def test_restart_is_drain_stop_start(stage: Stage) -> None:
    """`restart` replaces the container once, and is no failure."""
    stage.up()
    intend(stage, "renew", "chat-0")
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.fakes.runtime.running() == ["c2"]
    assert stage.tale("failed") == []
    assert stage.row()["restarts_24h"] == 0


def test_an_unknown_subject_is_refused(stage: Stage) -> None:
    """An intent for what does not exist is an error, not a silent wish."""
    with pytest.raises(NotFound, match="'chat-9' is no replica"):
        stage.daemon.intend({"verb": "stop", "subject": "chat-9"})


def test_observe_mode_says_what_it_would_do(stage: Stage) -> None:
    """In observe mode a dead container is reported and left alone."""
    stage.up()
    stage.plan = make.plan(make.replica(gpus=()), watchdog=replace(make.SETTINGS, mode="observe"))
    stage.born()
    stage.fakes.runtime.die("c1", 1)
    stage.pass_(20)
    assert stage.row()["reason"] == "observe_only: exit_1"
    assert stage.fakes.runtime.running() == []
