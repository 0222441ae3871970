"""
What to do now: (Plan, Snapshot, Conditions, History) → Actions. PURE; the daemon calls it.

One decision per replica, on the first rung that applies:

 0. the runtime could not be read → nothing
 1. an attempt is under way → nothing; one that a daemon before us left open is taken up again.
    A start that was so cut off, and the fetching of an image, are withdrawn if not wanted any more
 2. a container was renamed aside → kill it if it still runs, remove it when it has ended; one
    that will not die keeps its replica from its GPUs, and from its port where that is not freed
 3. not wanted and not running → nothing; after a `down`, remove what is left
 4. not running, and something speaks against a start → nothing (`waiting` says what)
 5. not running → Start; one that found its image missing is followed by the fetching of it,
    which is no load and holds up none, and then decided on anew
 6. running as wanted, or paused (an operator's doing, and the condition says so) → nothing
 7. it must go and is not draining → Drain (at most one voluntary per workload), or straight to 8
 8. draining, and idle or past its deadline → Stop: terminate, then kill after the grace. What
    does not die on a GPU that its replica has left is put aside by the start elsewhere. What is
    paused and not wanted has nothing to drain; if SIGTERM does not resume it, it gets no grace

A container of a replica that is no longer in the plan goes the same way, and is then removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gpuctl.gates import StartGates, Wait
from gpuctl.history import Attempt, Failure, History, ReplicaHistory
from gpuctl.leftovers import (
    ALIVE,
    ASIDE_SECONDS,
    STUCK_SECONDS,
    apart,
    stop,
    stranger,
    too_soon,
    until_repeated,
    whats_aside,
)
from gpuctl.model import (
    Action,
    Condition,
    ContainerReading,
    Drain,
    GatewayReading,
    Plan,
    Replica,
    Snapshot,
    Start,
    Stop,
)
from gpuctl.wanted import desired, must_go, renewed_since

Conditions = Mapping[tuple[str, str], Condition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """An attempt that nobody waits for any more, to be closed as it is."""

    replica: str
    attempt: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    actions: tuple[Action, ...] = ()
    waits: Mapping[str, Wait]  # by replica
    withdrawn: tuple[Withdrawal, ...] = ()


def decide(
    plan: Plan, now: Snapshot, conditions: Conditions, history: History, instance: str
) -> Decision:
    """Return what to begin now, and what each replica that is not started waits for."""
    if now.runtime_boot_seconds is None or "runtime" in now.errors:  # 0
        return Decision(waits={r.name: Wait(reason="runtime_unread") for r in plan.replicas})
    return _Deciding(plan, now, conditions, history, instance).decide()


class _Deciding:
    """One tick's decision; what replicas must know of each other is counted along the way."""

    def __init__(
        self, plan: Plan, now: Snapshot, conditions: Conditions, history: History, instance: str
    ) -> None:
        self.plan, self.now, self.conditions = plan, now, conditions
        self.history, self.instance = history, instance
        self.waits: dict[str, Wait] = {}
        self.withdrawn: list[Withdrawal] = []
        self.gates = StartGates(plan, now, conditions, history)
        self.fetched = {
            known.missing_image
            for known in history.replicas.values()
            if known.attempt is not None
            and known.attempt.action == "fetch"
            and known.attempt.instance == instance
        }
        self.unsettled = {r.workload for r in plan.replicas if self._unsettled(r)}

    def decide(self) -> Decision:
        actions = [action for replica in self.plan.replicas for action in self._replica(replica)]
        planned = {replica.name for replica in self.plan.replicas}
        left_open = {n for n, history in self.history.replicas.items() if history.attempt}
        strangers = sorted({*self.now.owned, *self.now.aside, *left_open} - planned)
        actions += [action for name in strangers for action in self._stranger(name)]
        return Decision(actions=tuple(actions), waits=self.waits, withdrawn=tuple(self.withdrawn))

    def _replica(self, replica: Replica) -> Iterator[Action]:
        history = self.history.replica(replica.name)
        if history.attempt is not None:  # 1
            yield from self._under_way(replica.name, history.attempt)
            return
        aside = whats_aside(replica.name, self.plan, self.now, history)
        if aside is not None:  # 2
            yield aside
            return
        if too_soon(self.plan, self.now, history):
            repeated = Wait(reason="action_failed", until=until_repeated(self.plan, history))
            self.waits[replica.name] = self.gates.barred(replica) or repeated
            return
        container = self.now.own(replica.name)
        if container is None or container.state not in ALIVE:
            there = self.now.aside.get(replica.name, ())
            alive = [c for c in there if c.state in ALIVE and not apart(replica, c)]
            if alive:  # 2, and it would not die: never two of one replica
                self.waits[replica.name] = Wait(
                    reason="old_container_runs", evidence={"container": alive[0].id}
                )
                return
        if container is not None and container.state in ALIVE:
            yield from self._running(replica, container, history)
        elif not desired(self.history, replica, running=False):
            yield from self._left(replica, container, history)
        else:
            yield from self._start(replica, history)

    def _stranger(self, name: str) -> Iterator[Action]:
        history = self.history.replica(name)
        if history.attempt is not None:  # 1
            yield from self._under_way(name, history.attempt)
            return
        step = stranger(name, self.plan, self.now, history)
        # After the events were lost it may be one that `scale` added.
        kept = self.history.cautious and not self.history.wanted(name, name.rpartition("-")[0])
        if step is not None and (step.step != "terminate" or not kept):
            yield step

    def _under_way(self, name: str, attempt: Attempt) -> Iterator[Action]:
        left_open = attempt.instance != self.instance
        match attempt.action:
            case "fetch":
                self._fetching(name, attempt, left_open)
            case "start" if attempt.overtaken:  # on its way to where its replica is not any more
                self._withdraw(name, attempt, self._unwanted(name) or "moved")
            case _ if not left_open:
                return
            case "terminate" | "kill" | "remove" as step:
                yield Stop(
                    replica=name,
                    container=attempt.container,
                    reason=attempt.reason,
                    step=step,
                    attempt=attempt.id,
                )
            case _:
                unwanted = "" if self._happened(name, attempt) else self._unwanted(name)
                if unwanted:
                    self._withdraw(name, attempt, unwanted)
                    return
                yield Start(replica=name, reason=attempt.reason, attempt=attempt.id)

    def _fetching(self, name: str, attempt: Attempt, left_open: bool) -> None:
        """Wait for an image, unless nobody does any more or the daemon that fetched it ended."""
        image = self.history.replica(name).missing_image
        replica, container = self.plan.replica(name), self.now.own(name)
        unwanted = self._unwanted(name)
        if not unwanted and replica is not None and replica.spec.image != image:
            unwanted = "profile_changed"
        if not unwanted and container is not None and container.state in ALIVE:
            unwanted = "runs_already"
        if unwanted or left_open:
            self._withdraw(name, attempt, unwanted or "daemon_ended")
        else:
            self.waits[name] = Wait(reason="fetching_image", evidence={"image": image})

    def _happened(self, name: str, attempt: Attempt) -> bool:
        """True when a start runs: it is told as done, and what must go is stopped in its turn."""
        container = self.now.own(name)
        if self.plan.replica(name) is None or container is None:
            return False
        return container.state in ALIVE and container.attempt == attempt.id

    def _unwanted(self, name: str) -> str:
        """Return why a replica is not to be started, "" if it is."""
        replica = self.plan.replica(name)
        if replica is None:
            return "not_in_profile"
        if not desired(self.history, replica, running=False):
            intent = self.history.wanted(replica.name, replica.workload)
            if replica.surplus:
                return replica.surplus_because
            return intent.verb if intent is not None else "events_lost"
        wait = self.gates.avoids(replica)
        return wait.reason if wait is not None else ""

    def _withdraw(self, name: str, attempt: Attempt, reason: str) -> None:
        self.withdrawn.append(Withdrawal(replica=name, attempt=attempt.id, reason=reason))

    def _left(
        self, replica: Replica, container: ContainerReading | None, history: ReplicaHistory
    ) -> Iterator[Action]:
        """Rung 3: what a stopped replica leaves is kept for its log, unless it is to be gone."""
        intent = self.history.wanted(replica.name, replica.workload)
        down = intent is not None and intent.verb == "down"
        if container is None or container.state == "removed":
            return
        if down or replica.surplus:
            reason = "down" if down else replica.surplus_because
            yield stop(replica.name, container, reason, "remove")

    def _start(self, replica: Replica, history: ReplicaHistory) -> Iterator[Action]:
        image = replica.spec.image
        missing = bool(image) and history.missing_image == image  # a process has none
        wait = self.gates.barred(replica) if missing else self.gates.waiting(replica)  # 4
        if image in self.fetched:
            wait = Wait(reason="fetching_image", evidence={"image": image})
        if wait is not None:
            self.waits[replica.name] = wait
            return
        if missing:
            self.fetched.add(image)
        else:
            self.gates.began()
        start = self._begun(replica, history.failure)  # 5
        yield replace(start, step="fetch") if missing else start

    def _begun(self, replica: Replica, failure: Failure | None) -> Start:
        if failure is None or renewed_since(self.history, replica, failure.at):
            return Start(replica=replica.name, reason=self._wanted_because(replica))
        return Start(
            replica=replica.name,
            reason=failure.reason,
            restart=failure.count > 0,
            evidence=failure.evidence,
        )

    def _wanted_because(self, replica: Replica) -> str:
        intent = self.history.wanted(replica.name, replica.workload)
        renewal = self.history.renewed(replica.name, replica.workload)
        known = self.history.replica(replica.name)
        # An `up` is of all there is, and finds what has moved on its way.
        asked = [i for i in (intent, renewal) if i is not None and i.verb != "up"]
        asked_at = max((i.at for i in asked), default=0.0)
        if known.moved is not None and known.moved_at >= asked_at:
            return known.moved.reason
        if renewal is not None and (intent is None or renewal.order > intent.order):
            return "renew"
        return intent.verb if intent is not None else "wanted"

    def _running(
        self,
        replica: Replica,
        container: ContainerReading,
        history: ReplicaHistory,
    ) -> Iterator[Action]:
        paused = container.state == "paused"
        if history.container != container.id and not paused:
            return  # not adopted yet: the runtime is a reading ahead of the history
        if history.terminated_container == container.id:
            yield from self._killed(replica, container, history)  # 8
            return
        reason, voluntary = must_go(self.history, replica, container)
        if not reason or (paused and not voluntary):  # 6
            return
        if paused or not voluntary:
            yield stop(replica.name, container, reason, "terminate")  # 8, no time to lose
            return
        if history.draining_container == container.id:
            if self._drained(replica, history):
                yield stop(replica.name, container, reason, "terminate")  # 8
            return
        if reason not in ("stop", "down") and not replica.surplus:
            if replica.workload in self.unsettled:
                self.waits[replica.name] = Wait(reason="sibling_not_ready")
                return
            self.unsettled.add(replica.workload)
        yield Drain(  # 7
            replica=replica.name,
            container=container.id,
            reason=reason,
            deadline_seconds=self.plan.watchdog.drain_seconds,
        )

    def _drained(self, replica: Replica, history: ReplicaHistory) -> bool:
        if self.now.boot_seconds >= history.draining_at + history.draining_seconds:
            return True
        gateway = self.now.gateway
        if gateway is not None:
            if not self._seen(gateway, history):
                return False  # it may still send it requests
            through = gateway.replicas.get(replica.name)
            return through is None or through.in_flight == 0
        probe = self.now.probes.get(replica.name)
        if probe is None or probe.outcome != "ok" or probe.in_flight is None:
            return True
        return probe.in_flight == 0 and probe.boot_seconds >= history.draining_at

    def _seen(self, gateway: GatewayReading, history: ReplicaHistory) -> bool:
        """True when the gateway has seen a Status in which the replica drains."""
        if gateway.instance != self.instance:
            return False
        return history.draining_instance != self.instance or gateway.seq >= history.draining_seq

    def _killed(
        self, replica: Replica, container: ContainerReading, history: ReplicaHistory
    ) -> Iterator[Action]:
        failed = not must_go(self.history, replica, container)[1]
        settings = replica.watchdog
        grace = settings.failed_grace_seconds if failed else settings.stop_grace_seconds
        if container.state == "paused":
            grace = 0.0
        tried = history.killed_container == container.id
        until = history.closed_at + ASIDE_SECONDS if tried else history.terminated_at + grace
        if self.now.boot_seconds >= until:
            yield stop(replica.name, container, "grace_over", "kill")
        elif tried and self._moves_on(replica, container, history):
            yield from self._start(replica, history)

    def _moves_on(
        self, replica: Replica, container: ContainerReading, history: ReplicaHistory
    ) -> bool:
        """True when it need not wait for the death of a container that will not die."""
        stuck = self.now.boot_seconds >= history.closed_at + STUCK_SECONDS
        wanted = desired(self.history, replica, running=False)
        return stuck and wanted and apart(replica, container)

    def _unsettled(self, replica: Replica) -> bool:
        """True when a sibling's voluntary drain must wait for this one."""
        history = self.history.replica(replica.name)
        container = self.now.own(replica.name)
        if container is None or container.state != "running":
            return desired(self.history, replica, running=False)
        draining = history.draining_container == container.id
        return draining or history.ready_container != container.id
