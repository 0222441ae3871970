"""
Every running replica is asked how it is, each at its own pace, by a few threads.

`fold` is the pure part: one answer more on what is known of a replica. The sampler of probes is
apart from the others because it has many subjects; it writes on the same board.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from gpuctl.guarded import guarded
from gpuctl.model import (
    ContainerReading,
    EngineStats,
    Plan,
    ProbeReading,
    ProbeResult,
    Replica,
)
from gpuctl.observe import Latest
from gpuctl.ports import Clock, Prober

Wake = Callable[[str], None]
Stats = Callable[[str], EngineStats]

#: A probe a little more often than a tick, so that a tick finds a fresh one.
_PACE_RATIO = 0.8
#: Until it is ready a replica is asked this often: an operator watches the progress bar.
_LOADING_SECONDS = 1.0
#: Threads that probe: one that waits for a hung replica must not delay the others.
_THREADS = 32


def fold(
    before: ProbeReading | None,
    replica: Replica,
    container: str,
    result: ProbeResult,
    stats: EngineStats | None,
    asked_at: float,
) -> ProbeReading:
    """
    Return what is known of a replica after one answer more; *asked_at* is in boot seconds.

    A new container, or a long gap, starts afresh.
    """
    before = _same_life(before, replica, container, asked_at)
    in_flight = _in_flight(stats, before)
    moved = _moved(stats, before)
    idle = in_flight == 0 and stats is not None
    still_since = before.moving_at if before is not None else asked_at
    return ProbeReading(
        replica=replica.name,
        container=container,
        outcome=result.outcome,
        status=result.status,
        latency_seconds=result.latency_seconds,
        detail=result.detail,
        stats=_kept(stats, before),
        stats_at=asked_at if stats is not None else (before.stats_at if before else None),
        stats_late=result.metrics_late,
        in_flight=in_flight,
        moving_at=asked_at if moved or idle or before is None else still_since,
        progress_at=asked_at if moved else (before.progress_at if before else None),
        slowest_seconds=_slowest(before, moved, asked_at),
        canary=before.canary if before else None,
        canary_at=before.canary_at if before else asked_at,  # a fresh start counts as asked
        canary_failures=before.canary_failures if before else 0,
        boot_seconds=asked_at,
    )


def _same_life(
    before: ProbeReading | None, replica: Replica, container: str, asked_at: float
) -> ProbeReading | None:
    """Return what was known before, `None` of another container or from before a long gap."""
    if before is None or before.container != container:
        return None
    gap = replica.watchdog.tick_gap_seconds + replica.probe.timeout_seconds
    return before if asked_at - before.boot_seconds <= gap else None


def _slowest(before: ProbeReading | None, moved: bool, asked_at: float) -> float:
    """Return the longest standstill under load that ended by itself, in seconds."""
    if before is None:
        return 0.0
    if moved and before.in_flight:
        return max(before.slowest_seconds, asked_at - before.moving_at)
    return before.slowest_seconds


def _in_flight(stats: EngineStats | None, before: ProbeReading | None) -> int | None:
    if stats is not None and stats.running is not None:
        return stats.running + (stats.waiting or 0)
    return before.in_flight if before is not None else None


def _moved(stats: EngineStats | None, before: ProbeReading | None) -> bool:
    if stats is None or stats.progress is None:
        return False
    known = before.stats.progress if before is not None and before.stats is not None else None
    return known is not None and stats.progress != known


def _kept(stats: EngineStats | None, before: ProbeReading | None) -> EngineStats | None:
    """Metrics that could not be read this time leave the last ones standing."""
    if stats is None and before is not None:
        return before.stats
    return stats


class ProbeSource:
    """Asks every replica of the plan whose container runs."""

    def __init__(
        self,
        prober: Prober,
        clock: Clock,
        latest: Latest,
        wake: Wake,
        stats: Mapping[str, Stats],
    ) -> None:
        self._prober, self._clock, self._latest, self._wake = prober, clock, latest, wake
        self._stats = stats  # engine → its reader of metrics
        self._replicas: dict[str, Replica] = {}
        self._containers: dict[str, str] = {}  # replica → the container a probe is due for
        self._due: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._hurried: set[str] = set()
        self._threads = 0
        self._ended = False

    def follow(self, plan: Plan, running: Mapping[str, ContainerReading]) -> None:
        """Take note of what runs now; called every tick, cheap when nothing changed."""
        containers = {
            replica.name: running[replica.name].id
            for replica in plan.replicas
            if replica.name in running and running[replica.name].state == "running"
        }
        with self._changed:
            self._replicas = {replica.name: replica for replica in plan.replicas}
            fresh = {n for n, id_ in containers.items() if self._containers.get(n) != id_}
            self._containers = containers
            if not fresh:
                return
            now = self._clock.boot_seconds()
            self._due = [(at, name) for at, name in self._due if name not in fresh]
            self._due.extend((now, name) for name in fresh)
            heapq.heapify(self._due)
            self._changed.notify_all()

    def hurry(self, name: str) -> None:
        """Ask one replica now, and wake the loop with its answer whatever that is."""
        with self._changed:
            if name not in self._containers:
                return
            self._hurried.add(name)
            self._due = [(at, other) for at, other in self._due if other != name]
            heapq.heapify(self._due)
            heapq.heappush(self._due, (self._clock.boot_seconds(), name))
            self._changed.notify_all()

    def begin(self) -> None:
        """Start asking; threads are added as replicas are, up to a few dozen."""
        threading.Thread(target=self._run, name="probe-0", daemon=True).start()
        self._threads = 1

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def sample(self) -> None:
        """Ask every replica once, in order; for a host without threads of its own."""
        for name in list(self._containers):
            self._ask(name)

    def _run(self) -> None:
        while True:
            with self._changed:
                name = self._next()
            if name is None:
                return
            guarded(f"probe {name}", partial(self._ask, name))
            with self._changed:
                self._put_back(name)

    def _put_back(self, name: str) -> None:
        """Queue a replica that was asked, unless it was restarted or hurried in the meantime."""
        replica = self._replicas.get(name)
        if name not in self._containers or replica is None:
            return
        if any(name == other for _, other in self._due):
            return
        heapq.heappush(self._due, (self._clock.boot_seconds() + self._pause(replica), name))
        self._changed.notify()

    def _next(self) -> str | None:
        """Return the replica to ask now, `None` at the end; waits with the lock let go."""
        while not self._ended:
            if not self._due:
                self._changed.wait()
                continue
            wait = self._due[0][0] - self._clock.boot_seconds()
            if wait > 0:
                self._changed.wait(wait)
                continue
            _, name = heapq.heappop(self._due)
            if name in self._containers:
                self._hire()
                return name
        return None

    def _hire(self) -> None:
        """One thread more than there are replicas: the answer of one that went may be out."""
        if self._threads < min(_THREADS, len(self._containers) + 1):
            name = f"probe-{self._threads}"
            self._threads += 1
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def _pause(self, replica: Replica) -> float:
        """From the end of one probe to the next, in seconds."""
        interval = replica.probe.interval_seconds * _PACE_RATIO
        reading = self._latest.probes.get(replica.name)
        if reading is None or reading.outcome == "ok":
            return interval
        if reading.outcome == "timeout":
            return max(0.0, interval - reading.latency_seconds)
        return min(_LOADING_SECONDS, interval)

    def _ask(self, name: str) -> None:
        container, replica = self._containers.get(name), self._replicas.get(name)
        if container is None or replica is None:
            return
        asked_at = self._clock.boot_seconds()
        result = self._prober.probe(replica.probe)
        stats = None
        if result.metrics is not None:
            stats = self._stats[replica.engine](result.metrics)
        before = self._latest.probes.get(name)
        reading = fold(before, replica, container, result, stats, asked_at)
        reading = self._canary(reading, replica)
        if self._containers.get(name) != container:
            return  # it was replaced while it was asked
        self._latest.probes[name] = reading
        hurried = name in self._hurried
        self._hurried.discard(name)
        if hurried or _telling(before, reading):
            self._wake(f"probe {name}")

    def _canary(self, reading: ProbeReading, replica: Replica) -> ProbeReading:
        """Ask an engine that has been idle for a while for one token."""
        seconds = replica.watchdog.canary_seconds
        if replica.probe.canary_path is None or seconds <= 0 or reading.outcome != "ok":
            return reading
        if reading.in_flight != 0 or (reading.stats is not None and reading.stats.sleeping):
            return reading
        now = reading.boot_seconds
        seen = max(reading.canary_at or 0.0, reading.progress_at or 0.0)
        if now - seen < seconds:
            return reading
        good = self._prober.canary(replica.probe)
        return replace(
            reading,
            canary=good,
            canary_at=self._clock.boot_seconds(),
            canary_failures=reading.canary_failures + 1 if good is False else 0,
        )


def _telling(before: ProbeReading | None, now: ProbeReading) -> bool:
    """True when the loop should look at once: a change, or one failure more."""
    if before is None or before.container != now.container or before.outcome != now.outcome:
        return True
    return now.outcome not in ("ok", "loading") or now.canary_failures > before.canary_failures
