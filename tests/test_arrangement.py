"""The plan in force, and what becomes of it where what has moved cannot be planned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.arrangement import Arrangement, Setting
from gpuctl.errors import PlanRefused
from gpuctl.model import Assignment, Assignments, HostSettings, Plan, Profile
from tests import make
from tests.moving import Rack

PLAN = make.plan(make.replica("chat-0"), make.replica("chat-1"))


def moved(*names: str) -> Assignments:
    return Assignments(moved={name: Assignment(gpus=("GPU-9",)) for name in names})


def arranged(asked: list[tuple[str, ...]], *unable: str) -> Arrangement:
    """Return one that cannot plan a move of the *unable*; what is asked of it is noted."""

    def arrange(assignments: Assignments) -> Plan:
        asked.append(tuple(assignments.moved))
        for name in unable:
            if name in assignments.moved:
                raise PlanRefused(f"no place for {name}")
        return replace(PLAN, warnings=tuple(assignments.moved))

    profile = Profile(host=HostSettings(name="test"))
    return Arrangement(Setting(profile=profile, plan=PLAN, arrange=arrange))


def test_it_is_made_once_for_what_has_moved() -> None:
    asked: list[tuple[str, ...]] = []
    arrangement = arranged(asked)
    plans = [arrangement.plan(moved(*names)) for names in ((), ("chat-0",), ("chat-0",))]
    assert [plan.warnings for plan in plans] == [(), ("chat-0",), ("chat-0",)]
    assert asked == [("chat-0",)]


@pytest.mark.parametrize(
    ("unable", "kept", "refused"),
    [
        pytest.param(("chat-2",), ("chat-1",), "no place for chat-2", id="what-was-added"),
        pytest.param(("chat-1",), ("chat-2",), "no place for chat-1", id="one-of-the-profile-s"),
        pytest.param(("chat-1", "chat-2"), (), "no place for chat-1", id="all"),
    ],
)
def test_what_cannot_be_planned_takes_nothing_else_with_it(
    unable: tuple[str, ...], kept: tuple[str, ...], refused: str
) -> None:
    """The other moves hold, those of the profile's own replicas first."""
    plan = arranged([], *unable).plan(moved("chat-2", "chat-1"))
    assert (plan.warnings, plan.refused) == (kept, refused)


def test_a_port_that_the_profile_gives_away_moves_nobody_back() -> None:
    """What `scale` added goes; who serves from the reserve is not sent to a GPU that is lost."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1, 2))
    rack.ask("scale", counts={"chat": 2})
    rack.pass_(12)
    rack.lose(0)
    rack.pass_(12)
    (chat,) = rack.profile.workloads
    rack.reworked(chat, replace(chat, name="other", port=8082, gpus="none"))
    rack.pass_(30)
    assert rack.places() == {"chat-0": (2,), "other-0": ()}
    assert (rack.phase("chat-0"), rack.phase("other-0")) == ("ready", "ready")
    assert {("host", "plan_refused"), ("chat", "scale_unfulfilled")} <= rack.reasons()
    assert rack.tale("moved") == ["moved scaled", "moved gpu_lost"]


def test_a_move_that_cannot_be_planned_is_told_once() -> None:
    """Not at every tick: the journal would be of nothing else."""
    rack = Rack.with_gpus(gpus=(0,), reserve=(1,))
    arrange = rack.arrange

    def refusing(assignments: Assignments) -> Plan:
        if assignments.moved:
            raise PlanRefused("there is no such place")
        return arrange(assignments)

    rack.arrange = refusing  # type: ignore[method-assign]
    rack.ask("up")
    rack.lose(0)
    rack.pass_(12)
    assert rack.tale("cordoned", "moved") == ["cordoned gpu_lost", "moved gpu_lost"]
    assert ("host", "plan_refused") in rack.reasons()
