"""When the loop must look again, if nothing wakes it before. PURE; the daemon asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.judge import Conditions
from gpuctl.model import Plan, Snapshot


def next_tick(
    plan: Plan, now: Snapshot, conditions: Conditions, history: History, waits: Mapping[str, Wait]
) -> float:
    """Return the time of the next tick in boot seconds: the interval, or something due sooner."""
    boot = now.boot_seconds
    times = (*_waits(waits), *_patience(conditions), *_replicas(plan, history))
    return min((boot + plan.watchdog.interval_seconds, *(at for at in times if at > boot)))


def gpus_wanted(conditions: Conditions, waits: Mapping[str, Wait], now: Snapshot) -> bool:
    """Return whether a decision waits for nothing but a new reading of the GPUs."""
    if any(wait.reason == "vram_held" for wait in waits.values()):
        return True
    boot = now.boot_seconds
    return any(
        check == "vram"
        and condition.verdict.state == "failed"
        and condition.verdict.patience_seconds > 0
        and boot >= condition.since_boot_seconds + condition.verdict.patience_seconds
        and not condition.due(boot)
        for (check, _), condition in conditions.items()
    )


def _waits(waits: Mapping[str, Wait]) -> Iterator[float]:
    for wait in waits.values():
        if wait.until is not None:
            yield wait.until


def _patience(conditions: Conditions) -> Iterator[float]:
    for condition in conditions.values():
        if condition.verdict.state == "failed" and condition.verdict.patience_seconds:
            yield condition.since_boot_seconds + condition.verdict.patience_seconds


def _replicas(plan: Plan, history: History) -> Iterator[float]:
    for replica in plan.replicas:
        known, settings = history.replica(replica.name), replica.watchdog
        if known.draining_container:
            yield known.draining_at + known.draining_seconds
        if known.terminated_container:
            yield known.terminated_at + settings.failed_grace_seconds
            yield known.terminated_at + settings.stop_grace_seconds
        if known.undone_at is not None:
            yield known.undone_at + settings.interval_seconds
