"""Events in, History out: `fold` takes one more, `remember` starts from stored ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gpuctl.history import hosts
from gpuctl.history.memory import History
from gpuctl.history.replicas import CHANGES
from gpuctl.model import Event, EventKind

#: The kinds of Event that the history is made of; the others are for people.
REMEMBERED = frozenset(
    {
        *CHANGES,
        EventKind.DAEMON,  # the first one is what the history begins with
        EventKind.INTENT,
        EventKind.HOST_FAULT,
        EventKind.HOST_OK,
        EventKind.XID,
        EventKind.CORDONED,
        EventKind.MEASURED,
        EventKind.IMAGE,
    }
)

#: The latest that an Event of an earlier boot can be of: the wall clock may have been set back
#: since, and what a reboot has cured must not count as of this boot.
_BEFORE_BOOT = -1.0


def remember(
    events: Iterable[Event], *, boot_id: str, boot_seconds: float, now: float, cautious: bool
) -> History:
    """Fold stored Events, oldest first; *now* (Unix seconds) places those of earlier boots."""
    history = History(cautious=cautious)
    booted_at = now - boot_seconds
    for event in events:
        same_boot = event.boot_id == boot_id
        at = event.boot_seconds if same_boot else min(_BEFORE_BOOT, event.at - booted_at)
        history = fold(history, event, at)
    return history


def fold(history: History, event: Event, at: float | None = None) -> History:
    """Return the history with one Event more; *at* is its time on the present boot's clock."""
    at = event.boot_seconds if at is None else at
    if history.began_at is None:
        history = replace(history, began_at=at)
    match event.kind:
        case EventKind.INTENT:
            return hosts.fold_intent(history, event, at)
        case EventKind.HOST_FAULT:
            return replace(history, host_fault_at=at, host_fault_starts=())
        case EventKind.HOST_OK:
            return replace(history, host_fault_at=None, host_fault_starts=())
        case EventKind.XID | EventKind.CORDONED:
            return hosts.fold_gpu(history, event, at)
        case EventKind.MEASURED:
            return hosts.fold_measured(history, event)
        case EventKind.IMAGE:
            return hosts.fold_image(history, event)
        case EventKind.MOVED:
            history = hosts.fold_moved(history, event)
        case EventKind.ATTEMPT if event.evidence.get("action") == "start":
            history = hosts.fold_start(history, at)
    change = CHANGES.get(event.kind)
    if change is None:
        return history
    before = history.replica(event.subject)
    return replace(history, replicas={**history.replicas, event.subject: change(before, event, at)})
