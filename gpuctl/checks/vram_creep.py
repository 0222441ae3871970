"""
Does a replica's VRAM grow beyond what was planned, until the card is full?

It is told; it is restarted, in its turn and after a drain, only where it has run out of memory
before: then it would end the same way, in the middle of requests.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.line import latest
from gpuctl.model import MIB, Evidence, Json, Replica, State, Verdict
from gpuctl.plugin import Check, Scene

#: Samples since it was ready that make a trend: twice as many as for a forecast, which restarts
#: nothing.
_LEAST_SAMPLES = 24
#: Less growth, and less beyond the plan, is what is first needed at work and not given back:
#: PyTorch takes VRAM by 2 or 20 MiB, cuBLAS up to 32 MiB to work in. Source: kSmallBuffer and
#: kLargeBuffer in PyTorch's CUDACachingAllocator.cpp; cublasSetWorkspace in the cuBLAS reference.
_LEAST_BYTES = 32 * MIB
#: An end for lack of memory is so long a reason to forestall the next.
_REMEMBERED_SECONDS = 86400.0


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every replica whose container has been ready, and watched, for long enough."""
    if "gpus" in scene.now.errors or "runtime" in scene.now.errors:
        return
    for replica in scene.plan.replicas:
        held = scene.trends.replicas.get(replica.name)
        container = scene.now.own(replica.name)
        if held is None or container is None or container.id != held.container:
            continue
        known = scene.history.replica(replica.name)
        if known.ready_container != container.id or container.state != "running":
            continue
        points = tuple(point for point in held.points if point[0] > known.ready_at)
        if len(points) >= _LEAST_SAMPLES:
            yield _judge(replica, container.id, points, scene)


def _judge(
    replica: Replica, container: str, points: tuple[tuple[float, float], ...], scene: Scene
) -> Verdict:
    known = scene.history.replica(replica.name)
    planned = max(replica.vram_bytes or 0, known.baseline_bytes or 0)
    fullest, held = _fullest(replica, scene), points[-1][1]
    evidence: dict[str, Json] = {
        "container": container,
        "vram_bytes": int(held),
        "planned_bytes": planned,
        "card_ratio": None if fullest is None else round(fullest, 3),
    }
    # Cheapest first: hardly ever is a card so full, or a replica beyond its plan.
    beyond = planned > 0 and held - planned >= _LEAST_BYTES
    if not beyond or (fullest or 0.0) < scene.plan.watchdog.creep_ratio:
        return _verdict(replica, "ok", evidence)
    line = latest(points, _LEAST_SAMPLES)
    if line is None or line.growth < _LEAST_BYTES:
        return _verdict(replica, "ok", evidence)
    evidence["grows_bytes_an_hour"] = round(line.slope * 3600)
    since = scene.now.boot_seconds - _REMEMBERED_SECONDS
    before = [oom for oom in known.ooms if oom.at > since]
    if not before:
        return _verdict(replica, "degraded", evidence)
    return _verdict(replica, "failed", {**evidence, "ran_out": before[-1].line})


def _fullest(replica: Replica, scene: Scene) -> float | None:
    """Return the share of VRAM in use (0-1) of the fullest of its GPUs."""
    readings = [scene.now.gpus.get(gpu.uuid) for gpu in replica.gpus]
    shares = [
        gpu.memory_used_bytes / gpu.memory_total_bytes
        for gpu in readings
        if gpu is not None and gpu.memory_used_bytes is not None and gpu.memory_total_bytes
    ]
    return max(shares, default=None)


def _verdict(replica: Replica, state: State, evidence: Evidence) -> Verdict:
    return Verdict(
        check="vram_creep",
        subject=replica.name,
        state=state,
        reason="" if state == "ok" else "vram_creeps",
        evidence=evidence,
        remedy="restart" if state == "failed" else "none",
    )


CHECK = Check(name="vram_creep", order=46, run=run)
