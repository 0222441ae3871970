"""Which rung of the ladder holds: one replica's state in, what is recorded of it out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.failover import failover
from gpuctl.model import Assignment, Event, Replica, Snapshot, WorkloadPlan
from tests import make
from tests.failover_bench import (
    AT_HOME,
    CHAT,
    CORDON,
    FALLBACK,
    HOME,
    MOVED,
    ON_CPU,
    ON_RESERVE,
    RUNS,
    home,
    lost,
    planned,
    seen,
    told,
    went,
)

STOP = make.event("intent", "chat-0", "stop")
TO_CPU = make.event("intent", "", "failover", to="cpu")


@pytest.mark.parametrize(
    ("replica", "past", "containers", "expected"),
    [
        pytest.param(AT_HOME, [STOP], [], [], id="where-it-belongs"),
        pytest.param(ON_RESERVE, [MOVED, STOP], [RUNS], [], id="it-still-runs"),
        pytest.param(
            ON_RESERVE,
            [MOVED, STOP],
            [make.container(name="gpuctl-chat-0.c0", id_="c0")],
            [],
            id="an-old-one-runs",
        ),
        pytest.param(
            ON_RESERVE,
            [MOVED, STOP, make.event("attempt", attempt="a", action="start")],
            [],
            [],
            id="a-start-is-under-way",
        ),
        pytest.param(
            ON_RESERVE,
            [MOVED, STOP],
            [make.container(state="exited")],
            [home("stopped_elsewhere", ("GPU-1",))],
            id="it-has-ended",
        ),
        pytest.param(
            replace(ON_RESERVE, surplus=True),
            [MOVED],
            [make.container(state="exited")],
            [],
            id="surplus-with-its-log",
        ),
        pytest.param(
            replace(ON_RESERVE, surplus=True),
            [MOVED],
            [],
            [home("scaled", ("GPU-1",))],
            id="surplus-and-gone",
        ),
        pytest.param(replace(AT_HOME, surplus=True), [], [], [], id="surplus-of-the-profile"),
    ],
)
def test_1_nobody_wants_it(
    replica: Replica, past: list[Event], containers: list[Any], expected: list[Any]
) -> None:
    """It has its place until it is gone; then it is where the profile puts it again."""
    found = failover(planned(replica), seen(*containers), {}, make.history(*past))
    assert told(found) == expected


@pytest.mark.parametrize(
    ("replica", "workload", "expected"),
    [
        pytest.param(
            AT_HOME, FALLBACK, [went("failover_cpu", (), ("GPU-0",), True)], id="on-its-gpu"
        ),
        pytest.param(ON_CPU, FALLBACK, [], id="there-already"),
        pytest.param(AT_HOME, CHAT, [], id="it-may-not"),
    ],
)
def test_2_an_emergency_of_the_operator_s(
    replica: Replica, workload: WorkloadPlan, expected: list[Any]
) -> None:
    """To the CPU, in its own time; never back to a GPU while that holds."""
    found = failover(planned(replica, workload=workload), seen(RUNS), {}, make.history(TO_CPU))
    assert told(found) == expected


@pytest.mark.parametrize(
    ("replica", "now", "past", "expected"),
    [
        pytest.param(
            ON_RESERVE, seen(), [MOVED], [home("moved_back", ("GPU-1",))], id="from-the-reserve"
        ),
        pytest.param(ON_CPU, seen(), [MOVED], [home("moved_back", ())], id="from-the-cpu"),
        pytest.param(ON_RESERVE, seen(unwell=(0,)), [MOVED], [], id="lost"),
        pytest.param(ON_RESERVE, seen(), [MOVED, CORDON], [], id="cordoned"),
        pytest.param(
            ON_RESERVE, seen(errors={"gpus": "no driver"}), [MOVED], [], id="readings-are-old"
        ),
    ],
)
def test_3_its_own_gpus_are_well_again(
    replica: Replica, now: Snapshot, past: list[Event], expected: list[Any]
) -> None:
    """Read as well now, and not cordoned."""
    assert told(failover(planned(replica), now, {}, make.history(*past))) == expected


def test_4_a_replica_without_gpus_by_its_profile_stays() -> None:
    """It is not on the CPU for want of a GPU."""
    found = failover(planned(make.replica(gpus=())), seen(), {}, make.history())
    assert told(found) == []


@pytest.mark.parametrize(
    ("replica", "past", "containers", "unfit", "expected"),
    [
        pytest.param(
            AT_HOME,
            [],
            [RUNS],
            (0,),
            [
                ("cordoned", "GPU-0", "gpu_lost", {}),
                went("gpu_lost", ("GPU-1",), ("GPU-0",), False),
            ],
            id="it-failed",
        ),
        pytest.param(
            AT_HOME,
            [CORDON],
            [RUNS],
            (),
            [went("cordoned", ("GPU-1",), ("GPU-0",), True)],
            id="an-operator-cordoned-it",
        ),
        pytest.param(
            AT_HOME,
            [CORDON],
            [RUNS],
            (0,),
            [went("gpu_lost", ("GPU-1",), ("GPU-0",), False)],
            id="cordoned-before-it-failed",
        ),
        pytest.param(
            ON_CPU,
            [make.event("cordoned", "GPU-0", "gpu_lost")],
            [],
            (0,),
            [went("gpu_free", ("GPU-1",), (), True)],
            id="from-the-cpu",
        ),
    ],
)
def test_5_there_is_room_in_the_reserve(
    replica: Replica,
    past: list[Event],
    containers: list[Any],
    unfit: tuple[int, ...],
    expected: list[Any],
) -> None:
    """What failed is cordoned and left at once; all else moves in its own time."""
    now = seen(*containers, unwell=unfit)
    assert told(failover(planned(replica), now, lost(*unfit), make.history(*past))) == expected


def test_5_a_place_that_the_profile_gives_to_another_is_left() -> None:
    """A profile that was changed since has the first word on its GPUs."""
    other = make.replica("new-0", gpus=(1,), home=(make.identity(1),))
    plan = replace(planned(ON_RESERVE, other), reserve=(make.identity(2),))
    now = seen(make.container(gpus=("GPU-1",)), unwell=(0,))
    assert told(failover(plan, now, {}, make.history(MOVED))) == [
        went("profile_changed", ("GPU-2",), ("GPU-1",), True)
    ]


@pytest.mark.parametrize(
    ("workload", "past", "containers", "unfit", "expected"),
    [
        pytest.param(
            FALLBACK,
            [],
            [RUNS],
            (0,),
            [("cordoned", "GPU-0", "gpu_lost", {}), went("gpu_lost", (), ("GPU-0",), False)],
            id="to-the-cpu-at-once",
        ),
        pytest.param(FALLBACK, [CORDON], [RUNS], (), [], id="it-runs-on-where-it-is-well"),
        pytest.param(
            FALLBACK,
            [CORDON],
            [],
            (),
            [went("cordoned", (), ("GPU-0",), True)],
            id="to-the-cpu-once-it-has-ended",
        ),
        pytest.param(CHAT, [], [RUNS], (0,), [], id="it-may-not-and-waits"),
    ],
)
def test_6_and_7_there_is_no_room(
    workload: WorkloadPlan,
    past: list[Event],
    containers: list[Any],
    unfit: tuple[int, ...],
    expected: list[Any],
) -> None:
    """The CPU, for a workload that may; what nobody left is not cordoned."""
    plan = planned(AT_HOME, workload=workload, reserve=0)
    now = seen(*containers, unwell=unfit)
    assert told(failover(plan, now, lost(*unfit), make.history(*past))) == expected


@pytest.mark.parametrize(
    ("past", "unfit", "reason"),
    [
        pytest.param([CORDON], (), "cordoned", id="cordoned"),
        pytest.param([], (0,), "gpu_lost", id="lost"),
    ],
)
def test_after_an_emergency_it_is_on_the_cpu_for_what_its_gpu_has(
    past: list[Event], unfit: tuple[int, ...], reason: str
) -> None:
    """And not because an operator asked for it any more."""
    emergency = make.event("moved", reason="failover_cpu", gpus=(), voluntary=True)
    stays = replace(ON_CPU, moved=Assignment(reason="failover_cpu"))
    plan = planned(stays, workload=FALLBACK, reserve=0)
    now = seen(unwell=unfit)
    found = failover(plan, now, lost(*unfit), make.history(emergency, *past))
    assert told(found) == [went(reason, (), (), True)]


@pytest.mark.parametrize(
    ("home_gpus", "errors"),
    [
        pytest.param(HOME, {"gpus": "no driver"}, id="its-gpu-is-not-read"),
        pytest.param((), {}, id="it-has-none-of-its-own"),
    ],
)
def test_after_an_emergency_with_no_reason_against_its_gpu_there_is_none_left(
    home_gpus: Any, errors: dict[str, str]
) -> None:
    """What cannot be told of its own GPU is not made up."""
    stays = replace(ON_CPU, home=home_gpus, moved=Assignment(reason="failover_cpu"))
    plan = planned(stays, workload=FALLBACK, reserve=0)
    now = seen(errors=errors)
    assert told(failover(plan, now, {}, make.history())) == [went("no_gpu_left", (), (), True)]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"errors": {"runtime": "no daemon"}}, id="not-now"),
        pytest.param({"runtime_boot_seconds": None}, id="not-yet"),
    ],
)
def test_without_a_reading_of_the_runtime_nothing_moves(fields: dict[str, Any]) -> None:
    """What runs where is not known."""
    errors = fields.pop("errors", None)
    now = replace(seen(unwell=(0,), errors=errors), **fields)
    assert failover(planned(AT_HOME), now, lost(0), make.history()) == ()
