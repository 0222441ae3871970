"""A request in, its Events out, or why not: `cordon`, `uncordon`, `scale`, `failover`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import GpuctlError, NotFound, PlanRefused, UsageError
from gpuctl.model import Assignments, Event, Plan, WorkloadPlan
from gpuctl.moving import NoRoom, Present, named, requested
from tests import make

CHAT = WorkloadPlan(name="chat", replicas=1, wanted=1, fallback=True)
OTHER = WorkloadPlan(name="other", replicas=1, wanted=1)
WHO = {"uid": 1000}


def present(*workloads: WorkloadPlan, reserve: Sequence[int] = (2, 3), **fields: Any) -> Present:
    """Two workloads, of which one may go to the CPU, on a GPU each; two more are in reserve."""
    plan = make.plan(
        make.replica("chat-0"),
        make.replica("other-0", gpus=(1,)),
        workloads=workloads or (CHAT, OTHER),
        reserve=tuple(make.identity(index) for index in reserve),
    )
    return Present(
        plan=replace(plan, **fields),
        now=make.snapshot(gpus=[make.gpu(index) for index in range(4)]),
        conditions={},
        history=make.history(),
        arrange=lambda assignments: with_moves(plan, assignments),
    )


def with_moves(plan: Plan, assignments: Assignments) -> Plan:
    """Return the plan with what `scale` adds in it."""
    more = (
        make.replica(name, gpus=[int(uuid.removeprefix("GPU-")) for uuid in moved.gpus])
        for name, moved in assignments.moved.items()
    )
    return replace(plan, replicas=(*plan.replicas, *more))


def ask(verb: str, subject: str = "", at: Present | None = None, **arguments: Any) -> list[Event]:
    return requested(verb, subject, arguments, WHO, at or present())


def refused(
    verb: str, subject: str = "", at: Present | None = None, **arguments: Any
) -> tuple[type[GpuctlError], str, str]:
    with pytest.raises(GpuctlError) as caught:
        ask(verb, subject, at, **arguments)
    return type(caught.value), caught.value.message, caught.value.hint


def intent(subject: str, verb: str, **evidence: Any) -> Event:
    return make.event("intent", subject, verb, uid=1000, **evidence)


def scaled(name: str, *gpus: str) -> Event:
    told: Mapping[str, Any] = {"gpus": gpus, "from": (), "voluntary": True}
    return make.event("moved", name, "scaled", **told)


@pytest.mark.parametrize(
    ("verb", "subject", "arguments", "expected"),
    [
        pytest.param("cordon", "1", {}, intent("GPU-1", "cordon"), id="cordon"),
        pytest.param(
            "cordon",
            "GPU-1",
            {"note": "new fan"},
            intent("GPU-1", "cordon", note="new fan"),
            id="with-a-note",
        ),
        pytest.param("uncordon", "0", {"note": ""}, intent("GPU-0", "uncordon"), id="uncordon"),
        pytest.param(
            "failover", "chat", {"to": "cpu"}, intent("chat", "failover", to="cpu"), id="one"
        ),
        pytest.param("failover", "", {"to": "gpu"}, intent("", "failover", to="gpu"), id="back"),
    ],
)
def test_what_needs_no_place_is_one_event(
    verb: str, subject: str, arguments: dict[str, Any], expected: Event
) -> None:
    """The operator's intent, with who it was; a GPU is recorded by its UUID."""
    assert ask(verb, subject, **arguments) == [expected]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(
            {"chat": 3},
            [
                intent("chat", "scale", replicas=3, as_profile=False),
                scaled("chat-1", "GPU-2"),
                scaled("chat-2", "GPU-3"),
            ],
            id="two-more",
        ),
        pytest.param(
            {"chat": 2, "other": 2},
            [
                intent("chat", "scale", replicas=2, as_profile=False),
                scaled("chat-1", "GPU-2"),
                intent("other", "scale", replicas=2, as_profile=False),
                scaled("other-1", "GPU-3"),
            ],
            id="one-more-of-each",
        ),
        pytest.param(
            {"chat": 1},
            [intent("chat", "scale", replicas=1, as_profile=True)],
            id="as-the-profile-has-it",
        ),
    ],
)
def test_scale_gives_each_replica_more_its_gpus(
    counts: dict[str, int], expected: list[Event]
) -> None:
    """The intent first; what is asked for together is counted together."""
    assert ask("scale", counts=counts) == expected


def test_a_replica_that_is_there_needs_no_place() -> None:
    """Scaled from two to three, one is added."""
    at = present()
    at = at.after(ask("scale", at=at, counts={"chat": 2}))
    assert ask("scale", at=at, counts={"chat": 3})[1:] == [scaled("chat-2", "GPU-3")]


def test_what_cannot_be_planned_is_refused() -> None:
    """A port, say, that another has: the planner has the last word."""

    def refuse(_: Assignments) -> Plan:
        raise PlanRefused("chat-1 would listen on 8082, which other-0 has already", "")

    with pytest.raises(PlanRefused, match="which other-0 has already"):
        ask("scale", at=replace(present(), arrange=refuse), counts={"chat": 2})


@pytest.mark.parametrize(
    ("workload", "reserve", "expected"),
    [
        pytest.param(
            {},
            (),
            (
                "no room for chat-1: it takes one GPU, neither unused nor in reserve",
                "keep some in reserve (host.reserve), or take a workload off one",
            ),
            id="no-reserve",
        ),
        pytest.param(
            {"scaled_gpus": 3, "scaled_need_bytes": 3 * 2**29},
            (2, 3),
            (
                "no room for chat-1: it takes 3 GPUs with 1.5 GiB free, neither unused nor in"
                " reserve",
                "`gpuctl gpus` shows what is on each; `gpuctl uncordon` gives one back",
            ),
            id="too-few",
        ),
    ],
)
def test_without_room_nothing_is_added(
    workload: dict[str, Any], reserve: Sequence[int], expected: tuple[str, str]
) -> None:
    """What it takes is said, and where that could come from."""
    at = present(replace(CHAT, **workload), reserve=reserve)
    assert refused("scale", at=at, counts={"chat": 2}) == (NoRoom, *expected)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(
            None, (UsageError, "scale to how many?", "write `gpuctl scale NAME=2`"), id="nothing"
        ),
        pytest.param(
            {}, (UsageError, "scale to how many?", "write `gpuctl scale NAME=2`"), id="none"
        ),
        pytest.param(
            {"chat": 0},
            (UsageError, "chat=0: not 1 or more", "`gpuctl stop chat` stops all of it"),
            id="zero",
        ),
        pytest.param(
            {"chat": "2"},
            (UsageError, "chat=2: not 1 or more", "`gpuctl stop chat` stops all of it"),
            id="text",
        ),
        pytest.param(
            {"chat": True},
            (UsageError, "chat=True: not 1 or more", "`gpuctl stop chat` stops all of it"),
            id="truth",
        ),
        pytest.param(
            {"moon": 2},
            (NotFound, "no workload is named 'moon'", "there are chat, other"),
            id="unknown",
        ),
        pytest.param(
            {"chat": 3},
            (
                UsageError,
                "chat: 3 replicas would take more than its max_gpus (2)",
                "raise max_gpus in the profile, then `gpuctl up`",
            ),
            id="more-than-allowed",
        ),
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(counts: Any, expected: Any) -> None:
    """With what to write instead."""
    at = present(replace(CHAT, max_gpus=2), OTHER)
    assert refused("scale", at=at, counts=counts) == expected


ON_CPU = make.replica("chat-0", gpus=())
IN_PROFILE = (
    "'moon' is no replica or workload of the profile 'test'",
    "`gpuctl status` lists them",
)
ADD = 'add fallback = "cpu" to it in the profile, then `gpuctl up`'


@pytest.mark.parametrize(
    ("subject", "to", "fields", "expected"),
    [
        pytest.param(
            "",
            "moon",
            {},
            (
                UsageError,
                "failover goes to cpu or gpu, not 'moon'",
                "write `gpuctl failover cpu`, and `gpuctl failover gpu` to end it",
            ),
            id="nowhere",
        ),
        pytest.param("moon", "cpu", {}, (NotFound, *IN_PROFILE), id="unknown"),
        pytest.param(
            "other-0", "cpu", {}, (UsageError, "no fallback to the CPU: other", ADD), id="one"
        ),
        pytest.param(
            "",
            "cpu",
            {},
            (
                UsageError,
                "no fallback to the CPU: other",
                "name one that may: `gpuctl failover cpu chat`",
            ),
            id="one-of-all",
        ),
        pytest.param(
            "",
            "cpu",
            {"replicas": (ON_CPU,)},
            (
                UsageError,
                "it runs on the CPU already",
                "`gpuctl status` shows what runs where",
            ),
            id="there-by-its-profile",
        ),
    ],
)
def test_a_failover_that_cannot_be_is_refused(
    subject: str, to: str, fields: dict[str, Any], expected: Any
) -> None:
    """By name, with the workloads that may."""
    assert refused("failover", subject, present(**fields), to=to) == expected


def test_what_is_on_the_cpu_for_want_of_a_gpu_may_be_told_to_stay() -> None:
    """It would go back by itself otherwise."""
    at = present(replicas=(replace(ON_CPU, on_cpu=True),))
    assert ask("failover", at=at, to="cpu") == [intent("", "failover", to="cpu")]


GPUS = ((0, "GPU-abcd-1"), (1, "GPU-abcd-2"), (2, "GPU-efgh-3"), (-1, "GPU-gone-4"))


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        pytest.param("0", "GPU-abcd-1", id="index"),
        pytest.param("GPU-abcd-2", "GPU-abcd-2", id="uuid"),
        pytest.param("abcd-2", "GPU-abcd-2", id="uuid-without-its-prefix"),
        pytest.param("GPU-efgh", "GPU-efgh-3", id="beginning"),
        pytest.param("efgh", "GPU-efgh-3", id="beginning-without-its-prefix"),
        pytest.param("gone", "GPU-gone-4", id="one-without-an-index"),
    ],
)
def test_a_gpu_has_several_names(name: str, uuid: str) -> None:
    """Its index, its UUID, or four characters of its UUID that no other has."""
    assert named(name, GPUS) == uuid


@pytest.mark.parametrize(
    ("name", "gpus", "message", "hint"),
    [
        pytest.param(
            "abcd",
            GPUS,
            "'abcd' is the beginning of several GPUs",
            "write more of it: GPU-abcd-1, GPU-abcd-2",
            id="of-several",
        ),
        pytest.param(
            "efg",
            GPUS,
            "no GPU is known by 'efg'",
            "there are 0, 1, 2; `gpuctl gpus` lists them",
            id="too-short",
        ),
        pytest.param(
            "-1",
            GPUS,
            "no GPU is known by '-1'",
            "there are 0, 1, 2; `gpuctl gpus` lists them",
            id="no-index",
        ),
        pytest.param(
            "0", (), "no GPU is known by '0'", "there are none; `gpuctl gpus` lists them", id="none"
        ),
    ],
)
def test_a_name_that_means_no_gpu_is_refused(
    name: str, gpus: Sequence[tuple[int, str]], message: str, hint: str
) -> None:
    """With those that there are."""
    with pytest.raises(NotFound) as caught:
        named(name, gpus)
    assert (caught.value.message, caught.value.hint) == (message, hint)
