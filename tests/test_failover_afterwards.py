"""What failover makes of moves under way and told before, and of what `scale` asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.failover import failover, scaled, within
from gpuctl.model import Assignment, Event, Replica
from gpuctl.room import Wish
from tests import make
from tests.failover_bench import (
    AT_HOME,
    CHAT,
    CORDON,
    HOME,
    MOVED,
    ON_RESERVE,
    RUNS,
    home,
    lost,
    planned,
    seen,
    told,
    went,
)

VOLUNTARY = make.event("moved", reason="cordoned", gpus=("GPU-1",), voluntary=True)
BACK = make.event("moved", reason="moved_back", home=("GPU-0",), voluntary=True)


def test_what_was_told_is_not_told_again() -> None:
    """A move that cannot be planned is recorded once, and another reason for it is news."""
    plan = planned(AT_HOME)
    now = seen(RUNS, unwell=(0,))
    past = make.history(make.event("cordoned", "GPU-0", "gpu_lost"), MOVED)
    assert told(failover(plan, now, lost(0), past)) == []
    reason = make.conditions(
        make.condition("xid", "GPU-0", reason="xid_79", remedy="avoid"),
    )
    assert told(failover(plan, now, reason, past)) == [
        went("xid_79", ("GPU-1",), ("GPU-0",), False)
    ]


@pytest.mark.parametrize(
    ("replica", "past", "container", "unfit", "expected"),
    [
        pytest.param(
            ON_RESERVE,
            [CORDON, *make.served(), VOLUNTARY],
            RUNS,
            0,
            [went("gpu_lost", ("GPU-1",), ("GPU-1",), False)],
            id="on-its-way-out",
        ),
        pytest.param(
            AT_HOME,
            [*make.served(), MOVED, BACK],
            make.container(gpus=("GPU-1",)),
            1,
            [("cordoned", "GPU-1", "gpu_lost", {}), home("gpu_lost", ("GPU-0",), False)],
            id="on-its-way-home",
        ),
        pytest.param(ON_RESERVE, [CORDON, MOVED], RUNS, 0, [], id="in-a-hurry-already"),
        pytest.param(ON_RESERVE, [CORDON, VOLUNTARY], RUNS, 2, [], id="another-failed"),
        pytest.param(
            ON_RESERVE,
            [CORDON, VOLUNTARY],
            make.container(state="exited", gpus=("GPU-0",)),
            0,
            [],
            id="it-has-left",
        ),
    ],
)
def test_a_gpu_that_fails_meanwhile_leaves_no_time(
    replica: Replica, past: list[Event], container: Any, unfit: int, expected: list[Any]
) -> None:
    """The same move again, no longer in its own time."""
    now = seen(container, unwell=(unfit,))
    assert told(failover(planned(replica), now, lost(unfit), make.history(*past))) == expected


#: What is told of one that `scale` adds, besides its GPUs.
MORE: dict[str, Any] = {"from": (), "voluntary": True, "profile": "test"}


def test_two_that_leave_one_gpu_cordon_it_once() -> None:
    other = replace(make.replica("chat-1"), home=HOME)
    plan = planned(AT_HOME, other, workload=replace(CHAT, replicas=2, wanted=2), reserve=2)
    found = failover(plan, seen(unwell=(0,)), lost(0), make.history())
    assert [each.subject for each in found if each.kind == "cordoned"] == ["GPU-0"]


@pytest.mark.parametrize(
    ("workload", "reserve", "expected"),
    [
        pytest.param({"wanted": 2}, 1, [("chat-1", ("GPU-1",))], id="one-more"),
        pytest.param(
            {"wanted": 4}, 2, [("chat-1", ("GPU-1",)), ("chat-2", ("GPU-2",))], id="while-room"
        ),
        pytest.param({"wanted": 3, "max_gpus": 1}, 2, [], id="no-more-than-allowed"),
        pytest.param({"wanted": 2, "scaled_gpus": 0}, 0, [("chat-1", ())], id="on-the-cpu"),
    ],
)
def test_what_scale_asks_for_gets_a_place(
    workload: dict[str, Any], reserve: int, expected: list[Any]
) -> None:
    """As many as there is room for, each counted for the next."""
    plan = planned(AT_HOME, workload=replace(CHAT, **workload), reserve=reserve)
    assert told(failover(plan, seen(RUNS), {}, make.history())) == [
        ("moved", name, "scaled", {"gpus": gpus, **MORE}) for name, gpus in expected
    ]


def test_what_scale_has_placed_is_not_placed_again() -> None:
    more = make.replica("chat-1", gpus=(1,), moved=Assignment(gpus=("GPU-1",), reason="scaled"))
    plan = planned(AT_HOME, more, workload=replace(CHAT, wanted=2), reserve=2)
    assert told(failover(plan, seen(RUNS), {}, make.history())) == []


def test_workloads_that_the_profile_has_no_more_are_forgotten() -> None:
    """Where their replicas went, and how many there were to be."""
    past = make.history(
        make.event("moved", "old-1", "scaled", gpus=("GPU-1",), voluntary=True),
        make.event("intent", "old", "scale", replicas=2),
    )
    assert told(failover(planned(AT_HOME), seen(RUNS), {}, past)) == [
        ("moved", "old-1", "not_in_profile", {"voluntary": True}),
        ("intent", "old", "scale", {"by": "gpuctl", "because": "not_in_profile"}),
    ]


def test_what_was_said_under_another_profile_is_forgotten() -> None:
    """Of this one, of everything, or by a gpuctl that did not record it: that holds."""
    past = make.history(
        make.event("moved", "chat-1", "scaled", gpus=("GPU-1",), profile="other"),
        make.event("moved", "chat-2", "scaled", gpus=("GPU-1",)),
        make.event("intent", "chat", "scale", replicas=2, profile="other"),
        make.event("intent", "chat", "failover", to="gpu", profile="other"),
        make.event("intent", "chat-0", "failover", to="gpu", profile="test"),
        make.event("intent", "", "failover", to="gpu"),
    )
    told_by = {"by": "gpuctl", "because": "other_profile"}
    assert told(failover(planned(AT_HOME), seen(RUNS), {}, past)) == [
        ("moved", "chat-1", "other_profile", {"voluntary": True}),
        ("intent", "chat", "scale", told_by),
        ("intent", "chat", "failover", {**told_by, "to": ""}),
    ]


def test_a_move_of_another_profile_s_is_told_anew() -> None:
    """It is another one, to the same place and for the same reason."""
    before = make.event("moved", reason="gpu_lost", gpus=("GPU-1",), voluntary=False, profile="old")
    found = failover(planned(AT_HOME), seen(unwell=(0,)), lost(0), make.history(CORDON, before))
    assert told(found) == [
        ("moved", "chat-0", "other_profile", {"voluntary": True}),
        went("gpu_lost", ("GPU-1",), ("GPU-0",), False),
    ]


def test_a_replica_of_no_workload_is_left_alone() -> None:
    """What the profile has no more is stopped, and moves nowhere."""
    plan = replace(planned(AT_HOME), workloads=())
    assert told(failover(plan, seen(unwell=(0,)), lost(0), make.history())) == []


def test_a_replica_more_begins_with_a_move() -> None:
    """To the GPUs that it is given, from none."""
    wished = Wish(name="chat-1", gpus=1, need_bytes=None)
    assert scaled(make.snapshot(), wished, ("GPU-1",), "test") == make.event(
        "moved", "chat-1", "scaled", gpus=("GPU-1",), **MORE
    )


@pytest.mark.parametrize(
    ("most", "more", "allowed"),
    [
        pytest.param(None, 99, True, id="no-limit"),
        pytest.param(3, 1, True, id="up-to-it"),
        pytest.param(3, 2, False, id="beyond-it"),
    ],
)
def test_max_gpus_is_of_all_replicas_of_the_workload(
    most: int | None, more: int, allowed: bool
) -> None:
    """Those of others do not count."""
    plan = make.plan(make.replica(gpus=(0, 1)), make.replica("other-0", gpus=(2,)))
    assert within(replace(CHAT, max_gpus=most), plan, more) is allowed


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        pytest.param({"home": (), "on_cpu": True}, False, id="for-want-of-a-gpu"),
        pytest.param({"home": (make.identity(1),), "on_cpu": True}, False, id="that-has-a-home"),
        pytest.param({"home": (), "on_cpu": False}, True, id="where-it-belongs"),
    ],
)
def test_max_gpus_counts_those_that_come_back_from_the_cpu(
    fields: dict[str, Any], allowed: bool
) -> None:
    """Their GPUs are kept for them."""
    plan = make.plan(make.replica(), make.replica("chat-1", gpus=(), **fields))
    assert within(replace(CHAT, max_gpus=2), plan, 1) is allowed
