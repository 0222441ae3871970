"""A replica of one GPU in each place that it may be in, and what failover records of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gpuctl.model import Assignment, Condition, Event, Plan, Replica, Snapshot, WorkloadPlan
from tests import make

HOME = (make.identity(0),)
#: A replica of one GPU on GPU-0, with GPU-1 in reserve.
AT_HOME = make.replica(home=HOME)
ON_RESERVE = replace(
    AT_HOME, gpus=(make.identity(1),), moved=Assignment(gpus=("GPU-1",), reason="gpu_lost")
)
ON_CPU = replace(AT_HOME, gpus=(), on_cpu=True, moved=Assignment(reason="gpu_lost"))
CHAT = WorkloadPlan(name="chat", replicas=1, wanted=1)
FALLBACK = replace(CHAT, fallback=True)
MOVED = make.event("moved", reason="gpu_lost", gpus=("GPU-1",), voluntary=False)
CORDON = make.event("intent", "GPU-0", "cordon")
RUNS = make.container(gpus=("GPU-0",))


def planned(*replicas: Replica, workload: WorkloadPlan = CHAT, reserve: int = 1) -> Plan:
    return make.plan(
        *replicas,
        workloads=(workload,),
        reserve=tuple(make.identity(1 + number) for number in range(reserve)),
    )


def seen(*containers: Any, unwell: Iterable[int] = (), **fields: Any) -> Snapshot:
    """Three GPUs, of which some are lost."""
    gpus = [make.gpu(n, state="lost" if n in unwell else "ok") for n in range(3)]
    return make.snapshot(*containers, **{"gpus": gpus, **fields})


def lost(*indexes: int) -> dict[tuple[str, str], Condition]:
    found = (
        make.condition("gpu_missing", f"GPU-{n}", reason="gpu_lost", remedy="avoid")
        for n in indexes
    )
    return make.conditions(*found)


def told(events: Iterable[Event]) -> list[tuple[str, str, str, Any]]:
    return [(each.kind.value, each.subject, each.reason, each.evidence) for each in events]


def went(reason: str, gpus: tuple[str, ...], came: tuple[str, ...], voluntary: bool) -> Any:
    told = {"gpus": gpus, "from": came, "voluntary": voluntary, "profile": "test"}
    return ("moved", "chat-0", reason, told)


def home(reason: str, came: tuple[str, ...], voluntary: bool = True) -> Any:
    evidence = {"home": ("GPU-0",), "from": came, "voluntary": voluntary}
    return ("moved", "chat-0", reason, evidence)
