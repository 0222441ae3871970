"""
The document in status.json: what the world may see. `status` writes it, everything else reads it.

Plain dictionaries, so that a reader needs nothing but `json`. Scripts rely on these keys
(docs/contracts.md): they are only ever added to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    moved: NotRequired[str]  # why it is not where the profile puts it; "" if it is
    on_cpu: NotRequired[bool]  # for want of a GPU: it serves, far more slowly


class PressureStatus(TypedDict):
    level: str  # low | normal | high | critical | full
    action: str  # load_any | load_below_full | load_small | load_none | make_room
    room_bytes: int  # what another model may take, by that


class ForecastStatus(TypedDict):
    """When the VRAM in use reaches its next level; all 0 where `unknown` says why it is not."""

    #: too_few_samples | loading | level_changed | steady | falling | too_far | full; "" where it
    #: is known
    unknown: str
    level: str  # critical | full
    seconds: int  # from `at`
    least_seconds: int
    most_seconds: int


class GpuProcessStatus(TypedDict):
    pid: int
    name: str | None
    vram_bytes: int | None
    container: str | None


class GpuHealthStatus(TypedDict):
    ecc_corrected: int | None  # since the driver was loaded
    ecc_uncorrected: int | None
    remapped_rows: int | None
    remapped_rows_pending: bool | None
    remapped_rows_failure: bool | None
    pcie_generation: int | None
    pcie_width: int | None
    recovery_action: str | None


class XidStatus(TypedDict):
    number: int
    count: int
    at: float  # of the latest


class GpuWatched(TypedDict):
    """What is known of a GPU over time."""

    pressure: NotRequired[PressureStatus | None]
    heat: NotRequired[str | None]  # normal | warning | throttling | critical
    forecast: NotRequired[ForecastStatus]
    #: Up to 100 samples each, oldest first: `memory_mib`, `utilization_percent`, `celsius`,
    #: `watts`; whole numbers.
    trend: NotRequired[Mapping[str, Sequence[int | None]]]
    xids: NotRequired[list[XidStatus]]  # since an operator last found it well
    #: The highest of the hour under way, which no Event tells yet: `memory_used_bytes`,
    #: `temperature_celsius`, `utilization_ratio`, `power_watts`, as far as it reports them.
    peaks: NotRequired[Mapping[str, float]]


class GpuStatus(GpuWatched):
    index: int
    uuid: str
    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    utilization_ratio: float | None
    temperature_celsius: float | None
    power_watts: float | None
    throttle_reasons: list[str] | None
    state: str  # ok | lost | missing | reserve | cordoned | unknown: not read yet
    at: float | None  # None: not read yet
    power_limit_watts: NotRequired[float | None]
    sm_clock_hertz: NotRequired[float | None]
    memory_clock_hertz: NotRequired[float | None]
    memory_temperature_celsius: NotRequired[float | None]
    fan_ratio: NotRequired[float | None]
    processes: NotRequired[list[GpuProcessStatus] | None]  # the largest first
    health: NotRequired[GpuHealthStatus | None]  # read every minute


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
    engine: NotRequired[str]
    phase: NotRequired[Phase]
    coming: NotRequired[bool]  # it takes no request now, and will again by itself
    waiting: NotRequired[int]  # requests in the engine's own queue; 0 where that is not told
    #: Asked to stream although the client does not, it frees the slot of a client that left at the
    #: next token, and not at the end of the answer.
    collect_streams: NotRequired[bool]


class Route(TypedDict):
    workload: NotRequired[str]
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
