"""
What one answer more makes of what is known of a replica: probes, metrics and warm-up requests in,
ProbeReadings out. PURE; `probing` does the asking.
"""

from __future__ import annotations

from dataclasses import replace

from gpuctl.model import EngineStats, ProbeReading, ProbeResult, ProbeSpec, Replica

#: HTTP statuses of an engine that wants a key which gpuctl was not told.
_LOCKED = (401, 403)


def fold(
    before: ProbeReading | None,
    replica: Replica,
    container: str,
    result: ProbeResult,
    stats: EngineStats | None,
    asked_at: float,
) -> ProbeReading:
    """
    Return what is known of a replica after one answer more; *asked_at* is in boot seconds.

    A new container, or a long gap, starts afresh.
    """
    before = _same_life(before, replica, container, asked_at)
    mute = replica.probe.mute_at_work
    in_flight = _mute_in_flight(result) if mute else _in_flight(stats, before)
    moved = _moved(stats, before)
    idle = in_flight == 0 and (mute or stats is not None)
    still_since = before.moving_at if before is not None else asked_at
    return ProbeReading(
        replica=replica.name,
        container=container,
        outcome=result.outcome,
        status=result.status,
        latency_seconds=result.latency_seconds,
        detail=result.detail,
        stats=_kept(stats, before),
        stats_at=asked_at if stats is not None else (before.stats_at if before else None),
        stats_late=result.metrics_late or (mute and result.outcome == "timeout"),
        in_flight=in_flight,
        moving_at=asked_at if moved or idle or before is None else still_since,
        progress_at=asked_at if moved else (before.progress_at if before else None),
        slowest_seconds=_slowest(before, moved, asked_at),
        canary=before.canary if before else None,
        canary_at=before.canary_at if before else asked_at,  # a fresh start counts as asked
        canary_failures=before.canary_failures if before else 0,
        warmed=before.warmed if before else 0,
        warmup_failures=before.warmup_failures if before else 0,
        warmup_detail=before.warmup_detail if before else "",
        serves=before is not None and (before.serves or (moved and _for_others(before))),
        boot_seconds=asked_at,
    )


def _same_life(
    before: ProbeReading | None, replica: Replica, container: str, asked_at: float
) -> ProbeReading | None:
    """Return what was known before, `None` of another container or from before a long gap."""
    if before is None or before.container != container:
        return None
    # The question before may have been given more time than the profile says.
    spent = max(replica.probe.timeout_seconds, before.latency_seconds)
    gap = replica.watchdog.tick_gap_seconds + spent
    return before if asked_at - before.boot_seconds <= gap else None


def _slowest(before: ProbeReading | None, moved: bool, asked_at: float) -> float:
    """Return the longest standstill under load that ended by itself, in seconds."""
    if before is None:
        return 0.0
    if moved and before.in_flight:
        return max(before.slowest_seconds, asked_at - before.moving_at)
    return before.slowest_seconds


def _for_others(before: ProbeReading) -> bool:
    """
    Return whether an engine was at requests of others.

    What gpuctl gave up is worked on all the same: each of those may still be there.
    """
    return (before.in_flight or 0) > before.warmup_failures + before.canary_failures


def _mute_in_flight(result: ProbeResult) -> int | None:
    """Return what an engine is at that answers nothing while it works."""
    if result.outcome == "timeout":
        return 1
    return 0 if result.outcome == "ok" else None


def _in_flight(stats: EngineStats | None, before: ProbeReading | None) -> int | None:
    if stats is not None and stats.running is not None:
        return stats.running + (stats.waiting or 0)
    return before.in_flight if before is not None else None


def _moved(stats: EngineStats | None, before: ProbeReading | None) -> bool:
    if stats is None or stats.progress is None:
        return False
    known = before.stats.progress if before is not None and before.stats is not None else None
    return known is not None and stats.progress != known


def _kept(stats: EngineStats | None, before: ProbeReading | None) -> EngineStats | None:
    """Metrics that could not be read this time leave the last ones standing."""
    if stats is None and before is not None:
        return before.stats
    return stats


def warmed(reading: ProbeReading, answered: ProbeResult, wanted: int, at: float) -> ProbeReading:
    """Return what is known after one more of *wanted* warm-up requests; *at* is in boot seconds."""
    if answered.status in _LOCKED:
        return replace(reading, warmed=wanted, boot_seconds=at)  # there is no way to warm it up
    if answered.outcome == "ok":
        return replace(reading, warmed=reading.warmed + 1, warmup_failures=0, boot_seconds=at)
    return replace(
        reading,
        warmup_failures=reading.warmup_failures + 1,
        warmup_detail=answered.detail or answered.outcome,
        boot_seconds=at,
    )


def occupied(reading: ProbeReading, seconds: float) -> bool:
    """
    Return whether requests of others keep an engine from answering a warm-up request.

    That would wait behind them; they warm it up as well, and its counters tell when it answers
    them. Where nothing has moved for so many *seconds* it must be asked.
    """
    return bool(reading.in_flight) and reading.boot_seconds - reading.moving_at < seconds


def patient(replica: Replica, container: str, before: ProbeReading | None) -> ProbeSpec:
    """
    Return how a replica is asked now.

    Of an engine that answers nothing while it works a question that is given up loses its place in
    the queue, and is worked on all the same: after each that was late the next has twice its time.
    """
    spec = replica.probe
    late = before is not None and before.container == container and before.outcome == "timeout"
    if before is None or not (late and spec.mute_at_work):
        return spec
    seconds = min(2 * before.latency_seconds, replica.watchdog.stalled_seconds)
    return replace(spec, timeout_seconds=max(spec.timeout_seconds, seconds))


def telling(before: ProbeReading | None, now: ProbeReading) -> bool:
    """True when the loop should look at once: a change, or one failure more."""
    if before is None or before.container != now.container or before.outcome != now.outcome:
        return True
    if (now.warmed, now.warmup_failures) != (before.warmed, before.warmup_failures):
        return True
    if now.serves != before.serves:
        return True
    return now.outcome not in ("ok", "loading") or now.canary_failures > before.canary_failures
