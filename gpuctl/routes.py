"""
The routes of the Status document: which replicas a gateway may send requests to, and how. PURE.

In: the tick's replicas with their phases. Out: one route for each workload; `status` publishes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuctl.heat import LEVELS
from gpuctl.history import History
from gpuctl.model import Condition, Plan, Replica, Snapshot
from gpuctl.model.status import ReplicaStatus, Route, RouteReplica
from gpuctl.trends import Trends
from gpuctl.wanted import desired

#: Weight of a replica that serves but not as it should.
_DEGRADED_WEIGHT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What of a tick the routes are made from."""

    now: Snapshot
    conditions: Mapping[tuple[str, str], Condition]
    history: History
    trends: Trends


def routes(plan: Plan, rows: list[ReplicaStatus], sight: Sight) -> list[Route]:
    """Return a route for each workload; *rows* are the plan's replicas, in its order."""
    found: dict[str, Route] = {}
    for replica, row in zip(plan.replicas, rows, strict=True):
        route = found.setdefault(
            replica.workload,
            Route(
                workload=replica.workload,
                model=replica.model,
                aliases=list(replica.aliases),
                kind=replica.kind,
                replicas=[],
            ),
        )
        route["replicas"].append(_replica(replica, row, sight))
    return list(found.values())


def _replica(replica: Replica, row: ReplicaStatus, sight: Sight) -> RouteReplica:
    phase = row["phase"]
    draining = phase == "draining"
    probe = sight.now.probes.get(replica.name)
    stats = probe.stats if probe is not None else None
    ready = _routable(replica, row, sight)
    return RouteReplica(
        name=replica.name,
        container=row["container"],
        address=f"{replica.probe.host}:{replica.spec.host_port}",
        slots=replica.slots,
        weight=_weight(replica, row, sight.trends),
        state="ready" if ready else "draining" if draining else "down",
        drain_deadline=_drain_deadline(replica, sight) if draining else None,
        kv_ratio=stats.kv_ratio if stats is not None else None,
        key_file=replica.probe.key_file,
        engine=replica.engine,
        phase=phase,
        coming=not ready and _coming(replica, row, sight.history),
        waiting=(stats.waiting or 0) if stats is not None else 0,
        collect_streams=replica.probe.collect_streams,
    )


def _routable(replica: Replica, row: ReplicaStatus, sight: Sight) -> bool:
    """Readiness: serving, and not missed so often that it leaves the routes."""
    container = sight.now.own(replica.name)
    if row["phase"] not in ("ready", "busy", "degraded") or container is None:
        return False
    if container.state != "running":
        return False  # a paused one answers nobody
    for check in ("health", "stalled", "vram"):
        condition = sight.conditions.get((check, replica.name))
        if condition is None or condition.verdict.state != "failed":
            continue
        if condition.readings >= replica.watchdog.readiness_failures:
            return False
    return True


def _coming(replica: Replica, row: ReplicaStatus, history: History) -> bool:
    """Return True for what will serve again by itself; a drain may as well be for good."""
    return row["phase"] not in ("stopped", "failed") and desired(history, replica, running=True)


def _weight(replica: Replica, row: ReplicaStatus, trends: Trends) -> float:
    """Return its share among its siblings (0-1): less where it is not well, or its GPU hot."""
    heat = (trends.gpu(gpu.uuid).heat for gpu in replica.gpus)
    cool = min((LEVELS[level].weight for level in heat if level), default=1.0)
    return cool * (_DEGRADED_WEIGHT if row["phase"] == "degraded" else 1.0)


def _drain_deadline(replica: Replica, sight: Sight) -> float | None:
    history = sight.history.replica(replica.name)
    ends = history.draining_at + history.draining_seconds
    return sight.now.at + ends - sight.now.boot_seconds
