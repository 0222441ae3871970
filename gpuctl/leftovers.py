"""
What goes without having a place in the plan: what a start renamed aside, and what an earlier
profile left. PURE; `decide` asks for the next step with each.
"""

from __future__ import annotations

from typing import Literal

from gpuctl.history import ReplicaHistory
from gpuctl.model import ContainerReading, Plan, Replica, Snapshot, Stop
from gpuctl.wanted import placed

Step = Literal["terminate", "kill", "remove"]

ALIVE = ("running", "paused")
#: A container aside that would not die or go is tried again this often.
ASIDE_SECONDS = 60.0
#: So long after SIGKILL a container that still runs is taken for one that will not die.
STUCK_SECONDS = 5.0


def stranger(name: str, plan: Plan, now: Snapshot, history: ReplicaHistory) -> Stop | None:
    """Return the next step with a replica that the plan does not know: an earlier profile's."""
    aside = whats_aside(name, plan, now, history)
    if aside is not None:
        return aside
    container = now.own(name)
    if container is None or container.state == "removed" or too_soon(plan, now, history):
        return None
    if container.state not in ALIVE:
        return stop(name, container, "not_in_profile", "remove")
    if history.terminated_container != container.id:
        return stop(name, container, "not_in_profile", "terminate")
    if now.boot_seconds >= history.closed_at + plan.watchdog.stop_grace_seconds:
        return stop(name, container, "grace_over", "kill")
    return None


def whats_aside(name: str, plan: Plan, now: Snapshot, history: ReplicaHistory) -> Stop | None:
    """Return the next step with what was renamed aside: one container at a time."""
    containers = now.aside.get(name, ())
    if not containers:
        return None
    # One that runs comes first, and at once: it was started late, or would not die.
    container = next((c for c in containers if c.state in ALIVE), containers[0])
    step: Step = "kill" if container.state in ALIVE else "remove"
    if step == "remove" and too_soon(plan, now, history):
        return None
    done = history.killed_container if step == "kill" else history.removed_container
    undone = history.undone_container if step == history.undone_action else ""
    tried = container.id in (done, undone)
    if tried and now.boot_seconds < history.closed_at + ASIDE_SECONDS:
        return None
    return stop(name, container, "replaced", step)


def apart(replica: Replica, old: ContainerReading) -> bool:
    """
    Return whether a replica may start while an old container of it that will not die still runs.

    Only on other GPUs, and where cutting it from its network frees its port: a process, or a
    container on the host's own network, keeps that as long as it lives.
    """
    ours, theirs = {gpu.uuid for gpu in replica.gpus}, {*(old.gpus or placed(old, replica))}
    return replica.spec.network != "host" and bool(ours | theirs) and not ours & theirs


def too_soon(plan: Plan, now: Snapshot, history: ReplicaHistory) -> bool:
    """What the runtime would not do is tried again on a later tick, not in a hot loop."""
    until = until_repeated(plan, history)
    return until is not None and now.boot_seconds < until


def until_repeated(plan: Plan, history: ReplicaHistory) -> float | None:
    """Return when what was not done may be tried again; `None`: the last action was done."""
    at = history.undone_at
    return at if at is None else at + plan.watchdog.interval_seconds


def stop(name: str, container: ContainerReading, reason: str, step: Step) -> Stop:
    return Stop(replica=name, container=container.id, reason=reason, step=step)
