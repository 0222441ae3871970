"""
A host on which anything goes wrong in any order, and what holds all the same.

Hypothesis plays the host, the operator and the engine; the daemon is the real one, on fakes. Where
an example fails it is shrunk to the shortest story that does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gpuctl.daemon import Daemon
from gpuctl.errors import GpuctlError, RuntimeTimeout
from gpuctl.model import (
    ContainerReading,
    Event,
    EventKind,
    Evidence,
    Json,
    ProbeResult,
    WatchdogSettings,
)
from tests import make
from tests.stage import FAULTS, Killed, Stage, intend

REPLICAS = tuple(make.replica(name, gpus=()) for name in ("chat-0", "chat-1", "embed-0"))
PLAN = make.plan(*REPLICAS, watchdog=WatchdogSettings(canary_seconds=0.0))
PORTS = {replica.name: replica.spec.host_port for replica in REPLICAS}
#: The longest that a stop may take: the drain, the grace, and the ticks between.
STOP_SECONDS = 75.0
#: After faults end: the longest wait of a crash loop, host faults' holds, loads in turn.
CALM_SECONDS = 2400.0

#: What an engine may do after it was no longer waited for.
CALLS = ("rename", "create", "start", "remove")

STOPS = ("stop.terminate", "stop.kill.asked", "stop.remove")

names = st.sampled_from(sorted(PORTS))


class Host(Stage):
    """A Stage whose engine can go away in the middle of an action, or carry it out too late."""

    breaks = ""
    late = ""  # the next call of this name is not answered in time
    late_seconds = 0.0

    def born(self) -> Daemon:
        if not hasattr(self, "on_their_way"):
            self.on_their_way: list[tuple[float, Callable[[], Any]]] = []
            for name in CALLS:
                setattr(self.fakes.runtime, name, self._asked(name))
        return super().born()

    def arrive(self) -> None:
        """Have the calls take effect whose time has come."""
        now, calls = self.fakes.clock.seconds, self.on_their_way
        self.on_their_way = [(at, call) for at, call in calls if at > now]
        for at, call in calls:
            if at <= now:
                with suppress(GpuctlError):
                    call()

    def _asked(self, name: str) -> Callable[..., Any]:
        plain = getattr(self.fakes.runtime, name)

        def asked(*arguments: Any) -> Any:
            if name != self.late:
                return plain(*arguments)
            self.late = ""
            at = self.fakes.clock.seconds + self.late_seconds
            self.on_their_way.append((at, lambda: plain(*arguments)))
            raise RuntimeTimeout(f"no answer to {name}")

        return asked

    def _fault(self, step: str) -> None:
        if step == self.breaks:
            self.breaks = ""
            self.fakes.runtime.unreachable = True
        super()._fault(step)


def left_open(stage: Stage) -> set[Json]:
    """Return the attempts that the journal tells the beginning of and not the end."""
    told = stage.fakes.store.stored
    begun = {
        e.evidence["attempt"]
        for e in told
        if e.kind == "attempt" and e.evidence["action"] != "drain"
    }
    return begun - {e.evidence.get("attempt") for e in told if e.kind in ("done", "undone")}


class Story(RuleBasedStateMachine):
    """Everything that can happen to a host."""

    @initialize()
    def begin(self) -> None:
        self.host = Host(PLAN)
        self.seconds = 0.0  # that have passed
        self.told = 0  # events looked at
        self.starts: dict[str, list[float]] = {name: [] for name in PORTS}
        self.excused: set[str] = set()  # since the last outage
        self.unwanted_at: dict[str, float] = {}  # replica → stopped on purpose since
        self.go(10)

    def go(self, seconds: float, step: float = 2.0) -> None:
        """Let time pass, a daemon that dies born again at once."""
        end = self.seconds + seconds
        while self.seconds < end:
            self.host.arrive()
            self.look_twice()
            try:
                self.host.pass_()
            except Killed:
                self.host.born()
            self.look()
            self.host.fakes.clock.advance(step)
            self.seconds += step

    def look(self) -> None:
        """Check after each tick what must hold at any moment."""
        running = self.look_twice()
        for name, since in self.unwanted_at.items():
            if self.seconds - since > STOP_SECONDS and not self.hindered():
                assert name not in running, "a stopped replica runs"
        self.count()

    def look_twice(self) -> list[str]:
        """Return what runs: no replica twice."""
        running = [c.replica for c in self.containers() if c.state == "running"]
        assert len(running) == len(set(running)), "two containers of one replica run"
        return running

    def count(self) -> None:
        """Follow the starts that nobody asked for, and their budget."""
        stored = self.host.fakes.store.stored
        for event in stored[self.told :]:
            match event.kind:
                case EventKind.INTENT:
                    for name in self.concerned(event.subject):
                        self.starts[name].clear()
                case EventKind.FAILED if self.forgiven(event.evidence):
                    self.starts[event.subject].clear()
                    self.excuse(event)
                case EventKind.DONE if "spec_digest" in event.evidence:
                    self.starts[event.subject].append(self.seconds)
                case EventKind.UNDONE if "failures" in event.evidence:
                    self.starts[event.subject].append(self.seconds)
        self.told = len(stored)
        for times in self.starts.values():
            assert sum(at > self.seconds - 900 for at in times) <= 6, "starts in 15 minutes"
            assert sum(at > self.seconds - 3600 for at in times) <= 9, "starts in an hour"

    def excuse(self, event: Event) -> None:
        """An outage is the known cause of one death."""
        if not event.evidence["failures"]:
            assert event.subject not in self.excused, "excused twice"
            self.excused.add(event.subject)

    def forgiven(self, evidence: Evidence) -> bool:
        """A known cause, or ten minutes of ready time, begin a budget anew."""
        ready_seconds = evidence.get("ready_seconds", 0.0)
        assert isinstance(ready_seconds, float)
        return not evidence["failures"] or ready_seconds >= 600.0

    def containers(self) -> Iterator[ContainerReading]:
        yield from self.host.fakes.runtime.containers.values()

    def concerned(self, subject: str) -> Iterator[str]:
        return (r.name for r in REPLICAS if subject in ("", r.name, r.workload))

    def hindered(self) -> bool:
        return self.host.fakes.runtime.unreachable or self.host.fakes.store.full

    def interrupt(self) -> None:
        """Whatever keeps a stop from its end gives it its time again."""
        self.unwanted_at = dict.fromkeys(self.unwanted_at, self.seconds)

    @rule(seconds=st.sampled_from((1, 5, 30, 120, 700)))
    def time_passes(self, seconds: int) -> None:
        self.go(seconds)

    @rule(name=names, exit_code=st.sampled_from((0, 1, 137, 139)), times=st.sampled_from((1, 9)))
    def dies(self, name: str, exit_code: int, times: int) -> None:
        """A replica dies as soon as it runs, once or again and again."""
        for _ in range(times):
            for container in list(self.containers()):
                if container.replica == name and container.state == "running":
                    self.host.fakes.runtime.die(container.id, exit_code)
            self.go(4)

    @rule(name=names)
    def is_removed(self, name: str) -> None:
        """Another client removes what it finds."""
        held = self.host.fakes.runtime.containers
        self.host.fakes.runtime.containers = {
            id_: c for id_, c in held.items() if c.replica != name
        }

    @rule(name=names, outcome=st.sampled_from(("refused", "timeout", "loading", "ok")))
    def answers(self, name: str, outcome: str) -> None:
        """An engine stops answering, or answers again."""
        self.host.fakes.prober.answers.pop(PORTS[name], None)
        if outcome != "ok":
            self.host.fakes.prober.answers[PORTS[name]] = ProbeResult(outcome=outcome)  # type: ignore[arg-type]

    @rule()
    def images_are_removed(self) -> None:
        self.host.fakes.runtime.images.clear()

    @rule()
    def ignores_sigterm(self) -> None:
        self.host.fakes.runtime.deaf.update(self.host.fakes.runtime.containers)

    @rule()
    def cannot_be_removed(self) -> None:
        self.host.fakes.runtime.irremovable.update(self.host.fakes.runtime.containers)

    @rule(words=st.sampled_from(("", "port is taken")))
    def refuses(self, words: str) -> None:
        """The runtime refuses every start, or no longer."""
        self.host.fakes.runtime.refuses = words

    @rule(kills=st.booleans(), seconds=st.sampled_from((1, 20, 200)))
    def outage(self, kills: bool, seconds: int) -> None:
        """The engine goes away and comes back, its containers dead or not."""
        self.host.fakes.runtime.unreachable = True
        self.go(seconds)
        for container in list(self.containers()):
            if kills and container.state == "running":
                self.host.fakes.runtime.die(container.id, 137)
        self.mended()

    @rule(step=st.sampled_from(FAULTS), seconds=st.sampled_from((5, 60)))
    def breaks_off(self, step: str, seconds: int) -> None:
        """The engine goes away in the middle of the next start."""
        self.host.breaks = step
        self.go(seconds)
        self.mended()

    @rule(name=names, call=st.sampled_from(CALLS), seconds=st.integers(1, 16))
    def answers_too_late(self, name: str, call: str, seconds: int) -> None:
        """A replica dies, and the engine does a step of its start when nobody waits any more."""
        self.host.late, self.host.late_seconds = call, seconds
        self.dies(name, 1, 1)
        self.go(16, step=1.0)
        self.interrupt()

    @rule(step=st.sampled_from((*FAULTS, "fetch.begun", "fetch.done", *STOPS)))
    def daemon_will_die(self, step: str) -> None:
        """The daemon dies the next time it gets there."""
        self.host.fault = step

    @rule()
    def daemon_is_killed(self) -> None:
        self.host.born()

    @rule(seconds=st.sampled_from((3, 40)))
    def disk_is_full(self, seconds: int) -> None:
        self.host.fakes.store.full = True
        self.go(seconds)
        self.host.fakes.store.full = False
        self.interrupt()

    @rule(seconds=st.sampled_from((-7200.0, -60.0, 60.0, 3600.0)))
    def clock_is_stepped(self, seconds: float) -> None:
        self.host.fakes.clock.wall += seconds

    @rule(seconds=st.sampled_from((40.0, 400.0)))
    def sleeps(self, seconds: float) -> None:
        """The machine is suspended: time passes, and nobody ticks."""
        self.host.fakes.clock.advance(seconds)
        self.seconds += seconds
        self.interrupt()

    @rule()
    def reboots(self) -> None:
        """Everything dies, and another boot begins."""
        for container in list(self.containers()):
            if container.state == "running":
                self.host.fakes.runtime.die(container.id, 137)
        clock = self.host.fakes.clock
        clock.boot_id += "'"
        clock.wall += 30.0
        clock.seconds = 30.0
        self.excused.clear()
        self.host.on_their_way.clear()
        self.host.born()

    @rule(
        verb=st.sampled_from(("stop", "stop", "down", "run", "renew", "up")),
        subject=st.sampled_from((*sorted(PORTS), "chat", "")),
    )
    def operator(self, verb: str, subject: str) -> None:
        intend(self.host, verb, subject)
        for name in self.concerned(subject):
            if verb in ("run", "up"):
                self.unwanted_at.pop(name, None)
            elif verb != "renew":
                self.unwanted_at.setdefault(name, self.seconds)
        self.go(2)

    def mended(self) -> None:
        self.host.breaks = ""
        self.host.fakes.runtime.unreachable = False
        self.excused.clear()
        self.interrupt()

    @invariant()
    def nothing_runs_twice(self) -> None:
        self.look_twice()

    def teardown(self) -> None:
        """When nothing goes wrong any more, every replica is as it is wanted."""
        self.host.fault = self.host.late = ""
        self.mended()
        fakes = self.host.fakes
        fakes.runtime.refuses = ""
        fakes.runtime.deaf.clear()
        fakes.runtime.irremovable.clear()
        fakes.prober.answers.clear()
        self.go(CALM_SECONDS, step=5.0)
        found = {name: self.host.phase(name) for name in PORTS}
        assert found == {n: "stopped" if n in self.unwanted_at else "ready" for n in PORTS}
        assert left_open(self.host) == set()
        assert {c.name for c in self.containers()} <= {f"gpuctl-{name}" for name in PORTS}


Story.TestCase.settings = settings(
    derandomize=True,  # the same stories at every run
    max_examples=200 if os.environ.get("GPUCTL_SOAK") else 12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_whatever_happens = Story.TestCase
