"""
Does the engine answer?

1. it was never ready: it may load, for as long as it gets on with it, and is warmed up when it
   answers; that may fail a few times
2. it answers: ok
3. refused, reset or 503: a hard failure, and a few in a row are enough
4. time-outs: a soft failure, and only where nothing moves: busy is not dead. An engine that answers
   nothing while it works is busy: whether it gets on is for `stalled` to say
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gpuctl.history import ReplicaHistory
from gpuctl.model import (
    ContainerReading,
    Evidence,
    ProbeReading,
    Replica,
    State,
    Verdict,
)
from gpuctl.plugin import Check, Scene

_HARD = {
    "refused": "health_refused",
    "reset": "health_reset",
    "dead": "health_dead",
    "loading": "health_dead",  # 503 from an engine that was ready
}
#: A load that grew by less than this ...
_GROWTH_BYTES = 1024**2
#: ... for this share of the time it may take is not getting on.
_STANDSTILL_RATIO = 0.1


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every replica whose container runs."""
    for replica in scene.plan.replicas:
        container = scene.now.own(replica.name)
        if container is None or container.state != "running":
            continue
        if "runtime" in scene.now.errors:
            yield _verdict(replica, "unknown", "runtime_unread")
            continue
        history = scene.history.replica(replica.name)
        if history.container != container.id:
            continue  # it is a reading ahead of the history
        probe = scene.now.probes.get(replica.name)
        if probe is not None and probe.container != container.id:
            probe = None
        if history.ready_container != container.id:
            yield _loading(replica, container, probe, history, scene)
        elif probe is None:
            # What was ready stays so until a probe fails: a new daemon changes nothing.
            yield _verdict(replica, "ok", "not_probed_yet")
        else:
            yield _answering(replica, probe, scene)


def _loading(
    replica: Replica,
    container: ContainerReading,
    probe: ProbeReading | None,
    history: ReplicaHistory,
    scene: Scene,
) -> Verdict:
    if probe is not None and probe.outcome == "ok":
        return _warming(replica, probe, scene.now.boot_seconds - history.container_at)
    now = scene.now.boot_seconds
    age = now - history.container_at
    held = container.memory_bytes or 0
    held += scene.now.vram_bytes(container, tuple(gpu.uuid for gpu in replica.gpus)) or 0
    grown_bytes, grown_at = _growth(scene, replica, container, held)
    load = scene.now.loads.get(replica.name)
    if load is not None and load.container == container.id:
        grown_at = max((grown_at, *load.reached.values()))
    evidence: Evidence = {
        "container": container.id,
        "loading_seconds": round(age, 1),
        "held_bytes": grown_bytes,
        "grown_boot_seconds": grown_at,
        "answer": probe.detail or probe.outcome if probe else "none yet",
        "stage": load.stage if load is not None and load.container == container.id else "",
    }
    settings = replica.watchdog
    stands_still = now - grown_at >= _STANDSTILL_RATIO * settings.startup_seconds
    over = age >= settings.startup_seconds and stands_still
    if not over and age < settings.startup_limit_seconds:
        return _verdict(replica, "ok", "loading", evidence)
    return replace(_verdict(replica, "failed", "startup_timeout", evidence), remedy="restart")


def _warming(replica: Replica, probe: ProbeReading, age_seconds: float) -> Verdict:
    settings = replica.watchdog
    warm = probe.serves or probe.warmed >= replica.probe.warmup_requests
    if warm or not probe.warmup_failures:
        return _verdict(replica, "ok", "", probe=probe)
    evidence: Evidence = {
        "container": probe.container,
        "answer": probe.warmup_detail,
        "tries": probe.warmup_failures,
    }
    in_time = age_seconds < settings.startup_limit_seconds
    if probe.warmup_failures < settings.hard_failures and in_time:
        return _verdict(replica, "degraded", "warmup_failed", evidence, probe=probe)
    failed = _verdict(replica, "failed", "warmup_failed", evidence, probe=probe)
    return replace(failed, remedy="restart")


def _growth(
    scene: Scene, replica: Replica, container: ContainerReading, held: int
) -> tuple[int, float]:
    """Return the most memory it has held so far, and when that last grew."""
    before = scene.before.get(("health", replica.name))
    now = scene.now.boot_seconds
    if before is None or before.verdict.evidence.get("container") != container.id:
        return held, now
    most = before.verdict.evidence.get("held_bytes")
    at = before.verdict.evidence.get("grown_boot_seconds")
    if not isinstance(most, int) or not isinstance(at, float) or held > most + _GROWTH_BYTES:
        return held, now
    return most, at


def _answering(replica: Replica, probe: ProbeReading, scene: Scene) -> Verdict:
    settings = replica.watchdog
    if probe.outcome == "ok":
        return _verdict(replica, "ok", "", probe=probe)
    evidence: Evidence = {
        "container": probe.container,
        "answer": probe.detail or probe.outcome,
        "status": probe.status,
        "in_flight": probe.in_flight,
    }
    if probe.outcome in _HARD:
        return _failed(
            replica, probe, _HARD[probe.outcome], evidence,
            seconds=settings.hard_seconds, readings=settings.hard_failures, streak="hard",
        )  # fmt: skip
    if probe.outcome == "timeout" and replica.probe.mute_at_work:
        return _verdict(replica, "ok", "", probe=probe)
    if probe.outcome == "error":
        return _verdict(replica, "degraded", "health_error", evidence, probe=probe)
    if scene.now.boot_seconds - probe.moving_at < settings.soft_seconds:
        slow = _verdict(replica, "degraded", "health_slow", evidence, probe=probe)
        return replace(slow, streak="soft")
    return _failed(
        replica, probe, "health_timeout", evidence,
        seconds=settings.soft_seconds, readings=settings.soft_failures, streak="soft",
    )  # fmt: skip


def _failed(
    replica: Replica,
    probe: ProbeReading,
    reason: str,
    evidence: Evidence,
    *,
    seconds: float,
    readings: int,
    streak: str,
) -> Verdict:
    return replace(
        _verdict(replica, "failed", reason, evidence, probe=probe),
        remedy="restart",
        patience_seconds=seconds,
        patience_readings=readings,
        streak=streak,
    )


def _verdict(
    replica: Replica,
    state: State,
    reason: str,
    evidence: Evidence | None = None,
    *,
    probe: ProbeReading | None = None,
) -> Verdict:
    return Verdict(
        check="health",
        subject=replica.name,
        state=state,
        reason=reason,
        evidence=evidence or {},
        reading_boot_seconds=probe.boot_seconds if probe else None,
    )


CHECK = Check(name="health", order=30, run=run)
