"""
Does work in flight move? A live HTTP port says nothing about the inference behind it.

1. canaries that were not answered: failed
2. nothing in flight, or not for long enough: ok
3. counters that could not be read: unknown, since what was in flight may be done. Only what was
   read and stood still is a standstill, or what the engine did not answer in time; but no engine
   goes unread for longer than one that computes is believed
4. an engine that computes: unknown. Its counters stand still for a whole batch, or are not
   answered, as when its inference has stopped; processor time tells the two apart. It is believed
   for a bounded time, as a thread may spin
5. else failed
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import (
    ContainerReading,
    Evidence,
    GatewayReplica,
    ProbeReading,
    Replica,
    State,
    Verdict,
)
from gpuctl.plugin import Check, Scene

#: A standstill this many times the longest one that ended by itself is no batch at work; nor is
#: one for which processor time is no longer believed, or each hang would teach a longer one.
_SLOWEST_FACTOR = 3.0
#: One unanswered question of one token may be bad luck.
_CANARIES = 2
#: An engine at work uses this share of one processor at least; its HTTP threads alone far less.
_WORKING_RATIO = 0.05
#: Processor time, or an engine unread, is believed for `stalled` times this, 20 min by default:
#: llama.cpp's batch of 2,048 tokens takes 17 min at 2 tokens/s (an 8B model on one core).
_BELIEVED_FACTOR = 10.0
#: An engine without counters stands still, as far as is told, for a whole answer: 16,000 tokens at
#: 10 a second take 27 min. One that is asked in turn tells after each.
_BELIEVED_FACTOR_MUTE = 15.0
#: With a GPU no batch takes 6 min, and a thread that waits for a hung one spins.
_BELIEVED_FACTOR_GPU = 3.0


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
            yield _judge(replica, container, probe, scene)


def _judge(
    replica: Replica, container: ContainerReading, probe: ProbeReading, scene: Scene
) -> Verdict:
    now, patience = scene.now.boot_seconds, replica.watchdog.stalled_seconds
    through = scene.now.gateway.replicas.get(probe.replica) if scene.now.gateway else None
    in_flight = max(probe.in_flight or 0, through.in_flight) if through else probe.in_flight
    sent_at = _sent_at(probe, through, scene)
    moving_at = _moving_at(probe, through, sent_at)
    believed = patience * _believed_factor(replica)
    limit = max(patience, min(believed, _SLOWEST_FACTOR * probe.slowest_seconds))
    still = now - moving_at
    worked_at, worked_cpu_seconds = _worked(
        container, probe, moving_at, _WORKING_RATIO * limit, scene
    )
    evidence: Evidence = {
        "container": probe.container,
        "in_flight": in_flight,
        "still_seconds": round(still, 1),
        "limit_seconds": limit,
        "worked_boot_seconds": worked_at,
        "worked_cpu_seconds": worked_cpu_seconds,
        "sent_boot_seconds": sent_at,
    }
    since = max(moving_at, worked_at) if still < believed else moving_at
    unread = not probe.stats_late and (probe.stats_at or now) < probe.boot_seconds
    # Without counters a request that a gateway holds may have come just now, if it tells no time.
    doubtful = unread and (still < believed or (through is not None and sent_at is None))
    if probe.canary_failures >= _CANARIES:
        return _verdict(probe, "failed", "canary_failed", evidence)
    if not in_flight or still < limit:
        return _verdict(probe, "ok", "", evidence)
    if doubtful and (probe.stats_at or now) - since < limit:
        return _verdict(probe, "unknown", "metrics_unread", evidence)
    if now - since < limit:
        return _verdict(probe, "unknown", "long_batch", evidence)
    return _verdict(probe, "failed", "stalled", evidence)


def _believed_factor(replica: Replica) -> float:
    if replica.probe.mute_at_work:
        return _BELIEVED_FACTOR_MUTE
    return _BELIEVED_FACTOR_GPU if replica.gpus else _BELIEVED_FACTOR


def _sent_at(probe: ProbeReading, through: GatewayReplica | None, scene: Scene) -> float | None:
    """
    Return since when a gateway has held requests there, in boot seconds; `None`: it holds none.

    One that it gave up for another counts: its deadline may be shorter than the patience here.
    """
    if through is None or not through.in_flight or through.began_boot_seconds is None:
        return None
    told = _told(probe, scene).get("sent_boot_seconds")
    began = through.began_boot_seconds
    return min(began, told) if isinstance(told, float) else began


def _moving_at(probe: ProbeReading, through: GatewayReplica | None, sent_at: float | None) -> float:
    """Return when what is in flight was last seen to move, in boot seconds."""
    passed_at = (through.last_byte_boot_seconds or 0.0) if through else 0.0
    if probe.in_flight or sent_at is None:
        return max(probe.moving_at, passed_at)
    # That an engine says it is idle is no movement of what it was sent.
    return max(sent_at, passed_at, probe.progress_at or 0.0)


def _told(probe: ProbeReading, scene: Scene) -> Evidence:
    """Return what was told of the same container on the tick before."""
    before = scene.before.get(("stalled", probe.replica))
    told = before.verdict.evidence if before is not None else {}
    return told if told.get("container") == probe.container else {}


def _worked(
    container: ContainerReading,
    probe: ProbeReading,
    moving_at: float,
    least_seconds: float,
    scene: Scene,
) -> tuple[float, float | None]:
    """
    Return when it was last seen at work, in boot seconds, and the processor time it had used then.

    It is at work again when it has used *least_seconds* more. Where that is not told, counters that
    can be read have the last word, and an engine that is mute has the benefit of the doubt.
    """
    now, used = scene.now.boot_seconds, container.cpu_seconds
    told = _told(probe, scene)
    at, then = told.get("worked_boot_seconds"), told.get("worked_cpu_seconds")
    if used is None:
        return (now if probe.stats_late else moving_at), None
    if not isinstance(at, float):
        return now, used  # not watched until now: it may have been at work all the time
    if at < moving_at:
        return moving_at, used
    if not isinstance(then, float) or used - then >= least_seconds:
        return now, used
    return at, then


def _verdict(probe: ProbeReading, state: State, reason: str, evidence: Evidence) -> Verdict:
    return Verdict(
        check="stalled",
        subject=probe.replica,
        state=state,
        reason=reason,
        evidence=evidence,
        remedy="restart" if state == "failed" else "none",
        reading_boot_seconds=probe.boot_seconds,
    )


CHECK = Check(name="stalled", order=40, run=run)
