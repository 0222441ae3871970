"""The Status of each tick, numbered and published; the daemon calls it at a tick's end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping

import gpuctl
from gpuctl.gates import Wait
from gpuctl.journal import Journal
from gpuctl.judge import Conditions
from gpuctl.model import GatewaySettings, Plan, Snapshot
from gpuctl.model.status import DaemonStatus, Status
from gpuctl.peaks import Peaks
from gpuctl.ports import World
from gpuctl.status import Header, status
from gpuctl.trends import Trends


class Publisher:
    """One daemon's Status; *simulated* is told with each."""

    def __init__(self, world: World, journal: Journal, instance: str, *, simulated: bool) -> None:
        self._store, self._journal = world.store, journal
        self._instance, self._simulated = instance, simulated
        self._started_at = world.clock.now()
        self.seq = 0  # of the last one, published or not
        self.last: Status | None = None  # that was published

    def publish(
        self,
        plan: Plan,
        gateway: GatewaySettings | None,
        now: Snapshot,
        conditions: Conditions,
        waits: Mapping[str, Wait],
        trends: Trends,
        peaks: Peaks,
        began: float,
    ) -> None:
        """
        Publish what a tick that *began* then (performance counter, seconds) has come to.

        Raises:
            StoreError: it could not be written.
        """
        self.seq += 1
        header = Header(
            seq=self.seq,
            instance=self._instance,
            last_event=self._journal.last_event,
            simulated=self._simulated,
            daemon=DaemonStatus(
                pid=os.getpid(),
                version=gpuctl.__version__,
                tick_seconds=round(time.perf_counter() - began, 6),
                started_at=self._started_at,
                interval_seconds=plan.watchdog.interval_seconds,
            ),
            gateway=gateway,
        )
        history = self._journal.history
        document = status(plan, now, conditions, history, waits, self.last, header, trends, peaks)
        self._put(document)
        self.last = document

    def stopping(self) -> None:
        """Publish the last Status again, as that of a daemon that ends. Raises `StoreError`."""
        if self.last is not None:
            self._put({**self.last, "stopping": True})

    def _put(self, document: Status) -> None:
        self._store.publish(json.dumps(document, separators=(",", ":"), default=dict))
