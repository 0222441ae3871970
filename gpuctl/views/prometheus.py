"""
A Status as Prometheus text: what `gpuctl metrics` prints, for a textfile collector or a scrape.

Units and suffixes follow Prometheus' own rules, labels are bounded by the profile and the host: a
metric that nothing reports is left out, never written as 0.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar, get_args

from gpuctl.model.status import GpuStatus, Phase, ReplicaStatus, Status

Row = TypeVar("Row")

_GPU_STATES = ("ok", "lost", "missing", "reserve", "cordoned", "unknown")
_WINDOWS = (("1h", "restarts_1h"), ("24h", "restarts_24h"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    name: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def exposition(status: Status, *, alive: bool) -> str:
    """Return the text; *alive* tells whether the daemon that published the Status still runs."""
    metrics = (*_daemon(status, alive), *_replicas(status), *_gpus(status), _conditions(status))
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def _daemon(status: Status, alive: bool) -> Iterator[_Metric]:
    daemon = status["daemon"]
    about = {"version": daemon["version"], "profile": status["profile"]}
    yield _one("gpuctl_build_info", "The daemon's version and its profile.", 1, about)
    yield _one("gpuctl_daemon_up", "Whether the daemon supervises.", alive)
    yield _one(
        "gpuctl_status_timestamp_seconds", "When this was published, Unix time.", status["at"]
    )
    yield _one(
        "gpuctl_watchdog_tick_duration_seconds", "How long the last tick took.",
        daemon["tick_seconds"],
    )  # fmt: skip


def _replicas(status: Status) -> Iterator[_Metric]:
    rows = status["replicas"]
    yield _Metric(
        name="gpuctl_instance_state",
        help="The phase a replica is in.",
        samples=tuple(
            ({**_of(row), "state": phase}, float(row["phase"] == phase))
            for row in rows
            for phase in get_args(Phase)
        ),
    )
    yield _Metric(
        name="gpuctl_instance_recent_restarts",
        help="Restarts after a failure within the window.",
        samples=tuple(
            ({**_of(row), "window": window}, float(row[key]))  # type: ignore[literal-required]
            for row in rows
            for window, key in _WINDOWS
        ),
    )
    yield _each(
        "gpuctl_replica_on_cpu", "Whether a replica runs on the CPU for want of a GPU.",
        rows, _of, lambda row: row.get("on_cpu", False),
    )  # fmt: skip
    yield _each(
        "gpuctl_replica_moved", "Whether a replica is elsewhere than the profile puts it.",
        rows, _of, lambda row: bool(row.get("moved")),
    )  # fmt: skip
    yield _each(
        "gpuctl_instance_in_flight_requests", "Requests that a replica works on or has queued.",
        rows, _of, lambda row: row["in_flight"],
    )  # fmt: skip
    yield _each(
        "gpuctl_instance_memory_bytes", "Host RAM that a replica's container holds.",
        rows, _of, lambda row: row["memory_bytes"],
    )  # fmt: skip
    yield _each(
        "gpuctl_instance_vram_bytes", "VRAM that a replica's own processes hold.",
        rows, _of, lambda row: row["vram_bytes"],
    )  # fmt: skip


def _gpus(status: Status) -> Iterator[_Metric]:
    gpus = status["gpus"]
    yield _Metric(
        name="gpuctl_gpu_info",
        help="Which GPU has which index and name.",
        samples=tuple(({**_gpu(each), "name": each["name"]}, 1.0) for each in gpus),
    )
    yield _Metric(
        name="gpuctl_gpu_state",
        help="The state a GPU is in.",
        samples=tuple(
            ({**_gpu(each), "state": state}, float(each["state"] == state))
            for each in gpus
            for state in _GPU_STATES
        ),
    )
    cordoned = {c["subject"] for c in status["conditions"] if c["reason"] == "gpu_cordoned"}
    readings: tuple[tuple[str, str, Callable[[GpuStatus], float | None]], ...] = (
        ("cordoned", "Whether nothing new is started on a GPU.", lambda g: g["uuid"] in cordoned),
        ("memory_total_bytes", "The VRAM of a GPU.", lambda g: g["memory_total_bytes"]),
        ("memory_used_bytes", "VRAM in use, by anybody.", lambda g: g["memory_used_bytes"]),
        ("utilization_ratio", "Part of the time it was busy.", lambda g: g["utilization_ratio"]),
        ("temperature_celsius", "The GPU's temperature.", lambda g: g["temperature_celsius"]),
        ("power_watts", "The power that it draws.", lambda g: g["power_watts"]),
    )
    for name, words, read in readings:
        yield _each(f"gpuctl_gpu_{name}", words, gpus, _gpu, read)
    yield _Metric(
        name="gpuctl_gpu_throttle_active",
        help="What slows a GPU down now.",
        samples=tuple(
            ({**_gpu(each), "reason": reason}, 1.0)
            for each in gpus
            for reason in each["throttle_reasons"] or ()
        ),
    )


def _conditions(status: Status) -> _Metric:
    return _Metric(
        name="gpuctl_condition",
        help="What is not as it should be.",
        samples=tuple(
            ({key: str(one[key]) for key in ("check", "subject", "state", "reason")}, 1.0)
            for one in status["conditions"]
        ),
    )


def _of(row: ReplicaStatus) -> Mapping[str, str]:
    return {"replica": row["name"], "workload": row["workload"]}


def _gpu(gpu: GpuStatus) -> Mapping[str, str]:
    return {"gpu": str(gpu["index"]), "uuid": gpu["uuid"]}


def _one(name: str, words: str, value: float, labels: Mapping[str, str] | None = None) -> _Metric:
    return _Metric(name=name, help=words, samples=((labels or {}, float(value)),))


def _each(
    name: str,
    words: str,
    rows: Iterable[Row],
    labels: Callable[[Row], Mapping[str, str]],
    read: Callable[[Row], float | None],
) -> _Metric:
    told = ((labels(row), read(row)) for row in rows)
    found = tuple((label, float(value)) for label, value in told if value is not None)
    return _Metric(name=name, help=words, samples=found)


def _lines(metric: _Metric) -> Iterator[str]:
    if not metric.samples:
        return
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} gauge"
    for labels, value in metric.samples:
        inner = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        yield f"{metric.name}{{{inner}}} {value!r}" if inner else f"{metric.name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
