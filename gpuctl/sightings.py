"""
The Xids reported → an Event for each that was not remembered yet. PURE; the daemon records them.

The log is read from before the daemon's start and again after each restart, NVML and the kernel
both tell of one error, and a broken card repeats itself: each burst is remembered once.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.history import History
from gpuctl.model import Event, EventKind, Evidence, Snapshot, Xid

#: What follows sooner belongs to the burst, as gpud merges kernel lines: an application that goes
#: on after a graphics exception (13) soon makes another, which counts.
_BURST_SECONDS = 180.0
_BURSTS = {13: 15.0}
_NEVER = float("-inf")


def sightings(now: Snapshot, history: History) -> tuple[Event, ...]:
    """
    Return an Event for each Xid that begins a burst, oldest first, at the time of the Xid.

    What is older than the first thing the history remembers was never looked at, and is not now. An
    Xid of a card whose bus id is not known yet waits until the GPUs were read, or could not be.
    """
    return tuple(_sightings(now, history))


def _sightings(now: Snapshot, history: History) -> Iterator[Event]:
    began = now.boot_seconds if history.began_at is None else history.began_at
    unread = now.gpus_boot_seconds is None and "gpus" not in now.errors
    heard: dict[tuple[str, int], float] = {}  # until when, by subject and number
    for xid in now.xids:
        if xid.boot_seconds < began or (unread and not xid.gpu):
            continue
        key = (xid.gpu or xid.pci_bus_id or "host", xid.number)
        if xid.boot_seconds > heard.setdefault(key, _heard_until(history, xid)):
            heard[key] = xid.boot_seconds + _burst_seconds(xid.number)
            yield _event(now, xid, key[0])


def _heard_until(history: History, xid: Xid) -> float:
    """Return until when Xids of this number on this GPU are remembered, in boot seconds."""
    # Before its bus id was known as its, one was remembered by that.
    records = (*history.gpu(xid.gpu).xids, *history.gpu(xid.pci_bus_id or "").xids)
    # Those of an earlier boot are over, however soon the host was up again.
    same = (each.at for each in records if each.number == xid.number and each.at > 0.0)
    return max(same, default=_NEVER) + _burst_seconds(xid.number)


def _burst_seconds(number: int) -> float:
    return _BURSTS.get(number, _BURST_SECONDS)


def _event(now: Snapshot, xid: Xid, subject: str) -> Event:
    return Event(
        kind=EventKind.XID,
        subject=subject,
        reason=str(xid.number),
        evidence=_evidence(now, xid),
        at=xid.at,
        boot_id=now.boot_id,
        boot_seconds=xid.boot_seconds,
    )


def _evidence(now: Snapshot, xid: Xid) -> Evidence:
    """Return what is known of it, whose process it names included, as long as that is known."""
    reading = now.gpus.get(xid.gpu)
    processes = (reading.processes or ()) if reading is not None else ()
    holder = next((each for each in processes if each.pid == xid.pid), None)
    return {
        "source": xid.source,
        "message": xid.message,
        "pid": xid.pid,
        "process": holder.name if holder is not None else None,
        "container": holder.container if holder is not None else None,
        "pci_bus_id": xid.pci_bus_id,
    }
