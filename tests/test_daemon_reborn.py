"""A daemon that ends, however it does, and the one that comes after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import make
from tests.moving import Rack
from tests.stage import FAULTS, Killed, Stage, intend


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_crash_loop_survives_the_daemon(stage: Stage) -> None:
    """A daemon that is killed and born again in a crash loop waits as long as it would have."""
    for _ in range(200):
        stage.pass_(1)
        for id_ in stage.fakes.runtime.running():
            stage.fakes.runtime.die(id_, 1)
    due = stage.row()["next_attempt_at"]
    assert stage.row()["reason"].startswith("crash_loop")
    stage.born()
    stage.pass_()
    assert stage.row()["next_attempt_at"] == pytest.approx(due)
    assert stage.row()["phase"] == "backoff"


@pytest.mark.parametrize("step", FAULTS)
def test_killed_between_two_steps_of_a_start(stage: Stage, step: str) -> None:
    """Wherever the daemon dies in a start: one new container, the attempt counted once."""
    stage.up()
    stage.fakes.runtime.die("c1", 1)
    stage.fault = step
    with pytest.raises(Killed):
        stage.pass_()
    stage.born()
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.fakes.runtime.running() == ["c2"]
    assert list(stage.fakes.runtime.containers) == ["c2"]
    assert stage.row()["restarts_1h"] == 1
    assert stage.tale("failed") == ["failed exit_1"]


@pytest.mark.parametrize("step", ["stop.terminate", "stop.terminate.asked"])
def test_killed_between_two_steps_of_a_stop(stage: Stage, step: str) -> None:
    """A stop that the daemon's death interrupted is carried through, and stays."""
    stage.up()
    stage.fault = step
    intend(stage, "stop", "chat-0")
    with pytest.raises(Killed):
        stage.pass_(3)
    stage.born()
    stage.pass_(5)
    assert (stage.phase(), stage.fakes.runtime.running()) == ("stopped", [])


def test_a_daemon_restart_touches_nothing(stage: Stage) -> None:
    """Fifty daemons one after the other: the same container, not one event about it."""
    stage.up()
    told = len(stage.tale("attempt", "failed", "adopted", "ready"))
    for _ in range(50):
        stage.born()
        stage.pass_(2)
        assert stage.phase() == "ready"
    assert stage.fakes.runtime.running() == ["c1"]
    assert len(stage.tale("attempt", "failed", "adopted", "ready")) == told


def test_an_upgrade_whose_defaults_grew_restarts_nothing(stage: Stage) -> None:
    """Other defaults mark the replica outdated, whenever the last `up` was; the next renews it."""
    stage.up()
    intend(stage, "up")
    stage.pass_(5)
    stage.plan = make.plan(make.replica(gpus=(), spec_digest="b"))
    stage.born()
    stage.pass_(20)
    assert (stage.phase(), stage.row()["outdated"]) == ("ready", True)
    assert stage.fakes.runtime.running() == ["c1"]
    intend(stage, "up")
    stage.pass_(5)
    assert stage.fakes.runtime.running() == ["c2"]
    assert stage.row()["outdated"] is False


def test_what_moves_is_not_renewed_by_the_next_up() -> None:
    """The lost GPU is the reason: neither a daemon's death nor an `up` on the way changes it."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    rack.pass_(60)
    rack.born()
    rack.lose(0)
    rack.pass_()
    rack.fakes.clock.advance(1)
    rack.ask("up")
    rack.pass_(20)
    assert rack.places() == {"chat-0": (1,)}
    assert rack.tale("intent") == ["intent up"]
    assert rack.story("chat-0")[0].startswith("chat-0: moved to GPU-1, because gpu_lost; ready")


def test_an_edited_profile_is_the_reason_of_what_it_changes() -> None:
    """Its replicas are not outdated: the operator changed what is wanted of them."""
    rack = Rack.with_gpus(gpus=(0,))
    (chat,) = rack.profile.workloads
    rack.reworked(replace(chat, environment={"SIZE": "2"}, intent='{"environment":{"SIZE":"2"}}'))
    rack.pass_(20)
    assert rack.tale("intent") == ["intent up"]
    assert (rack.phase(), rack.spec("chat-0").environment["SIZE"]) == ("ready", "2")
    assert rack.story("chat-0")[0].startswith("chat-0: an operator asked for `up`; ready after")


def test_a_dead_previous_boot_is_not_held_against_anyone(stage: Stage) -> None:
    """After a reboot what ran before starts again, without a failure to its name."""
    stage.up()
    stage.fakes.runtime.die("c1", 137)
    stage.fakes.clock.boot_id, stage.fakes.clock.seconds = "boot-2", 60.0
    stage.fakes.clock.wall += 300.0
    stage.born()
    stage.pass_(5)
    assert stage.phase() == "ready"
    assert stage.tale("failed") == ["failed host_rebooted"]
    assert stage.row()["restarts_1h"] == 0
