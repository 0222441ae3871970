"""
Does a replica's VRAM grow beyond what was planned, until the card is full?

It is told; it is restarted, in its turn and after a drain, only where it has run out of memory
before: then it would end the same way, in the middle of requests.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.line import fit
from gpuctl.model import Evidence, Json, Replica, State, Verdict
from gpuctl.plugin import Check, Scene

#: Samples that make a line; as many as a forecast of a GPU needs.
_LEAST_SAMPLES = 12
#: An end for lack of memory is so long a reason to forestall the next.
_REMEMBERED_SECONDS = 86400.0


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every replica whose container has been watched for long enough."""
    if "gpus" in scene.now.errors or "runtime" in scene.now.errors:
        return
    for replica in scene.plan.replicas:
        held = scene.trends.replicas.get(replica.name)
        container = scene.now.own(replica.name)
        if held is None or container is None or container.id != held.container:
            continue
        if len(held.points) >= _LEAST_SAMPLES and container.state == "running":
            yield _judge(replica, container.id, held.points, scene)


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
    if not held > planned > 0 or (fullest or 0.0) < scene.plan.watchdog.creep_ratio:
        return _verdict(replica, "ok", evidence)
    line = fit(points)
    if line is None or not line.rises:
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
