"""
The document in status.json: what the world may see. `status` writes it, everything else reads it.

Plain dictionaries, so that a reader needs nothing but `json`. Scripts rely on these keys
(docs/contracts.md): they are only ever added to.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Phase = Literal[
    "pending",  # wanted, not started yet
    "loading",  # its container runs, the model is not ready
    "ready",
    "busy",  # ready, and every slot taken
    "degraded",  # serving, and something is wrong
    "draining",
    "backoff",  # failed, the next try has a time
    "failed",  # failed, and nothing will be tried before something changes
    "stopped",  # on purpose
]


class GpuName(TypedDict):
    index: int
    uuid: str


class ReplicaStatus(TypedDict):
    name: str
    workload: str
    engine: str
    phase: Phase
    gpus: list[GpuName]
    port: int
    container: str | None
    since: float | None  # Unix seconds: in this phase
    restarts_1h: int
    restarts_24h: int
    reason: str  # why it is in this phase; "" when ready
    next_attempt_at: float | None  # Unix seconds
    in_flight: int | None
    memory_bytes: int | None  # host RAM
    vram_bytes: int | None
    outdated: bool  # it runs, with defaults of an earlier gpuctl; `gpuctl up` renews it
    #: While it loads, how far that has come: weights_loaded | graphs_ready | warmed_up, as far as
    #: its engine tells; else None.
    stage: NotRequired[str | None]


class GpuStatus(TypedDict):
    index: int
    uuid: str
    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    utilization_ratio: float | None
    temperature_celsius: float | None
    power_watts: float | None
    throttle_reasons: list[str] | None
    state: str  # ok | lost | missing | reserve
    at: float


class ConditionStatus(TypedDict):
    check: str
    subject: str
    state: str  # degraded | failed | unknown; what is ok is not listed
    reason: str
    since: float
    evidence: dict[str, Any]


class DaemonStatus(TypedDict):
    pid: int
    version: str
    tick_seconds: float  # how long the last tick took
    started_at: float
    interval_seconds: float  # at rest, `at` is never older than this


class RouteReplica(TypedDict):
    name: str
    container: str | None
    address: str  # "127.0.0.1:8081"
    slots: int
    weight: float
    state: Literal["ready", "draining", "down"]
    drain_deadline: float | None  # Unix seconds
    kv_ratio: float | None
    key_file: str | None


class Route(TypedDict):
    model: str
    aliases: list[str]
    kind: str
    replicas: list[RouteReplica]


class Status(TypedDict):
    schema: int
    at: float
    profile: str
    seq: int
    instance: str  # of the daemon: new at every start
    last_event: int  # the id of the newest event this knows of
    mode: str  # enforce | observe
    simulated: bool
    daemon: DaemonStatus
    replicas: list[ReplicaStatus]
    gpus: list[GpuStatus]
    conditions: list[ConditionStatus]
    gateway: dict[str, Any] | None
    routes: list[Route]
    warnings: list[str]  # from planning
    #: Names of containers that are to go: renamed aside by a start, of no replica of the plan, or
    #: taken down. None: the runtime is unread, so it cannot be told.
    leftovers: NotRequired[list[str] | None]
    stopping: NotRequired[bool]  # the daemon has ended on purpose; its replicas run on
