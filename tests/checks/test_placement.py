"""Is everything where the profile puts it?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.checks.placement import CHECK
from gpuctl.model import Assignment, Verdict, WorkloadPlan
from tests import make
from tests.make import AT, NOW

HOME = (make.identity(0),)
MOVED = Assignment(gpus=("GPU-1",), reason="gpu_lost")
CORDONED = make.event("cordoned", "GPU-0", "gpu_lost", NOW - 60)
BY_HAND = make.event("intent", "GPU-0", "cordon", NOW - 60, uid=7, note="new fan")
LOST = make.condition("gpu_missing", "GPU-0", remedy="avoid", reason="gpu_lost")
RUNS = make.container()


def told(scene: Any) -> list[tuple[str, str, str]]:
    return [(v.subject, v.state, v.reason) for v in CHECK.run(scene)]


def test_at_home_there_is_nothing_to_tell() -> None:
    assert told(make.scene(make.snapshot(RUNS))) == []


@pytest.mark.parametrize(
    ("event", "by", "because"),
    [
        pytest.param(CORDONED, "gpuctl", "gpu_lost", id="gpuctl"),
        pytest.param(BY_HAND, "operator", "new fan", id="operator"),
    ],
)
def test_a_cordon_is_told_with_who_since_when_why_and_how_it_ends(
    event: Any, by: str, because: str
) -> None:
    """All that an operator asks of it at three in the morning."""
    scene = make.scene(make.snapshot(), make.replica(gpus=(0,)), past=make.history(event))
    assert next(iter(CHECK.run(scene))) == Verdict(
        check="placement",
        subject="GPU-0",
        state="degraded",
        reason="gpu_cordoned",
        evidence={
            "by": by,
            "because": because,
            "cordoned_at": AT - 60,
            "command": "gpuctl uncordon 0",
        },
    )


def test_an_uncordoned_gpu_is_as_any_other() -> None:
    past = make.history(CORDONED, make.event("intent", "GPU-0", "uncordon"))
    assert told(make.scene(make.snapshot(RUNS), past=past)) == []


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        pytest.param({"gpus": (1,), "moved": MOVED, "home": HOME}, ["on_reserve"], id="reserve"),
        pytest.param(
            {"gpus": (), "moved": Assignment(), "home": HOME, "on_cpu": True}, ["on_cpu"], id="cpu"
        ),
        pytest.param({"gpus": (1,), "moved": MOVED}, [], id="scaled-has-no-home"),
        pytest.param(
            {"gpus": (1,), "moved": MOVED, "home": HOME, "surplus": True}, [], id="on-its-way-out"
        ),
    ],
)
def test_where_a_replica_is_instead(fields: dict[str, Any], reasons: list[str]) -> None:
    """The reserve and the CPU are told; what `scale` added is at home wherever it is."""
    scene = make.scene(make.snapshot(), make.replica(**fields))
    assert [reason for _, _, reason in told(scene)] == reasons


@pytest.mark.parametrize(
    ("container", "state"),
    [pytest.param((RUNS,), "degraded", id="runs"), pytest.param((), "failed", id="waits")],
)
def test_no_gpu_is_left(container: Any, state: str) -> None:
    """Worse for one that waits than for one that runs on."""
    scene = make.scene(make.snapshot(*container), before=[LOST])
    assert told(scene) == [("chat-0", state, "no_gpu_left")]


def test_one_that_is_stopped_needs_none() -> None:
    past = make.history(make.event("intent", "chat-0", "stop"))
    assert told(make.scene(make.snapshot(), past=past, before=[LOST])) == []


def test_fewer_than_scale_asked_for() -> None:
    """By the workload, with both numbers."""
    scene = make.scene(make.snapshot(RUNS))
    wanted = WorkloadPlan(name="chat", replicas=1, wanted=3)
    scene = replace(scene, plan=replace(scene.plan, workloads=(wanted,)))
    (verdict,) = CHECK.run(scene)
    assert (verdict.subject, verdict.reason) == ("chat", "scale_unfulfilled")
    assert verdict.evidence == {"wanted": 3, "placed": 1}


def test_fewer_than_the_profile_has_are_told_with_the_way_back() -> None:
    """What `scale` asked for holds, through an `up` as well, until it is asked for otherwise."""
    scene = make.scene(make.snapshot(RUNS))
    wanted = WorkloadPlan(name="chat", replicas=4, wanted=1)
    scene = replace(scene, plan=replace(scene.plan, workloads=(wanted,)))
    assert list(CHECK.run(scene)) == [
        Verdict(
            check="placement",
            subject="chat",
            state="degraded",
            reason="scaled_down",
            evidence={"wanted": 1, "in_profile": 4, "command": "gpuctl scale chat=4"},
        )
    ]


def test_a_plan_that_was_refused_is_told() -> None:
    """With its mistakes, until it can be made."""
    scene = make.scene(make.snapshot(RUNS), refused="port 8081 is taken")
    (verdict,) = CHECK.run(scene)
    assert (verdict.subject, verdict.reason) == ("host", "plan_refused")
    assert verdict.evidence == {"error": "port 8081 is taken"}
