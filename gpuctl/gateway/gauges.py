"""
What is true of the gateway at the moment, as lines that Prometheus reads. PURE.

`operator` takes these readings when somebody looks, and hands them to `Metrics.text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

from gpuctl.gateway.families import counter, gauge

#: What a gate may be, as `Gate.state` tells it.
GATE_STATES = ("closed", "open", "half_open")

#: How ready a gateway may be, as `overview.readiness` tells it: it takes requests; some replica has
#: its model; its CUDA graphs, where it makes any; has answered its warm-up; some may be sent
#: requests; each may.
LEVELS = ("gateway", "model_loaded", "graphs_ready", "warmed_up", "one", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaGauges:
    """One replica at the moment."""

    name: str
    model: str
    gate: str  # one of GATE_STATES
    gate_opens: int  # since the gateway began
    in_flight: int = 0
    slots: int = 1
    weight: float = 1.0
    kv_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What is true at the moment, and what others count; `None` is not known."""

    version: str
    started_at: float  # Unix seconds
    compiled: bool = False
    draining: bool = False
    replicas: tuple[ReplicaGauges, ...] = ()
    in_flight: int = 0
    queue_depths: Mapping[int, int] = field(default_factory=dict)  # by priority
    queue_size: int = 0  # its limit
    connections: int = 0
    retries_refused: int = 0
    lines_dropped: int = 0
    loop_lag_seconds: float | None = None
    shutdown_seconds: float | None = None  # of the last drain, which ended another gateway
    status_at: float | None = None  # Unix seconds: the daemon made the Status that is served by
    resident_bytes: int | None = None
    open_fds: int | None = None


def process(now: Gauges) -> Iterator[str]:
    """Yield what concerns the gateway itself."""
    build = (("version", now.version), ("compiled", "true" if now.compiled else "false"))
    yield from gauge("build_info", "Which gpuctl runs here.", ((build, 1),))
    for name, words, value in (
        ("process_start_time_seconds", "When it started, Unix time.", now.started_at),
        ("process_resident_memory_bytes", "The RAM that it holds.", now.resident_bytes),
        ("process_open_fds", "Its open file descriptors.", now.open_fds),
        ("event_loop_lag_seconds", "How late the loop was last.", now.loop_lag_seconds),
        ("status_timestamp_seconds", "When the daemon's Status was made, Unix time.",
         now.status_at),
        ("draining", "Whether it takes no new requests.", now.draining),
        ("shutdown_duration_seconds", "How long the last shutdown took to finish what was running.",
         now.shutdown_seconds),
        ("connections", "Connections of clients.", now.connections),
        ("active_requests", "Requests that replicas work on.", now.in_flight),
    ):  # fmt: skip
        yield from gauge(name, words, () if value is None else (((), value),))
    yield from gauge(
        "queue_depth", "Requests that wait for a replica.",
        ((((("priority", str(p)),)), depth) for p, depth in sorted(now.queue_depths.items())),
    )  # fmt: skip
    yield from gauge("queue_size_limit", "Requests that may wait at once.", (((), now.queue_size),))
    yield from counter(
        "log_lines_dropped_total", "Lines of this log that nobody took in time.",
        (((), now.lines_dropped),),
    )  # fmt: skip


def replicas(now: Gauges) -> Iterator[str]:
    """Yield what concerns each replica, by name."""
    rows = tuple(
        ((("replica", row.name), ("model", row.model)), row)
        for row in sorted(now.replicas, key=attrgetter("name"))
    )
    yield from gauge(
        "gate_state", "Whether a replica gets requests, by how it answered.",
        (
            ((*of, ("state", state)), row.gate == state)
            for of, row in rows
            for state in GATE_STATES
        ),
    )  # fmt: skip
    yield from counter(
        "gate_opens_total", "Times that a replica's gate opened.",
        ((of, row.gate_opens) for of, row in rows),
    )  # fmt: skip
    yield from gauge(
        "replica_active_requests", "Requests that the gateway has at a replica.",
        ((of, row.in_flight) for of, row in rows),
    )  # fmt: skip
    yield from gauge(
        "replica_slots", "Requests that a replica takes at once.",
        ((of, row.slots) for of, row in rows),
    )  # fmt: skip
    yield from gauge(
        "replica_weight_ratio", "A replica's share of the work, as its heat allows.",
        ((of, row.weight) for of, row in rows),
    )  # fmt: skip
    yield from gauge(
        "kv_cache_ratio", "The part of a replica's KV cache that is in use.",
        ((of, row.kv_ratio) for of, row in rows if row.kv_ratio is not None),
    )  # fmt: skip
