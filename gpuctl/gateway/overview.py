"""
What the operator's endpoints say: a look at a running gateway, as documents that JSON can hold.

`operator` serves them. Nothing here waits, changes anything or asks the system: every reading that
is not the gateway's own is an argument. No key, no prompt and no answer is in any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sized
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gpuctl import __version__
from gpuctl.gateway import openai_errors
from gpuctl.gateway.gauges import GATE_STATES, Gauges, ReplicaGauges

if TYPE_CHECKING:
    from gpuctl.gateway.admission import Admission
    from gpuctl.gateway.budget import Budget
    from gpuctl.gateway.idempotency import Memory
    from gpuctl.gateway.keyring import Keyring
    from gpuctl.gateway.limits import Limiter
    from gpuctl.gateway.log import Lines
    from gpuctl.gateway.metrics import Metrics
    from gpuctl.gateway.replica import Replica, Route
    from gpuctl.gateway.table import Table
    from gpuctl.model import GatewaySettings

#: Level → the stages of a replica at which it is reached.
_REACHED = {
    "model_loaded": frozenset(("weights_loaded", "graphs_ready", "warmed_up")),
    "graphs_ready": frozenset(("graphs_ready", "warmed_up")),
    "warmed_up": frozenset(("warmed_up",)),
}


class Inside(Protocol):
    """What is looked at; `gateway.Gateway` is one."""

    settings: GatewaySettings
    table: Table
    admission: Admission
    budget: Budget
    limiter: Limiter
    memory: Memory
    keyring: Keyring
    lines: Lines
    metrics: Metrics
    listen: str  # host:port; "": nowhere
    started_at: float  # Unix seconds
    status_at: float | None  # Unix seconds: of the latest Status; None: there was none yet
    seq: int  # of that
    instance: str  # of the daemon that made it
    draining: bool
    lag_seconds: float  # how late the loop was last
    shutdown_seconds: float | None  # how long the last drain took

    def now(self) -> float: ...  # the loop's clock
    def wall(self) -> float: ...  # Unix seconds
    @property
    def clients(self) -> Sized: ...  # connections
    @property
    def running(self) -> Sized: ...  # requests


def health(inside: Inside, *, admin: bool) -> dict[str, Any]:
    """Return what anybody may know: how many are well; and which, for an admin."""
    now = inside.now()
    gates: Counter[str] = Counter(replica.gate.state(now) for replica in _replicas(inside))
    ready = sum(replica.state == "ready" for replica in _replicas(inside))
    count = len(inside.table.replicas)
    well = ready == gates["closed"] == count and not inside.draining
    document: dict[str, Any] = {
        "status": "ok" if well else "degraded",
        "draining": inside.draining,
        "replicas": {"all": count, "ready": ready},
        "gates": {state: gates[state] for state in GATE_STATES},
    }
    if admin:
        document["by_replica"] = {
            replica.name: {"state": replica.state, "gate": replica.gate.state(now)}
            for replica in _replicas(inside)
        }
    return document


def readiness(inside: Inside, level: str) -> dict[str, Any]:
    """Return which of `gauges.LEVELS` are reached, and whether *level* is."""
    now = inside.now()
    stages = set(inside.table.stages.values())
    answering = [replica.state == "ready" for replica in _replicas(inside)]
    serving = [
        replica.state == "ready" and replica.gate.state(now) != "open"
        for replica in _replicas(inside)
    ]
    levels = {
        "gateway": inside.status_at is not None and not inside.draining,
        **{name: any(answering) or not stages.isdisjoint(of) for name, of in _REACHED.items()},
        "one": any(serving),
        "all": bool(serving) and all(serving),
    }
    # A gateway that takes no requests is not ready, whatever its replicas are.
    return {"ready": levels["gateway"] and levels[level], "level": level, "levels": levels}


def status(inside: Inside) -> dict[str, Any]:
    """Return everything that an admin may want to know of this moment."""
    settings = inside.settings
    return {
        "schema": 1,
        "at": inside.wall(),
        "version": __version__,
        "started_at": inside.started_at,
        "listen": inside.listen,
        "draining": inside.draining,
        "shutdown_seconds": inside.shutdown_seconds,
        "status": {"instance": inside.instance, "seq": inside.seq, "at": inside.status_at},
        "requests": len(inside.running),
        "in_flight": inside.admission.in_flight,
        "connections": len(inside.clients),
        "routes": [_route(inside, route) for route in inside.table.routes.values()],
        "replicas": [_replica(replica, inside) for replica in _replicas(inside)],
        "queue": {
            "size": settings.queue.size,
            "waiting": inside.admission.waiting(),
            "by_priority": {str(p): n for p, n in sorted(inside.admission.depth().items())},
            "by_key": inside.admission.crowds(),
        },
        "limits": {"subjects": len(inside.limiter), "keys": len(inside.keyring)},
        "retries": {
            "budget_ratio": inside.budget.ratio,
            "budget_least": inside.budget.least,
            "refused": inside.budget.refused_total,
        },
        "idempotency": {"answers": len(inside.memory), "bytes": inside.memory.bytes},
        "log": {"dropped": inside.lines.dropped, "pending_bytes": inside.lines.pending_bytes},
        # Keys are in it by the names of their files and variables only.
        "settings": msgspec.to_builtins(settings),
    }


def gauges(inside: Inside, *, resident_bytes: int | None, open_fds: int | None) -> Gauges:
    """Return the readings for the metrics."""
    now = inside.now()
    # One that empties is told as 0, and not as gone.
    depths = dict.fromkeys(inside.settings.priorities.values(), 0)
    return Gauges(
        version=__version__,
        started_at=inside.started_at,
        compiled=is_compiled(),
        draining=inside.draining,
        replicas=tuple(
            ReplicaGauges(
                name=replica.name,
                model=replica.model,
                gate=replica.gate.state(now),
                gate_opens=replica.gate.opened_total,
                in_flight=replica.in_flight,
                slots=replica.slots,
                weight=replica.weight,
                kv_ratio=replica.kv_ratio,
            )
            for replica in _replicas(inside)
        ),
        in_flight=inside.admission.in_flight,
        queue_depths={**depths, **inside.admission.depth()},
        queue_size=inside.settings.queue.size,
        connections=len(inside.clients),
        retries_refused=inside.budget.refused_total,
        lines_dropped=inside.lines.dropped,
        loop_lag_seconds=inside.lag_seconds,
        shutdown_seconds=inside.shutdown_seconds,
        status_at=inside.status_at,
        resident_bytes=resident_bytes,
        open_fds=open_fds,
    )


def is_compiled() -> bool:
    """Return whether what `pyproject.toml` lists is compiled: all of it is, or nothing."""
    return openai_errors.__file__.endswith(".so")


def _replicas(inside: Inside) -> Iterator[Replica]:
    return iter(inside.table.replicas.values())


def _route(inside: Inside, route: Route) -> dict[str, Any]:
    return {
        "model": route.model,
        "aliases": list(route.aliases),
        "kind": route.kind,
        "replicas": [replica.name for replica in route.replicas],
        "waiting": inside.admission.waiting(route),
    }


def _replica(replica: Replica, inside: Inside) -> dict[str, Any]:
    now = inside.now()

    def ago(at: float | None) -> float | None:
        return None if at is None else round(now - at, 3)

    gate = replica.gate
    return {
        "name": replica.name,
        "model": replica.model,
        "state": replica.state,
        "coming": replica.coming,
        "stage": inside.table.stages.get(replica.name),
        "container": replica.container,
        "address": f"{replica.host}:{replica.port}",
        "slots": replica.slots,
        "weight": replica.weight,
        "in_flight": replica.in_flight,
        "engine_waiting": replica.engine_waiting,
        "kv_ratio": replica.kv_ratio,
        "drain_deadline": replica.drain_deadline,
        "latency_seconds": None if (seconds := replica.latency.value(now)) == inf else seconds,
        "requests": replica.requests,
        "failures": replica.failures,
        "idle_connections": len(replica.idle),
        "last_use_seconds_ago": ago(replica.last_use),
        "last_byte_seconds_ago": ago(replica.last_byte),
        "longest_seconds": ago(min(replica.open.values(), default=None)),
        "gate": {
            "state": gate.state(now),
            "retry_in_seconds": None if gate.retry_at is None else max(0.0, gate.retry_at - now),
            "opened": gate.opened_total,
        },
    }
