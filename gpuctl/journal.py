"""
The Events as they happen: stored, remembered and logged, in this order.

Whatever the daemon decides on has gone through here first.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from gpuctl.history import History, fold, remember
from gpuctl.model import Event, EventKind, Evidence
from gpuctl.ports import Clock, Store

log = logging.getLogger("gpuctl")


class Journal:
    """The store of a running daemon, with the history folded from it."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        newest = store.events(limit=1)
        self.last_event = newest[-1].id if newest else 0  # the newest one's id
        self.history: History = remember(
            store.remembered(),
            boot_id=clock.boot_id,
            boot_seconds=clock.boot_seconds(),
            now=clock.now(),
            cautious=store.cautious,
        )

    def event(self, kind: EventKind, subject: str, reason: str, evidence: Evidence) -> Event:
        """Return an Event of this moment, not yet recorded."""
        return Event(
            kind=kind,
            subject=subject,
            reason=reason,
            evidence=evidence,
            at=self._clock.now(),
            boot_id=self._clock.boot_id,
            boot_seconds=self._clock.boot_seconds(),
        )

    def record(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events in one transaction, then remember and log them; return them with ids."""
        if not events:
            return ()
        stored = self._store.append(events)
        self.last_event = stored[-1].id
        for event in stored:
            self.history = fold(self.history, event)
            log.info(
                "event=%s subject=%s reason=%s%s",
                event.kind,
                event.subject or "all",
                json.dumps(event.reason),
                _brief(event.evidence),
            )
        return stored


def _brief(evidence: Evidence) -> str:
    """Return evidence as ` name=value` words; a container's log is left to `gpuctl why`."""
    return "".join(
        f" {name}={json.dumps(value, default=dict)}"
        for name, value in evidence.items()
        if name != "log"
    )
