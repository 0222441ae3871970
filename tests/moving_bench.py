"""Two workloads on four GPUs, and what is asked of them: for the tests of `moving`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.errors import GpuctlError
from gpuctl.model import Assignments, Event, Plan, WorkloadPlan
from gpuctl.moving import Present, requested
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
    told: Mapping[str, Any] = {"gpus": gpus, "from": (), "voluntary": True, "profile": "test"}
    return make.event("moved", name, "scaled", **told)
