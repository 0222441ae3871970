"""
What is remembered: Events in, History out.

Whatever limits or triggers an action is an Event, so a restarted daemon decides as one that never
died. `fold` takes one Event more; `remember` starts from stored ones. Times are seconds on the
present boot's clock: an Event of an earlier boot lies in the negative, by wall time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gpuctl.model import Event, EventKind, Evidence

#: Starts remembered per replica: more than any budget counts in a day (8 and the tries of a loop).
STARTS_KEPT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An action that has begun and not ended."""

    id: str
    action: str  # fetch | start | terminate | kill | remove
    reason: str
    at: float
    instance: str  # the daemon that began it
    container: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last failure of a replica."""

    reason: str
    at: float
    count: int  # failures in a row, this one included; 0 for one that is not held against it
    container: str = ""
    evidence: Evidence = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaHistory:
    container: str = ""  # the newest one started or adopted
    container_at: float = 0.0
    spec_digest: str = ""  # of that container; "" when it was adopted
    ready_container: str = ""
    ready_at: float = 0.0
    failure: Failure | None = None
    restarts: tuple[float, ...] = ()  # starts after a failure, oldest first
    starts: tuple[float, ...] = ()  # all of them
    start_undone: bool = False  # the last one was not carried out, or its image not fetched
    baseline_bytes: int | None = None  # VRAM of that container when it had settled
    draining_container: str = ""
    draining_at: float = 0.0
    draining_seconds: float = 0.0
    draining_instance: str = ""  # the daemon that began it, and its first Status that shows it
    draining_seq: int = 0
    terminated_container: str = ""
    terminated_at: float = 0.0
    killed_container: str = ""
    removed_container: str = ""  # by us
    replaced_container: str = ""  # by a start that has begun: what becomes of it is our doing
    missing_image: str = ""  # which its last start did not find
    attempt: Attempt | None = None
    closed_at: float = 0.0  # when the last attempt ended
    undone_at: float | None = None  # the same, if it ended badly
    undone_container: str = ""  # what that attempt was about
    undone_action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    verb: str  # run | stop | up | down | renew
    at: float
    order: int  # later is larger


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    replicas: Mapping[str, ReplicaHistory] = field(default_factory=dict)
    intents: Mapping[str, IntentRecord] = field(default_factory=dict)  # subject → run or stop
    renewals: Mapping[str, IntentRecord] = field(default_factory=dict)  # subject → renew
    host_fault_at: float | None = None  # starts are held since then
    host_fault_starts: tuple[float, ...] = ()  # probe starts made in it
    last_start_at: float | None = None  # of any replica
    cautious: bool = False  # the events of before were lost
    order: int = 0  # of the latest intent

    def replica(self, name: str) -> ReplicaHistory:
        return self.replicas.get(name, _BLANK)

    def wanted(self, replica: str, workload: str) -> IntentRecord | None:
        """Return the latest intent that concerns a replica: its own, its workload's, everyone's."""
        return _latest(self.intents, replica, workload)

    def renewed(self, replica: str, workload: str) -> IntentRecord | None:
        return _latest(self.renewals, replica, workload)


_BLANK = ReplicaHistory()


def remember(
    events: Iterable[Event], *, boot_id: str, boot_seconds: float, now: float, cautious: bool
) -> History:
    """Fold stored Events, oldest first; *now* (Unix seconds) places those of earlier boots."""
    history = History(cautious=cautious)
    booted_at = now - boot_seconds
    for event in events:
        same_boot = event.boot_id == boot_id
        at = event.boot_seconds if same_boot else min(0.0, event.at - booted_at)
        history = fold(history, event, at)
    return history


def fold(history: History, event: Event, at: float | None = None) -> History:
    """Return the history with one Event more; *at* is its time on the present boot's clock."""
    at = event.boot_seconds if at is None else at
    match event.kind:
        case EventKind.INTENT:
            return _fold_intent(history, event, at)
        case EventKind.HOST_FAULT:
            return replace(history, host_fault_at=at, host_fault_starts=())
        case EventKind.HOST_OK:
            return replace(history, host_fault_at=None, host_fault_starts=())
        case EventKind.ATTEMPT if event.evidence.get("action") == "start":
            history = _fold_start(history, at)
    change = _CHANGES.get(event.kind)
    if change is None:
        return history
    before = history.replica(event.subject)
    return replace(history, replicas={**history.replicas, event.subject: change(before, event, at)})


def _fold_intent(history: History, event: Event, at: float) -> History:
    history = replace(history, order=history.order + 1)
    record = IntentRecord(verb=event.reason, at=at, order=history.order)
    if event.reason == "renew":
        return replace(history, renewals={**history.renewals, event.subject: record})
    if event.reason not in ("run", "stop", "up", "down"):
        return history
    cautious = history.cautious and event.reason != "up"
    return replace(history, intents={**history.intents, event.subject: record}, cautious=cautious)


def _fold_start(history: History, at: float) -> History:
    in_fault = history.host_fault_at is not None
    starts = (*history.host_fault_starts, at)[-STARTS_KEPT:] if in_fault else ()
    return replace(history, last_start_at=at, host_fault_starts=starts)


def _fold_attempt(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    evidence = event.evidence
    action = str(evidence.get("action", ""))
    container = str(evidence.get("container", ""))
    if action == "drain":
        return replace(
            before,
            draining_container=container,
            draining_at=at,
            draining_seconds=_number(evidence.get("deadline_seconds")),
            draining_instance=str(evidence.get("instance", "")),
            draining_seq=int(_number(evidence.get("seq"))),
        )
    attempt = Attempt(
        id=str(evidence.get("attempt", "")),
        action=action,
        reason=event.reason,
        at=at,
        instance=str(evidence.get("instance", "")),
        container=container,
    )
    if action == "fetch" and not evidence.get("restart"):
        return replace(before, attempt=attempt, failure=None)  # asked for: see below
    if action != "start":
        return replace(before, attempt=attempt)
    before = replace(before, replaced_container=before.container)
    if evidence.get("resumed"):
        return replace(before, attempt=attempt)
    starts = (*before.starts, at)[-STARTS_KEPT:]
    if evidence.get("restart"):
        restarts = (*before.restarts, at)[-STARTS_KEPT:]
        return replace(before, attempt=attempt, starts=starts, restarts=restarts)
    # Asked for, or not its fault: what it did before is forgiven.
    return replace(before, attempt=attempt, starts=starts, failure=None)


def _fold_done(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    if event.evidence.get("action") == "drain":
        return replace(before, draining_container="", draining_at=0.0, draining_seconds=0.0)
    attempt = before.attempt
    if attempt is None or attempt.id != event.evidence.get("attempt"):
        return before
    container = str(event.evidence.get("container", ""))
    closed = replace(before, attempt=None, closed_at=at, undone_at=None)
    match attempt.action:
        case "start":
            return _started(closed, container, at, str(event.evidence.get("spec_digest", "")))
        case "terminate":
            return replace(closed, terminated_container=container, terminated_at=at)
        case "kill":
            return replace(closed, killed_container=container)
        case "remove":
            return replace(closed, removed_container=container)
        case "fetch":
            return replace(closed, missing_image="")
    return closed


def _fold_undone(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    attempt = before.attempt
    if attempt is None or attempt.id != event.evidence.get("attempt"):
        return before
    if event.evidence.get("withdrawn"):
        return replace(before, attempt=None, closed_at=at)  # it did not fail
    starting = attempt.action in ("fetch", "start")
    if starting:
        before = replace(before, start_undone=True)
    missing = str(event.evidence.get("missing_image", ""))
    if missing:
        before = replace(_without(before, attempt), missing_image=missing)
        if "failures" not in event.evidence:
            return replace(before, attempt=None, closed_at=at)
    closed = replace(
        before,
        attempt=None,
        closed_at=at,
        undone_at=at,
        undone_container=attempt.container,
        undone_action=attempt.action,
    )
    if not starting or "failures" not in event.evidence:
        return closed
    # What was there before the start is accounted for: it made way, or could not be killed.
    return replace(closed, failure=replace(_failure(event, at), container=before.container))


def _without(before: ReplicaHistory, attempt: Attempt) -> ReplicaHistory:
    """A start that found no image has started nothing: it is the next one that counts."""
    if before.starts[-1:] != (attempt.at,):
        return before
    restarted = before.restarts[-1:] == before.starts[-1:]
    restarts = before.restarts[:-1] if restarted else before.restarts
    return replace(before, starts=before.starts[:-1], restarts=restarts)


def _fold_adopted(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    adopted = _started(before, str(event.evidence.get("container", "")), at, "")
    if "failures" not in event.evidence:
        return adopted
    # At the boot: too long ago to tell of a failing host.
    return replace(adopted, failure=replace(_failure(event, 0.0), container=""))


def _fold_failed(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    return replace(before, failure=_failure(event, at))


def _fold_ready(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    return replace(before, ready_container=str(event.evidence.get("container", "")), ready_at=at)


def _fold_baseline(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    return replace(before, baseline_bytes=int(_number(event.evidence.get("vram_bytes"))))


_CHANGES = {
    EventKind.ATTEMPT: _fold_attempt,
    EventKind.DONE: _fold_done,
    EventKind.UNDONE: _fold_undone,
    EventKind.ADOPTED: _fold_adopted,
    EventKind.FAILED: _fold_failed,
    EventKind.READY: _fold_ready,
    EventKind.BASELINE: _fold_baseline,
}

#: The kinds of Event that the history is made of; the others are for people.
REMEMBERED = frozenset({*_CHANGES, EventKind.INTENT, EventKind.HOST_FAULT, EventKind.HOST_OK})


def _started(before: ReplicaHistory, container: str, at: float, spec_digest: str) -> ReplicaHistory:
    """A new container starts afresh: only the failures, the starts and the attempt stay."""
    return ReplicaHistory(
        container=container,
        container_at=at,
        spec_digest=spec_digest,
        failure=before.failure,
        restarts=before.restarts,
        starts=before.starts,
        attempt=before.attempt,
        closed_at=before.closed_at,
    )


def _failure(event: Event, at: float) -> Failure:
    return Failure(
        reason=event.reason,
        at=at,
        count=int(_number(event.evidence.get("failures"))),
        container=str(event.evidence.get("container", "")),
        evidence=event.evidence,
    )


def _latest(
    records: Mapping[str, IntentRecord], replica: str, workload: str
) -> IntentRecord | None:
    found = [records[subject] for subject in (replica, workload, "") if subject in records]
    return max(found, key=lambda record: record.order, default=None)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
