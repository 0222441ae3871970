"""
Is everything where the profile puts it, and has every replica a place?

A GPU that is cordoned, a replica on a GPU of the reserve or on the CPU, one that no GPU is left
for, another number of replicas than `scale` asked for or than the profile has: none of it passes
by itself, so all of it is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from gpuctl.avoidance import cordons, left
from gpuctl.model import Evidence, Json, Replica, State, Verdict, WorkloadPlan
from gpuctl.plugin import Check, Scene
from gpuctl.wanted import desired

_ALIVE = ("running", "paused")


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge each cordoned GPU, each replica that is not at home, each workload that was scaled."""
    yield from _cordoned(scene)
    barred = dict.fromkeys(cordons(scene.history), "gpu_cordoned")
    barred |= left(scene.before, scene.now.boot_seconds)
    for replica in scene.plan.replicas:
        if desired(scene.history, replica, running=False):
            yield from _replica(scene, replica, barred)
    there = Counter(replica.workload for replica in scene.plan.replicas if not replica.surplus)
    for workload in scene.plan.workloads:
        if there[workload.name] < workload.wanted:
            told: dict[str, Json] = {"wanted": workload.wanted, "placed": there[workload.name]}
            if workload.max_gpus is not None:
                told["max_gpus"] = workload.max_gpus
            yield _verdict(workload.name, "degraded", "scale_unfulfilled", told)
        if workload.wanted < workload.replicas:
            yield _verdict(workload.name, "degraded", "scaled_down", _fewer(workload))
    if scene.plan.refused:
        told = {"error": scene.plan.refused}
        yield _verdict("host", "degraded", "plan_refused", told)


def _fewer(workload: WorkloadPlan) -> Evidence:
    """Return what `scale` wants, what the profile has, and the command that follows the profile."""
    return {
        "wanted": workload.wanted,
        "in_profile": workload.replicas,
        "command": f"gpuctl scale {workload.name}={workload.replicas}",
    }


def _cordoned(scene: Scene) -> Iterator[Verdict]:
    indexes = {gpu.uuid: gpu.index for gpu in scene.plan.gpus}
    for uuid, cordon in cordons(scene.history).items():
        if uuid not in indexes:
            continue
        told: dict[str, Json] = {
            "by": "operator" if cordon.by_operator else "gpuctl",
            "because": cordon.note or cordon.reason,
            "cordoned_at": scene.now.at + cordon.at - scene.now.boot_seconds,
            "command": f"gpuctl uncordon {indexes[uuid]}",
        }
        yield _verdict(uuid, "degraded", "gpu_cordoned", told)


def _replica(scene: Scene, replica: Replica, barred: Mapping[str, str]) -> Iterator[Verdict]:
    """Judge one replica; *barred* has the GPUs that nothing may be started on, and why."""
    bad = [gpu.uuid for gpu in replica.gpus if gpu.uuid in barred]
    if bad:
        container = scene.now.own(replica.name)
        runs = container is not None and container.state in _ALIVE
        told: dict[str, Json] = {"gpu": bad[0], "because": barred[bad[0]], "runs": runs}
        if "gpus" in scene.now.errors:
            told["unread"] = scene.now.errors["gpus"].message
        yield _verdict(replica.name, "degraded" if runs else "failed", "no_gpu_left", told)
        return
    if replica.moved is None or replica.surplus:
        return
    told = {"because": replica.moved.reason}
    if replica.on_cpu:
        yield _verdict(replica.name, "degraded", "on_cpu", {**told, "home": _uuids(replica)})
    elif replica.home:
        yield _verdict(replica.name, "degraded", "on_reserve", {**told, "home": _uuids(replica)})


def _uuids(replica: Replica) -> tuple[str, ...]:
    return tuple(gpu.uuid for gpu in replica.home)


def _verdict(subject: str, state: State, reason: str, evidence: Evidence) -> Verdict:
    return Verdict(
        check="placement", subject=subject, state=state, reason=reason, evidence=evidence
    )


CHECK = Check(name="placement", order=61, run=run, after_moves=True)
