"""What an Event changes in what is remembered of one replica."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gpuctl.history import memory
from gpuctl.history.memory import Attempt, Failure, OomRecord, ReplicaHistory
from gpuctl.model import Assignment, Event, EventKind


def _fold_attempt(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    evidence = event.evidence
    action = str(evidence.get("action", ""))
    container = str(evidence.get("container", ""))
    if action == "drain":
        return replace(
            before,
            draining_container=container,
            draining_at=at,
            draining_seconds=number(evidence.get("deadline_seconds")),
            draining_instance=str(evidence.get("instance", "")),
            draining_seq=int(number(evidence.get("seq"))),
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
    starts = (*before.starts, at)[-memory.STARTS_KEPT :]
    if evidence.get("restart"):
        restarts = (*before.restarts, at)[-memory.STARTS_KEPT :]
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
            digest = str(event.evidence.get("spec_digest", ""))
            started = _started(closed, container, at, digest)
            # Ordered before it was moved: it is where it should not be any more.
            return started if attempt.overtaken else replace(started, moved=None)
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
    return replace(before, baseline_bytes=int(number(event.evidence.get("vram_bytes"))))


def _fold_moved(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    gpus = event.evidence.get("gpus")
    moved = Assignment(
        gpus=tuple(str(uuid) for uuid in gpus) if isinstance(gpus, tuple | list) else (),
        reason=event.reason,
        voluntary=bool(event.evidence.get("voluntary")),
    )
    attempt = None if before.attempt is None else replace(before.attempt, overtaken=True)
    return replace(before, moved=moved, moved_at=at, attempt=attempt)


def _fold_cuda_oom(before: ReplicaHistory, event: Event, at: float) -> ReplicaHistory:
    record = OomRecord(at=at, line=str(event.evidence.get("line", "")))
    after = replace(before, ooms=(*before.ooms, record)[-memory.OOMS_KEPT :])
    if before.failure is None or before.failure.container != event.evidence.get("container"):
        return after
    return replace(after, failure=replace(before.failure, reason=event.reason))


CHANGES: Mapping[EventKind, Callable[[ReplicaHistory, Event, float], ReplicaHistory]] = {
    EventKind.ATTEMPT: _fold_attempt,
    EventKind.DONE: _fold_done,
    EventKind.UNDONE: _fold_undone,
    EventKind.ADOPTED: _fold_adopted,
    EventKind.FAILED: _fold_failed,
    EventKind.READY: _fold_ready,
    EventKind.BASELINE: _fold_baseline,
    EventKind.CUDA_OOM: _fold_cuda_oom,
    EventKind.MOVED: _fold_moved,
}


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
        ooms=before.ooms,
        moved=before.moved,
        moved_at=before.moved_at,
    )


def _failure(event: Event, at: float) -> Failure:
    return Failure(
        reason=event.reason,
        at=at,
        count=int(number(event.evidence.get("failures"))),
        container=str(event.evidence.get("container", "")),
        evidence=event.evidence,
    )


def number(value: object) -> float:
    """Return a number of an Event's evidence; what is none counts as 0."""
    return float(value) if isinstance(value, int | float) else 0.0
