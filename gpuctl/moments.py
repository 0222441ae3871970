"""An Event of the moment that a Snapshot was taken. PURE; the stages that tell what happened."""

from __future__ import annotations

from gpuctl.model import Event, EventKind, Evidence, Snapshot


def event(now: Snapshot, kind: EventKind, subject: str, reason: str, evidence: Evidence) -> Event:
    """Return an Event of this moment, not yet recorded."""
    return Event(
        kind=kind,
        subject=subject,
        reason=reason,
        evidence=evidence,
        at=now.at,
        boot_id=now.boot_id,
        boot_seconds=now.boot_seconds,
    )
