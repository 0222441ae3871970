"""
What became of the replicas since the last tick: Snapshot and Conditions in, Events out. PURE.

The daemon stores these before it decides, so that a decision rests on nothing that could be
forgotten: a container is adopted, becomes ready, settles at its VRAM, or has failed, each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpuctl.history import History, ReplicaHistory
from gpuctl.model import (
    Condition,
    ContainerReading,
    Event,
    EventKind,
    Evidence,
    Json,
    Plan,
    ProbeReading,
    Replica,
    Snapshot,
)
from gpuctl.moments import event
from gpuctl.wanted import must_go, placed

Conditions = Mapping[tuple[str, str], Condition]

#: The checks whose remedy for a replica is a restart, in the order in which they are asked.
_FATAL = ("stopped", "vram", "health", "stalled", "xid")
#: Those whose remedy can wait its turn: the replica still serves, so it is renewed after a drain.
_RENEWING = ("gpu_in_container", "vram_creep")
#: Failures held against what is adopted after the events were lost: its next start waits 40 s, as
#: a budget that is not known must not be taken for a full one.
_USED_FAILURES = 3


def transitions(
    plan: Plan, now: Snapshot, conditions: Conditions, history: History
) -> tuple[Event, ...]:
    """Return what happened to each replica, and whether the host as a whole has failed."""
    if "runtime" in now.errors or now.runtime_boot_seconds is None:
        return ()
    events = [
        event
        for replica in plan.replicas
        for event in _of_replica(replica, now, conditions, history)
    ]
    return (*events, *_of_host(plan, now, history, events))


def changes(before: Conditions, after: Conditions, now: Snapshot) -> tuple[Event, ...]:
    """
    Return an Event per condition that appeared, changed its reason, or went.

    Not for `stopped`: a container that stopped is told as a failure, with more of it.
    """
    return tuple(
        _changed(key, before.get(key), after.get(key), now)
        for key in {**before, **after}
        if key[0] != "stopped" and _bad(before.get(key)) != _bad(after.get(key))
    )


def _bad(condition: Condition | None) -> str:
    """Return the reason of a condition that is not ok."""
    if condition is None or condition.verdict.state == "ok":
        return ""
    return condition.verdict.reason


def _changed(
    key: tuple[str, str], before: Condition | None, after: Condition | None, now: Snapshot
) -> Event:
    check, subject = key
    told: dict[str, Json] = {"check": check, "was": _bad(before)}
    if after is not None:
        told |= {**after.verdict.evidence, "state": after.verdict.state}
    return event(now, EventKind.CONDITION, subject, _bad(after) or "ok", told)


def _of_replica(
    replica: Replica, now: Snapshot, conditions: Conditions, past: History
) -> Iterator[Event]:
    history = past.replica(replica.name)
    if history.attempt is not None:
        return  # what is being done to it is not its own doing
    container = now.own(replica.name)
    running = container is not None and container.state == "running"
    if container is not None and running and container.id != history.container:
        adopted: dict[str, Json] = {"container": container.id, "attempt": container.attempt}
        if past.cautious:
            adopted["failures"] = _USED_FAILURES
        yield event(now, EventKind.ADOPTED, replica.name, "running", adopted)
        return
    if container is not None and running and _wanted_again(replica, container, past):
        told = {"action": "drain", "container": container.id}
        yield event(now, EventKind.DONE, replica.name, "wanted_again", told)
    due = _due(replica, now, conditions)
    if due is not None and not _counted(due, history):
        yield _failed(replica, now, due, past)
    elif container is not None and running:
        yield from _renewing(replica, now, conditions, past)
        yield from _settling(replica, container, now, history)


def _wanted_again(replica: Replica, container: ContainerReading, past: History) -> bool:
    """True when what it was drained for no longer holds, and it was not told to stop yet."""
    history = past.replica(replica.name)
    if history.draining_container != container.id or history.terminated_container == container.id:
        return False
    return not must_go(past, replica, container)[0]


def _renewing(
    replica: Replica, now: Snapshot, conditions: Conditions, past: History
) -> Iterator[Event]:
    """Ask for a new container in the place of one that serves, once."""
    due = _due(replica, now, conditions, _RENEWING)
    asked = past.renewed(replica.name, replica.workload)
    if due is None or replica.watchdog.mode == "observe":
        return
    if asked is None or asked.at <= past.replica(replica.name).container_at:
        told = {**due.verdict.evidence, "by": "gpuctl", "because": due.verdict.reason}
        yield event(now, EventKind.INTENT, replica.name, "renew", told)


def _due(
    replica: Replica, now: Snapshot, conditions: Conditions, checks: tuple[str, ...] = _FATAL
) -> Condition | None:
    for check in checks:
        condition = conditions.get((check, replica.name))
        if condition is None or condition.verdict.remedy != "restart":
            continue
        if condition.due(now.boot_seconds):
            return condition
    return None


def _counted(due: Condition, history: ReplicaHistory) -> bool:
    container = due.verdict.evidence.get("container")
    return history.failure is not None and history.failure.container == container


def _failed(replica: Replica, now: Snapshot, due: Condition, past: History) -> Event:
    history = past.replica(replica.name)
    reason = _outage(history, now, due, past) or due.verdict.reason
    excused = reason != due.verdict.reason
    evidence: dict[str, Json] = {
        **due.verdict.evidence,
        "check": due.verdict.check,
        "seen_at": due.since,
        "readings": due.readings,
        "failures": 0 if excused else failures(replica, now, history),
    }
    if history.ready_container and history.ready_container == history.container:
        evidence["ready_seconds"] = round(now.boot_seconds - history.ready_at, 1)
    return event(now, EventKind.FAILED, replica.name, reason, evidence)


def _outage(history: ReplicaHistory, now: Snapshot, due: Condition, past: History) -> str:
    """Name the known cause outside the replica, for which it is not held to account."""
    if due.verdict.check != "stopped":
        return ""
    if due.verdict.evidence.get("container") != history.container:
        return ""  # one that never came up since
    if history.container_at < 0.0:
        return "host_rebooted"
    back = now.runtime_back_boot_seconds
    if back is None or history.container_at > back or due.since_boot_seconds > back:
        return ""  # started after that, or still alive then
    if due.verdict.reason == "oom_killed" or _survived(now, past, back):
        return ""
    return "runtime_restarted"


def _survived(now: Snapshot, past: History, back: float) -> bool:
    """
    Return whether a container has lived on from before the runtime was read again.

    A restart of the runtime ends all of them, or none (under Docker's live-restore); a question
    that was not answered in time ends none.
    """
    return any(
        container.state in ("running", "paused")
        and past.replica(name).container == container.id
        and past.replica(name).container_at <= back
        for name, container in now.owned.items()
    )


def failures(replica: Replica, now: Snapshot, history: ReplicaHistory) -> int:
    """Return how many failures in a row a failure of this moment makes."""
    ready = bool(history.ready_container) and history.ready_container == history.container
    # Once a start has begun after it, its ready time has made its difference.
    ready = ready and history.replaced_container != history.container
    streak = now.boot_seconds - history.ready_at if ready else 0.0
    if streak >= replica.watchdog.ready_reset_seconds or history.failure is None:
        return 1
    return history.failure.count + 1


def _settling(
    replica: Replica, container: ContainerReading, now: Snapshot, history: ReplicaHistory
) -> Iterator[Event]:
    probe = now.probes.get(replica.name)
    answers = probe is not None and probe.container == container.id and probe.outcome == "ok"
    if history.ready_container != container.id:
        if probe is not None and answers and _warm(replica, probe):
            loaded = _loaded(replica, container, now, history.container_at)
            if replica.probe.warmup_requests and not probe.serves:
                loaded = {**loaded, "warmup_requests": replica.probe.warmup_requests}
            yield event(now, EventKind.READY, replica.name, "", loaded)
        return
    if history.baseline_bytes is not None or not replica.gpus or "gpus" in now.errors:
        return
    read_at = now.gpus_boot_seconds or 0.0
    if not answers or read_at - history.ready_at < replica.watchdog.vram_settle_seconds:
        return
    held = now.vram_bytes(container, placed(container, replica))
    if held:
        settled: Evidence = {"container": container.id, "vram_bytes": held}
        yield event(now, EventKind.BASELINE, replica.name, "settled", settled)


def _warm(replica: Replica, probe: ProbeReading) -> bool:
    """True when it has answered what it must before it is ready, or requests of others."""
    return probe.serves or probe.warmed >= replica.probe.warmup_requests


def _loaded(
    replica: Replica, container: ContainerReading, now: Snapshot, began_at: float
) -> Evidence:
    """Return how long a start took, and when it had come how far as its engine tells."""
    told: dict[str, Json] = {
        "container": container.id,
        "seconds": round(now.boot_seconds - began_at, 3),
    }
    load = now.loads.get(replica.name)
    if load is not None and load.container == container.id and load.reached:
        told["stages"] = {stage: round(at - began_at, 3) for stage, at in load.reached.items()}
    return told


def _of_host(plan: Plan, now: Snapshot, history: History, events: list[Event]) -> Iterator[Event]:
    settings = plan.watchdog
    if history.host_fault_at is not None:
        if any(e.kind is EventKind.READY for e in events) or _ready_since(history):
            yield event(now, EventKind.HOST_OK, "host", "a replica is ready again", {})
        return
    fresh = {e.subject for e in events if e.kind is EventKind.FAILED and e.evidence["failures"]}
    start = now.boot_seconds - settings.host_fault_window_seconds
    recent = {
        name
        for name, replica in history.replicas.items()
        if replica.failure is not None and replica.failure.count and replica.failure.at > start
    }
    failed = sorted(fresh | recent)
    needed = max(settings.host_fault_replicas, settings.host_fault_ratio * len(plan.replicas))
    if fresh and settings.host_fault_ratio > 0 and len(failed) >= needed:
        told: Evidence = {"replicas": tuple(failed), "of": len(plan.replicas)}
        yield event(now, EventKind.HOST_FAULT, "host", "many_failed_at_once", told)


def _ready_since(history: History) -> bool:
    since = history.host_fault_at or 0.0
    return any(replica.ready_at > since for replica in history.replicas.values())
