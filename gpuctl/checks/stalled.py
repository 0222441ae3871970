"""Does work in flight move? A live HTTP port says nothing about the inference behind it."""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Evidence, GatewayReading, ProbeReading, Replica, Verdict
from gpuctl.plugin import Check, Scene

#: A standstill this many times the longest one that ended by itself is no batch at work.
_SLOWEST_FACTOR = 3.0
#: One unanswered question of one token may be bad luck.
_CANARIES = 2


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every ready replica that was probed; a gateway's own counts are the better witness."""
    for replica in scene.plan.replicas:
        container = scene.now.own(replica.name)
        probe = scene.now.probes.get(replica.name)
        if container is None or container.state != "running" or probe is None:
            continue
        ready = scene.history.replica(replica.name).ready_container
        if ready != container.id or probe.container != container.id:
            continue
        if "runtime" not in scene.now.errors:
            yield _judge(replica, probe, scene.now.gateway, scene.now.boot_seconds)


def _judge(
    replica: Replica, probe: ProbeReading, gateway: GatewayReading | None, now: float
) -> Verdict:
    in_flight, moving_at = probe.in_flight, probe.moving_at
    through = gateway.replicas.get(replica.name) if gateway else None
    if through is not None:
        in_flight = max(in_flight or 0, through.in_flight)
        moving_at = max(moving_at, through.last_byte_boot_seconds or 0.0)
    limit = max(replica.watchdog.stalled_seconds, _SLOWEST_FACTOR * probe.slowest_seconds)
    still = now - moving_at
    evidence: Evidence = {
        "container": probe.container,
        "in_flight": in_flight,
        "still_seconds": round(still, 1),
        "limit_seconds": limit,
    }
    if probe.canary_failures >= _CANARIES:
        return _failed(replica, probe, "canary_failed", evidence)
    if not in_flight or still < limit:
        return Verdict(
            check="stalled",
            subject=replica.name,
            state="ok",
            evidence=evidence,
            reading_boot_seconds=probe.boot_seconds,
        )
    return _failed(replica, probe, "stalled", evidence)


def _failed(replica: Replica, probe: ProbeReading, reason: str, evidence: Evidence) -> Verdict:
    return Verdict(
        check="stalled",
        subject=replica.name,
        state="failed",
        reason=reason,
        evidence=evidence,
        remedy="restart",
        reading_boot_seconds=probe.boot_seconds,
    )


CHECK = Check(name="stalled", order=40, run=run)
