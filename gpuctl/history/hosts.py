"""What an Event changes in what is remembered of the host: intents, GPUs, where replicas went."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.history import memory
from gpuctl.history.memory import (
    Cordon,
    History,
    IntentRecord,
    XidRecord,
)
from gpuctl.model import Assignment, Event, EventKind


def fold_intent(history: History, event: Event, at: float) -> History:
    history = replace(history, order=history.order + 1)
    record = IntentRecord(verb=event.reason, at=at, order=history.order)
    if event.reason == "renew":
        return replace(history, renewals={**history.renewals, event.subject: record})
    if event.reason in ("cordon", "uncordon"):
        return fold_gpu(history, event, at)
    if event.reason == "scale":
        return _scaled(history, event)
    if event.reason == "failover":
        return _failed_over(history, event, record)
    if event.reason not in ("run", "stop", "up", "down"):
        return history
    cautious = history.cautious and event.reason != "up"
    return replace(history, intents={**history.intents, event.subject: record}, cautious=cautious)


def fold_gpu(history: History, event: Event, at: float) -> History:
    before = history.gpu(event.subject)
    match event.kind, event.reason:
        case EventKind.XID, _:
            pid = event.evidence.get("pid")
            record = XidRecord(
                number=int(event.reason) if event.reason.isdecimal() else 0,
                at=at,
                pid=pid if isinstance(pid, int) else None,
                evidence=event.evidence,
            )
            changed = replace(before, xids=_with_xid(before.xids, record))
        case EventKind.CORDONED, reason:
            changed = replace(before, cordon=Cordon(reason=reason, at=at))
        case _, "cordon":
            uid = event.evidence.get("uid")
            cordon = Cordon(
                reason="cordoned",
                at=at,
                by_operator=True,
                note=str(event.evidence.get("note", "")),
                uid=uid if isinstance(uid, int) else None,
            )
            changed = replace(before, cordon=cordon)
        case _:
            counted = event.evidence.get("ecc_uncorrected")
            changed = replace(
                before,
                cordon=None,
                cleared_at=at,
                cleared_uncorrected=counted if isinstance(counted, int) else None,
            )
    return replace(history, gpus={**history.gpus, event.subject: changed})


def _with_xid(known: tuple[XidRecord, ...], record: XidRecord) -> tuple[XidRecord, ...]:
    """Return the records with one more, which takes the place of one of its number only."""
    same = [each for each in known if each.number == record.number]
    dropped = same[0] if len(same) >= memory.XIDS_KEPT else None
    return (*(each for each in known if each is not dropped), record)


def fold_moved(history: History, event: Event) -> History:
    """A replica is elsewhere from now on; without GPUs told, where the profile puts it again."""
    moved = {k: v for k, v in history.assignments.moved.items() if k != event.subject}
    gpus = event.evidence.get("gpus")
    if isinstance(gpus, tuple | list):
        moved[event.subject] = Assignment(
            gpus=tuple(str(uuid) for uuid in gpus),
            reason=event.reason,
            voluntary=bool(event.evidence.get("voluntary")),
            profile=str(event.evidence.get("profile", "")),
        )
    return replace(history, assignments=replace(history.assignments, moved=moved))


def fold_measured(history: History, event: Event) -> History:
    """The newest measurement of a model counts, whatever was measured before."""
    held = event.evidence.get("vram_bytes")
    if not isinstance(held, int):
        return history
    return replace(history, measured={**history.measured, event.subject: held})


def fold_image(history: History, event: Event) -> History:
    """That it is being fetched again changes nothing."""
    image = str(event.evidence.get("image", ""))
    others = {name: error for name, error in history.images.items() if name != image}
    match event.reason:
        case "fetched":
            return replace(history, images=others)
        case "not_fetched":
            error = str(event.evidence.get("error", ""))
            return replace(history, images={**others, image: error})
    return history


def _scaled(history: History, event: Event) -> History:
    known = history.assignments
    counts = {k: v for k, v in known.counts.items() if k != event.subject}
    counted = {k: v for k, v in known.counted.items() if k != event.subject}
    count = event.evidence.get("replicas")
    if isinstance(count, int) and not event.evidence.get("as_profile"):
        counts[event.subject] = count
        counted[event.subject] = str(event.evidence.get("profile", ""))
    return replace(history, assignments=replace(known, counts=counts, counted=counted))


def _failed_over(history: History, event: Event, record: IntentRecord) -> History:
    """Where nothing is told of where to, nothing is wanted of it any more."""
    failovers = {k: v for k, v in history.failovers.items() if k != event.subject}
    to = str(event.evidence.get("to", ""))
    if to:
        record = replace(record, profile=str(event.evidence.get("profile", "")))
        failovers[event.subject] = (record, to)
    return replace(history, failovers=failovers)


def fold_start(history: History, at: float) -> History:
    in_fault = history.host_fault_at is not None
    starts = (*history.host_fault_starts, at)[-memory.STARTS_KEPT :] if in_fault else ()
    return replace(history, last_start_at=at, host_fault_starts=starts)
