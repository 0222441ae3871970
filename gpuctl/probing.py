"""
Every running replica is asked how it is, each at its own pace, by a few threads.

What an answer makes of what is known is in `answers`. The sampler of probes is apart from the
others because it has many subjects; it writes on the same board.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from functools import partial

from gpuctl.answers import fold, occupied, patient, telling, warmed
from gpuctl.guarded import guarded
from gpuctl.model import (
    ContainerReading,
    EngineStats,
    Plan,
    ProbeReading,
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
        self._ready: Set[str] = frozenset()  # containers that were ready once
        self._threads = 0
        self._ended = False

    def follow(
        self, plan: Plan, running: Mapping[str, ContainerReading], ready: Set[str] = frozenset()
    ) -> None:
        """
        Take note of what runs now; called every tick, cheap when nothing changed.

        The containers *ready* were ready once: they are not warmed up again.
        """
        self._ready = ready
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
        result = self._prober.probe(patient(replica, container, self._latest.probes.get(name)))
        stats = None
        if result.metrics is not None:
            stats = self._stats[replica.engine](result.metrics)
        before = self._latest.probes.get(name)
        reading = fold(before, replica, container, result, stats, asked_at)
        reading = self._warm_up(reading, replica)
        reading = self._canary(reading, replica)
        if self._containers.get(name) != container:
            return  # it was replaced while it was asked
        self._latest.probes[name] = reading
        hurried = name in self._hurried
        self._hurried.discard(name)
        if hurried or telling(before, reading):
            self._wake(f"probe {name}")

    def _warm_up(self, reading: ProbeReading, replica: Replica) -> ProbeReading:
        """
        Have an engine that answers for the first time work, until it has answered enough.

        The first request pays for what an engine leaves until then: kernels that are compiled,
        buffers that are made. None waits longer than work in flight may stand still. One that is at
        work for others, as what was adopted may be, is left to that.
        """
        wanted, seconds = replica.probe.warmup_requests, replica.watchdog.stalled_seconds
        if reading.outcome != "ok" or reading.container in self._ready:
            return reading
        if reading.serves or occupied(reading, seconds):
            return reading
        while reading.warmed < wanted and self._containers.get(replica.name) == reading.container:
            self._latest.probes[replica.name] = reading  # it answers, while this goes on
            answered = self._prober.warm_up(replica.probe, seconds)
            reading = warmed(reading, answered, wanted, self._clock.boot_seconds())
            if answered.outcome != "ok":
                break
        return reading

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
