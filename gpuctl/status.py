"""One tick folded into the Status document: what the world may see. PURE; the daemon publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gpuctl import gpu_status
from gpuctl.avoidance import cordons
from gpuctl.gates import Wait
from gpuctl.history import History, ReplicaHistory
from gpuctl.model import (
    Condition,
    ContainerReading,
    GatewaySettings,
    Plan,
    Replica,
    Snapshot,
)
from gpuctl.model.status import (
    ConditionStatus,
    DaemonStatus,
    Phase,
    ReplicaStatus,
    Status,
)
from gpuctl.peaks import Peaks
from gpuctl.routes import Sight, routes
from gpuctl.trends import Trends
from gpuctl.wanted import desired, outdated, placed

Conditions = Mapping[tuple[str, str], Condition]

HOUR = 3600.0
DAY = 24 * HOUR
_NO_TRENDS = Trends()
_NO_PEAKS = Peaks(since=0.0)
_WAITING: dict[str, Phase] = {
    "backoff": "backoff",
    "crash_loop": "backoff",
    "action_failed": "backoff",
    "host_fault": "backoff",
    "gpu_avoided": "failed",
    "gpu_cordoned": "failed",
    "driver_unusable": "failed",
}
_CHECKS_OF_A_REPLICA = (
    *("stopped", "vram", "health", "stalled"),
    *("xid", "gpu_in_container", "vram_creep"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What of a Status does not come from the tick."""

    seq: int
    instance: str
    last_event: int
    simulated: bool
    daemon: DaemonStatus
    gateway: GatewaySettings | None


def status(
    plan: Plan,
    now: Snapshot,
    conditions: Conditions,
    history: History,
    waits: Mapping[str, Wait],
    before: Status | None,
    header: Header,
    trends: Trends = _NO_TRENDS,
    peaks: Peaks = _NO_PEAKS,
) -> Status:
    """Return the document of this tick; *before* tells since when a phase has held."""
    known = {row["name"]: row for row in before["replicas"]} if before else {}
    fold = _Fold(plan, now, conditions, history, waits)
    rows = [fold.row(replica, known.get(replica.name)) for replica in plan.replicas]
    sight = Sight(now=now, conditions=conditions, history=history, trends=trends)
    return Status(
        schema=1,
        at=now.at,
        profile=plan.profile,
        seq=header.seq,
        instance=header.instance,
        last_event=header.last_event,
        mode=plan.watchdog.mode,
        simulated=header.simulated,
        daemon=header.daemon,
        replicas=rows,
        gpus=gpu_status.gpus(plan, now, cordons(history), history, trends, peaks),
        conditions=[
            _condition(condition)
            for condition in conditions.values()
            if condition.verdict.state != "ok"
        ],
        gateway=_gateway(header.gateway),
        routes=routes(plan, rows, sight),
        warnings=list(plan.warnings),
        leftovers=_leftovers(plan, now, history),
    )


class _Fold:
    """The phase of each replica, and what belongs to it."""

    def __init__(
        self,
        plan: Plan,
        now: Snapshot,
        conditions: Conditions,
        history: History,
        waits: Mapping[str, Wait],
    ) -> None:
        self.now, self.conditions, self.history, self.waits = now, conditions, history, waits
        self.indexes = {gpu.uuid: gpu.index for gpu in plan.gpus}

    def row(self, replica: Replica, before: ReplicaStatus | None) -> ReplicaStatus:
        history = self.history.replica(replica.name)
        container = self.now.own(replica.name)
        running = container is not None and container.state in ("running", "paused")
        phase, reason = self.phase(replica)
        wait = self.waits.get(replica.name)
        uuids = tuple(gpu.uuid for gpu in replica.gpus)
        if container is not None and running:
            uuids = placed(container, replica)
        if wait is not None and wait.reason.startswith("observe_only"):
            reason = wait.reason  # of what serves as well: there is no other place to say it
        boot = self.now.boot_seconds
        return ReplicaStatus(
            name=replica.name,
            workload=replica.workload,
            engine=replica.engine,
            phase=phase,
            gpus=[{"index": self.indexes.get(uuid, -1), "uuid": uuid} for uuid in uuids],
            port=replica.spec.host_port,
            container=container.id if container is not None and running else None,
            since=self._since(phase, before, history),
            restarts_1h=sum(at > boot - HOUR for at in history.restarts),
            restarts_24h=sum(at > boot - DAY for at in history.restarts),
            reason=reason,
            next_attempt_at=self._wall(wait.until) if wait is not None else None,
            in_flight=self._in_flight(replica) if running else None,
            memory_bytes=container.memory_bytes if container is not None and running else None,
            vram_bytes=self.now.vram_bytes(container, uuids)
            if container is not None and running and uuids
            else None,
            outdated=running and outdated(replica, container, history),
            moved=_moved(replica, container if running else None, history),
            on_cpu=replica.on_cpu or (running and not uuids and bool(replica.gpus)),
            stage=self._stage(replica.name, container) if phase == "loading" else None,
        )

    def _stage(self, name: str, container: ContainerReading | None) -> str | None:
        load = self.now.loads.get(name)
        if load is None or container is None or load.container != container.id:
            return None
        return load.stage or None

    def _since(
        self, phase: Phase, before: ReplicaStatus | None, history: ReplicaHistory
    ) -> float | None:
        if before is not None and before["phase"] == phase:
            return before["since"]
        if before is None and phase == "ready":
            return self._wall(history.ready_at)  # a new daemon, not a new replica
        return self.now.at

    def phase(self, replica: Replica) -> tuple[Phase, str]:
        """Return the phase and why ("" where there is nothing to say)."""
        history = self.history.replica(replica.name)
        container = self.now.own(replica.name)
        running = container is not None and container.state in ("running", "paused")
        if container is None or not running:
            return self._down(replica, history)
        if history.draining_container == container.id:
            return "draining", self._draining_because(history)
        if history.terminated_container == container.id:
            return "draining", self._draining_because(history)
        if history.ready_container != container.id:
            bad = self._worst(replica)
            return "loading", bad
        bad = self._worst(replica)
        if bad:
            return "degraded", bad
        busy = (self._in_flight(replica) or 0) >= replica.slots
        return ("busy" if busy else "ready"), ""

    def _down(self, replica: Replica, history: ReplicaHistory) -> tuple[Phase, str]:
        if not desired(self.history, replica, running=False):
            if replica.surplus:
                return "stopped", replica.surplus_because
            intent = self.history.wanted(replica.name, replica.workload)
            return "stopped", intent.verb if intent is not None else "events_lost"
        if history.attempt is not None and history.attempt.action == "start":
            return "pending", history.attempt.reason
        wait = self.waits.get(replica.name)
        if wait is None:
            return "pending", history.failure.reason if history.failure is not None else ""
        phase: Phase = _WAITING.get(wait.reason, "pending")
        failure = history.failure
        if wait.reason in ("backoff", "crash_loop", "action_failed") and failure is not None:
            loop = wait.reason == "crash_loop"
            return phase, f"crash_loop: {failure.reason}" if loop else failure.reason
        return phase, wait.reason

    def _draining_because(self, history: ReplicaHistory) -> str:
        if history.failure is not None and history.failure.container == history.container:
            return history.failure.reason
        if history.moved is not None:
            return history.moved.reason
        return history.attempt.reason if history.attempt is not None else "stopping"

    def _worst(self, replica: Replica) -> str:
        """Return the reason of the first condition that takes it out of order."""
        for check in _CHECKS_OF_A_REPLICA:
            condition = self.conditions.get((check, replica.name))
            if condition is not None and condition.verdict.state in ("degraded", "failed"):
                return condition.verdict.reason
        elsewhere = self.conditions.get(("placement", replica.name))
        if elsewhere is not None and elsewhere.verdict.reason == "on_cpu":
            return "on_cpu"
        return ""

    def _in_flight(self, replica: Replica) -> int | None:
        gateway = self.now.gateway
        if gateway is not None and replica.name in gateway.replicas:
            return gateway.replicas[replica.name].in_flight
        probe = self.now.probes.get(replica.name)
        return probe.in_flight if probe is not None else None

    def _wall(self, boot_seconds: float | None) -> float | None:
        if boot_seconds is None:
            return None
        return self.now.at + boot_seconds - self.now.boot_seconds


def _moved(replica: Replica, container: ContainerReading | None, history: ReplicaHistory) -> str:
    """Return why it is not where the profile puts it; on its way back, it is not there yet."""
    if replica.moved is not None:
        return replica.moved.reason
    going = container is not None and container.digest != replica.digest
    return history.moved.reason if going and history.moved is not None else ""


def _leftovers(plan: Plan, now: Snapshot, history: History) -> list[str] | None:
    if now.runtime_boot_seconds is None or "runtime" in now.errors:
        return None
    kept = {replica.name for replica in plan.replicas if not _taken_down(replica, history)}
    owned = [c for name, c in now.owned.items() if name not in kept and c.state != "removed"]
    aside = [container for there in now.aside.values() for container in there]
    return sorted(container.name for container in (*owned, *aside))


def _taken_down(replica: Replica, history: History) -> bool:
    intent = history.wanted(replica.name, replica.workload)
    return intent is not None and intent.verb == "down"


def _condition(condition: Condition) -> ConditionStatus:
    verdict = condition.verdict
    return ConditionStatus(
        check=verdict.check,
        subject=verdict.subject,
        state=verdict.state,
        reason=verdict.reason,
        since=condition.since,
        evidence=dict(verdict.evidence),
    )


def _gateway(settings: GatewaySettings | None) -> dict[str, Any] | None:
    return None if settings is None else asdict(settings)
