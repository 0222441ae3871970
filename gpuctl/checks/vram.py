"""Does a ready replica still hold the VRAM it had settled at?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import (
    ContainerReading,
    Evidence,
    ProbeReading,
    Replica,
    State,
    Verdict,
)
from gpuctl.plugin import Check, Scene
from gpuctl.wanted import placed

#: Strict mode takes a second reading this long after the first (it is asked for at once).
STRICT_SECONDS = 1.0
#: A process that ends leaves the driver's list and its port before the runtime tells of its death:
#: what is corroborated waits so long for a better explanation.
DEATH_SECONDS = 1.0


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every ready replica with a learned baseline."""
    for replica in scene.plan.replicas:
        container = scene.now.own(replica.name)
        history = scene.history.replica(replica.name)
        if not replica.gpus or container is None or container.state != "running":
            continue
        if history.ready_container != container.id or history.baseline_bytes is None:
            continue
        yield _judge(replica, container, history.baseline_bytes, scene)


def _judge(replica: Replica, container: ContainerReading, baseline: int, scene: Scene) -> Verdict:
    now, settings = scene.now, replica.watchdog
    if "gpus" in now.errors:
        return _verdict(replica, scene, "unknown", "gpus_unread", {})
    held = now.vram_bytes(container, placed(container, replica))
    if held is None:
        return _verdict(replica, scene, "unknown", "vram_not_reported", {})
    evidence: Evidence = {
        "container": container.id,
        "vram_bytes": held,
        "baseline_bytes": baseline,
    }
    if baseline < settings.vram_floor_bytes:
        return _verdict(replica, scene, "unknown", "vram_baseline_too_small", evidence)
    if held >= settings.vram_ratio * baseline:
        return _verdict(replica, scene, "ok", "", evidence)
    if settings.vram == "observe":
        return _verdict(replica, scene, "degraded", "vram_lost", evidence)
    if settings.vram == "strict":
        return _lost(replica, scene, evidence, readings=2, seconds=STRICT_SECONDS)
    return _corroborated(replica, scene, evidence)


def _corroborated(replica: Replica, scene: Scene, evidence: Evidence) -> Verdict:
    probe = scene.now.probes.get(replica.name)
    before = scene.before.get(("vram", replica.name))
    since = before.since_boot_seconds if before and before.verdict.streak == "lost" else None
    if probe is not None:
        veto = _veto(probe, since)
        if veto:
            return _verdict(
                replica, scene, "degraded", "vram_unloaded", {**evidence, "veto": veto}, "lost"
            )
        if probe.outcome != "ok" or probe.canary_failures > 0:
            told = {**evidence, "corroborated_by": f"probe {probe.outcome}"}
            return _lost(replica, scene, told, readings=1, seconds=DEATH_SECONDS)
    # Where something waits for the GPUs they are read far more often than once a tick.
    readings = replica.watchdog.vram_readings
    seconds = (readings - 1) * replica.watchdog.interval_seconds
    return _lost(replica, scene, evidence, readings=readings, seconds=seconds)


def _veto(probe: ProbeReading, since: float | None) -> str:
    """Say what speaks against a loss: it sleeps, tokens moved since, or it answered the canary."""
    if probe.stats is not None and probe.stats.sleeping:
        return "the engine sleeps"
    if since is not None and probe.progress_at is not None and probe.progress_at > since:
        return "tokens moved since"
    if since is not None and probe.canary and (probe.canary_at or 0.0) > since:
        return "it answered the canary since"
    return ""


def _lost(
    replica: Replica, scene: Scene, evidence: Evidence, *, readings: int, seconds: float
) -> Verdict:
    return Verdict(
        check="vram",
        subject=replica.name,
        state="failed",
        reason="vram_lost",
        evidence=evidence,
        remedy="restart",
        patience_seconds=seconds,
        patience_readings=readings,
        reading_boot_seconds=scene.now.gpus_boot_seconds,
        streak="lost",
    )


def _verdict(
    replica: Replica,
    scene: Scene,
    state: State,
    reason: str,
    evidence: Evidence,
    streak: str = "",
) -> Verdict:
    return Verdict(
        check="vram",
        subject=replica.name,
        state=state,
        reason=reason,
        evidence=evidence,
        reading_boot_seconds=scene.now.gpus_boot_seconds,
        streak=streak,
    )


CHECK = Check(name="vram", order=20, run=run)
