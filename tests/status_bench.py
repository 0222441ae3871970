"""What the tests of the Status document start from, and the parts of it that they ask for."""

from __future__ import annotations

from typing import Any

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import Condition, Event, Plan, Snapshot
from gpuctl.model.status import DaemonStatus, ReplicaStatus, RouteReplica, Status
from gpuctl.status import Header, status
from tests import make
from tests.make import AT, NOW

HEADER = Header(
    seq=7,
    instance=make.INSTANCE,
    last_event=42,
    simulated=False,
    daemon=DaemonStatus(pid=1, version="0", tick_seconds=0.1, started_at=AT, interval_seconds=5.0),
    gateway=None,
)
READY = make.history(make.served())
RUNNING = make.snapshot(make.container(), probes=[make.probe()])
DEAD = make.snapshot(make.container(state="exited"))
BUSY = make.probe(in_flight=1)


def published(
    now: Snapshot = RUNNING,
    past: History = READY,
    *held: Condition,
    waits: dict[str, Wait] | None = None,
    before: Status | None = None,
    plan: Plan | None = None,
    header: Header = HEADER,
) -> Status:
    held_by = make.conditions(*held)
    return status(plan or make.plan(), now, held_by, past, waits or {}, before, header)


def row(*arguments: Any, **fields: Any) -> ReplicaStatus:
    return published(*arguments, **fields)["replicas"][0]


def route(*arguments: Any, **fields: Any) -> RouteReplica:
    return published(*arguments, **fields)["routes"][0]["replicas"][0]


def drain(at: float = NOW - 5) -> Event:
    told: dict[str, Any] = {"action": "drain", "container": "c1", "deadline_seconds": 30.0}
    return make.event("attempt", reason="stop", at=at, **told)


def bad(check: str = "health", readings: int = 2, **fields: Any) -> Condition:
    return make.condition(check, readings=readings, reason="x", **fields)
