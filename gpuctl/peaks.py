"""Each GPU's readings within an hour, rolled up: the highest, the lowest, the mean. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gpuctl.model import Evidence, GpuReading, Json, Snapshot

HOUR = 3600.0
_FIELDS = ("memory_used_bytes", "temperature_celsius", "utilization_ratio", "power_watts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What one field of one GPU was like."""

    lowest: float
    highest: float
    total: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """By GPU (UUID) and field, since *since* (boot seconds)."""

    since: float
    gpus: Mapping[str, Mapping[str, Span]] = field(default_factory=dict)

    def with_reading(self, now: Snapshot) -> Peaks:
        """Return the peaks with this tick's readings in them; what could not be read is in none."""
        if "gpus" in now.errors:
            return self
        seen = {
            uuid: _spans(self.gpus.get(uuid, {}), gpu)
            for uuid, gpu in now.gpus.items()
            if gpu.state == "ok"
        }
        return replace(self, gpus={**self.gpus, **seen})

    def taken(self, now: Snapshot) -> tuple[Mapping[str, Evidence], Peaks]:
        """
        Return what the hour was like by GPU when it is full, else none, and those to go on with.

        The highest of each field stands under its name; the lowest and the mean beside them.
        """
        if now.boot_seconds - self.since < HOUR:
            return {}, self
        return self.so_far(), Peaks(since=now.boot_seconds)

    def so_far(self) -> Mapping[str, Evidence]:
        """Return what the part of the hour that is over was like, by GPU."""
        return {uuid: _told(spans) for uuid, spans in self.gpus.items()}

    def highest(self, uuid: str) -> dict[str, float]:
        """Return the highest of each field of one GPU; none of what it does not report."""
        return {name: span.highest for name, span in self.gpus.get(uuid, {}).items()}


def _spans(before: Mapping[str, Span], gpu: GpuReading) -> Mapping[str, Span]:
    spans = dict(before)
    for name in _FIELDS:
        value = getattr(gpu, name)
        if value is not None:
            spans[name] = _wider(before.get(name), value)
    return spans


def _wider(span: Span | None, value: float) -> Span:
    if span is None:
        return Span(lowest=value, highest=value, total=value, count=1)
    return Span(
        lowest=min(span.lowest, value),
        highest=max(span.highest, value),
        total=span.total + value,
        count=span.count + 1,
    )


def _told(spans: Mapping[str, Span]) -> Evidence:
    highest: dict[str, Json] = {name: span.highest for name, span in spans.items()}
    return highest | {
        "lowest": {name: span.lowest for name, span in spans.items()},
        "mean": {name: round(span.total / span.count, 3) for name, span in spans.items()},
    }
