"""The highest readings of each GPU within an hour, for the report. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gpuctl.model import Evidence, GpuReading, Snapshot

HOUR = 3600.0
_FIELDS = ("memory_used_bytes", "temperature_celsius", "utilization_ratio", "power_watts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """By GPU (UUID), since *since* (boot seconds)."""

    since: float
    gpus: Mapping[str, Evidence] = field(default_factory=dict)

    def with_reading(self, now: Snapshot) -> Peaks:
        """Return the peaks with this tick's readings in them."""
        seen = {
            uuid: _higher(self.gpus.get(uuid, {}), gpu)
            for uuid, gpu in now.gpus.items()
            if gpu.state == "ok"
        }
        return replace(self, gpus={**self.gpus, **seen})

    def taken(self, now: Snapshot) -> tuple[Mapping[str, Evidence], Peaks]:
        """Return the peaks by GPU when the hour is full, else none, and those to go on with."""
        if now.boot_seconds - self.since < HOUR:
            return {}, self
        return self.gpus, Peaks(since=now.boot_seconds)


def _higher(before: Evidence, gpu: GpuReading) -> Evidence:
    told: dict[str, int | float] = {}
    for name in _FIELDS:
        values = [v for v in (before.get(name), getattr(gpu, name)) if isinstance(v, int | float)]
        if values:
            told[name] = max(values)
    return told
