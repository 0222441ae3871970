"""
What speaks against a start: back-off, a failing host, VRAM not let go of, other loads. PURE.

`decide` asks for each replica in turn and tells when it starts one, so that a tick's own starts
count as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuctl.avoidance import Conditions, avoided, unusable
from gpuctl.history import History, ReplicaHistory
from gpuctl.model import Evidence, Plan, Replica, Snapshot
from gpuctl.wanted import renewed_since


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a replica that should run is not started now; *until* is in boot seconds if known."""

    reason: str
    until: float | None = None
    evidence: Evidence | None = None


class StartGates:
    """The gates of one tick."""

    def __init__(self, plan: Plan, now: Snapshot, conditions: Conditions, history: History) -> None:
        self.plan, self.now, self.history = plan, now, history
        self.loading = sum(self._loads(replica) for replica in plan.replicas)
        self.last_start_at = history.last_start_at
        self.fault_starts = history.host_fault_starts
        self.avoided = avoided(conditions, now.boot_seconds)
        self.driver_unusable = unusable(conditions) is not None

    def began(self) -> None:
        """Count a start that this tick begins."""
        self.loading += 1
        self.last_start_at = self.now.boot_seconds
        if self.history.host_fault_at is not None:
            self.fault_starts = (*self.fault_starts, self.now.boot_seconds)

    def waiting(self, replica: Replica) -> Wait | None:
        """Return the first gate that is closed to a start of this replica."""
        history = self.history.replica(replica.name)
        return self.barred(replica) or self._vram_held(replica, history) or self._stagger()

    def barred(self, replica: Replica) -> Wait | None:
        """Return the first gate that is closed to anything done for it: it need load nothing."""
        history = self.history.replica(replica.name)
        return (
            self.avoids(replica)
            or self._driver(replica)
            or self._back_off(replica, history)
            or self._host_fault()
        )

    def avoids(self, replica: Replica) -> Wait | None:
        """Return the wait for a GPU of the replica that nothing must be started on."""
        for gpu in replica.gpus:
            cordon = self.history.gpu(gpu.uuid).cordon
            if gpu.uuid in self.avoided:
                told: Evidence = {"gpu": gpu.uuid, "because": self.avoided[gpu.uuid]}
                return Wait(reason="gpu_avoided", evidence=told)
            if cordon is not None:
                told = {"gpu": gpu.uuid, "because": cordon.reason}
                return Wait(reason="gpu_cordoned", evidence=told)
        return None

    def _driver(self, replica: Replica) -> Wait | None:
        """What is started now would find no GPU; what runs has its own open."""
        held = self.driver_unusable and replica.gpus
        return Wait(reason="driver_unusable") if held else None

    def _back_off(self, replica: Replica, history: ReplicaHistory) -> Wait | None:
        failure = history.failure
        if (
            failure is None
            or failure.count == 0
            or renewed_since(self.history, replica, failure.at)
        ):
            return None
        settings = replica.watchdog
        steps = settings.backoff_seconds
        loops = failure.count > len(steps)
        until = failure.at + (settings.crash_loop_seconds if loops else steps[failure.count - 1])
        if self.now.boot_seconds >= until:
            return None
        return Wait(
            reason="crash_loop" if loops else "backoff",
            until=until,
            evidence={"failures": failure.count, "after": failure.reason},
        )

    def _host_fault(self) -> Wait | None:
        since = self.history.host_fault_at
        if since is None:
            return None
        holds = self.plan.watchdog.host_fault_hold_seconds
        hold = holds[min(len(self.fault_starts), len(holds) - 1)]
        until = max((since, *self.fault_starts[-1:])) + hold
        return Wait(reason="host_fault", until=until) if self.now.boot_seconds < until else None

    def _vram_held(self, replica: Replica, history: ReplicaHistory) -> Wait | None:
        """The old process must have let go of its VRAM, and the GPUs must have been read since."""
        if "gpus" in self.now.errors or not replica.gpus or not history.container:
            return None
        old = self.now.own(replica.name)
        if old is not None and old.gpus and not {gpu.uuid for gpu in replica.gpus} & {*old.gpus}:
            return None  # it was elsewhere
        gone_at = max(history.failure.at if history.failure else 0.0, history.closed_at)
        until = gone_at + replica.watchdog.vram_release_seconds
        open_until = until if self.now.boot_seconds < until else None
        for planned in replica.gpus:
            gpu = self.now.gpus.get(planned.uuid)
            for process in (gpu.processes or ()) if gpu is not None else ():
                if process.container == history.container:
                    return Wait(
                        reason="vram_held",
                        until=open_until,
                        evidence={
                            "gpu": planned.uuid,
                            "pid": process.pid,
                            "process": process.name or "",
                            "vram_bytes": process.used_bytes,
                        },
                    )
        read_at = self.now.gpus_boot_seconds
        if open_until is not None and read_at is not None and read_at < gone_at:
            return Wait(reason="vram_held", until=open_until, evidence={"read_at": read_at})
        return None

    def _stagger(self) -> Wait | None:
        settings = self.plan.watchdog
        if settings.loads_at_once and self.loading >= settings.loads_at_once:
            return Wait(reason="load_slots_taken")
        if self.last_start_at is None:
            return None
        until = self.last_start_at + settings.load_spacing_seconds
        return Wait(reason="load_spacing", until=until) if self.now.boot_seconds < until else None

    def _loads(self, replica: Replica) -> bool:
        """True while a start is under way or its container has not become ready."""
        history = self.history.replica(replica.name)
        if history.attempt is not None:
            return history.attempt.action == "start"
        container = self.now.own(replica.name)
        if container is None or container.state != "running":
            return False
        return history.ready_container != container.id
