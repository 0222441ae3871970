"""
Who else holds VRAM on a GPU that is planned with?

Nobody is ended: what a stranger holds is named, and what does not fit beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.levels import above
from gpuctl.model import GpuProcess, GpuReading, Json, Replica, Verdict
from gpuctl.plugin import Check, Scene

#: So many are named; the rest are summed up.
_NAMED = 5


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU that reports its processes."""
    ours = _ours(scene)
    planned: dict[str, list[Replica]] = {}
    for replica in scene.plan.replicas:
        for place in replica.gpus:
            planned.setdefault(place.uuid, []).append(replica)
    for gpu in scene.gpus():
        if gpu.processes is None:
            continue
        replicas = planned.get(gpu.uuid, [])
        # What is being started is not known by its container yet.
        starting = any(scene.history.replica(r.name).attempt is not None for r in replicas)
        if starting or _outdated(scene):
            before = scene.before.get((CHECK.name, gpu.uuid))
            yield from [before.verdict] if before is not None else []
            continue
        strangers = [p for p in gpu.processes if p.container not in ours and p.pid not in ours]
        yield _judge(gpu, replicas, strangers, scene)


def _outdated(scene: Scene) -> bool:
    """True when the GPUs were read before the last deed: who has moved since is listed there."""
    read = scene.now.gpus_boot_seconds
    acted = max((known.closed_at for known in scene.history.replicas.values()), default=0.0)
    return read is None or read < acted


def _ours(scene: Scene) -> set[str | int | None]:
    """
    Return the ids of all containers of replicas, also of those that have just ended, and the pids.

    Where a process's cgroup cannot be read, its pid is all that tells whose it is.
    """
    aside = (container for there in scene.now.aside.values() for container in there)
    found: set[str | int | None] = {known.container for known in scene.history.replicas.values()}
    for container in (*scene.now.owned.values(), *aside):
        found |= {container.id, container.pid}
    return found - {None}


def _judge(
    gpu: GpuReading, replicas: list[Replica], strangers: list[GpuProcess], scene: Scene
) -> Verdict:
    held = sum(each.used_bytes or 0 for each in strangers)
    planned = sum(replica.share_bytes or 0 for replica in replicas)
    room = None
    if gpu.memory_total_bytes is not None:
        room = gpu.memory_total_bytes - (gpu.memory_reserved_bytes or 0) - planned
    said, limit = scene.said(CHECK.name, gpu.uuid), scene.plan.watchdog.stranger_vram_bytes
    unfit = said == "vram_does_not_fit"
    reason = ""
    if room is not None and held and planned and above(held, room, before=unfit):
        reason = "vram_does_not_fit"
    elif above(held, limit, before=said == "vram_held_by_others"):
        reason = "vram_held_by_others"
    largest = sorted(strangers, key=lambda each: -(each.used_bytes or 0))
    return Verdict(
        check="strangers",
        subject=gpu.uuid,
        state="degraded" if reason else "ok",
        reason=reason,
        evidence={
            "vram_bytes": held,
            "planned_bytes": planned,
            "processes": tuple(_told(each) for each in largest[:_NAMED]),
            "more": max(0, len(strangers) - _NAMED),
        },
        reading_boot_seconds=scene.now.gpus_boot_seconds,
    )


def _told(process: GpuProcess) -> Json:
    told: dict[str, Json] = {"pid": process.pid, "name": process.name or ""}
    told["vram_bytes"] = process.used_bytes
    return told if process.container is None else {**told, "container": process.container}


CHECK = Check(name="strangers", order=59, run=run)
