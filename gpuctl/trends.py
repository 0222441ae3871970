"""
What the last hour's readings were like: of each GPU, each replica's VRAM, the disk. PURE.

The daemon takes in every Snapshot before it judges; checks and the Status read it. A new daemon
begins with none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from gpuctl.forecast import Forecast, forecast
from gpuctl.heat import heat
from gpuctl.history import History
from gpuctl.model import MIB, GpuHealth, GpuReading, Plan, Snapshot, WatchdogSettings
from gpuctl.pressure import ladder, pressure

#: Samples kept of each GPU, and of each replica's VRAM.
SAMPLES_KEPT = 100
#: Slow counters (ECC, PCIe, the disk) are kept for so long, one a minute.
HOUR = 3600.0
MINUTE = 60.0
#: Minutes in which a slowdown counts. Source: gpud's hw-slowdown component counts it over 10 min.
SLOWED_MINUTES = 10
#: A card lowers its clocks for heat, by its driver or its hardware. `hw_slowdown` stands for heat
#: or the power brake, and beside the latter for that. Source: nvmlClocksEventReason* in nvml.h.
THERMAL = frozenset({"hw_slowdown", "sw_thermal", "hw_thermal"})
#: The power supply or the board asks for lower clocks. Source: the same.
BRAKE = "hw_power_brake"
#: Levels that are worth a forecast.
_FORETOLD = ("critical", "full")
_NOTHING = History()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One moment of a GPU."""

    boot_seconds: float
    memory_used_bytes: int | None
    utilization_ratio: float | None
    temperature_celsius: float | None
    power_watts: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTrend:
    samples: tuple[Sample, ...] = ()  # oldest first
    pressure: str = ""  # the present level, "" where it is not known
    heat: str = ""
    slowed: tuple[int, ...] = ()  # minutes of the boot's clock in which heat slowed it down
    braked: tuple[int, ...] = ()  # the same, for power
    aging: tuple[GpuHealth, ...] = ()  # one a reading, of the last hour
    loaded_at: float | None = None  # boot seconds when a replica was last seen loading on it
    forecast: Forecast = field(default_factory=lambda: Forecast(unknown="too_few_samples"))
    columns: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)  # for the Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The VRAM that a replica's container held of all its GPUs: (boot seconds, bytes)."""

    container: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trends:
    gpus: Mapping[str, GpuTrend] = field(default_factory=dict)  # by UUID
    replicas: Mapping[str, Held] = field(default_factory=dict)  # by name
    disk: tuple[tuple[float, float], ...] = ()  # (boot seconds, free bytes), of the last hour
    sampled_at: float | None = None  # boot seconds

    def gpu(self, uuid: str) -> GpuTrend:
        return self.gpus.get(uuid, _BLANK)

    def with_reading(self, plan: Plan, now: Snapshot, history: History = _NOTHING) -> Trends:
        """
        Return the trends with this tick in them; after a gap they begin anew.

        A container that *history* does not know as ready is loading.
        """
        if now.gap:
            return Trends().with_reading(plan, replace(now, gap=False), history)
        settings = plan.watchdog
        due = (
            self.sampled_at is None or now.boot_seconds - self.sampled_at >= settings.trend_seconds
        )
        fresh = "gpus" not in now.errors
        loading = _loading(plan, now, history)
        gpus = {
            uuid: _gpu(_loaded(self.gpu(uuid), uuid, loading, now), gpu, now, settings, due)
            for uuid, gpu in now.gpus.items()
        }
        return Trends(
            gpus=gpus if fresh else self.gpus,
            replicas=self._held(plan, now) if fresh and due else self.replicas,
            disk=_disk(self.disk, now),
            sampled_at=now.boot_seconds if due else self.sampled_at,
        )

    def _held(self, plan: Plan, now: Snapshot) -> Mapping[str, Held]:
        found: dict[str, Held] = {}
        for replica in plan.replicas:
            container = now.own(replica.name)
            if not replica.gpus or container is None or container.state != "running":
                continue
            held = now.vram_bytes(container, tuple(gpu.uuid for gpu in replica.gpus))
            if held is None:
                continue
            before = self.replicas.get(replica.name)
            points = before.points if before and before.container == container.id else ()
            points = (*points, (now.boot_seconds, float(held)))[-SAMPLES_KEPT:]
            found[replica.name] = Held(container=container.id, points=points)
        return found


_BLANK = GpuTrend()


def _loading(plan: Plan, now: Snapshot, history: History) -> Set[str]:
    """Return the GPUs (UUIDs) that a container fills which runs and is not ready yet."""
    found: set[str] = set()
    for replica in plan.replicas:
        container = now.own(replica.name)
        if container is None or container.state != "running":
            continue
        if history.replica(replica.name).ready_container != container.id:
            found.update(container.gpus or (gpu.uuid for gpu in replica.gpus))
    return found


def _loaded(before: GpuTrend, uuid: str, loading: Set[str], now: Snapshot) -> GpuTrend:
    if uuid not in loading:
        return before
    return replace(before, loaded_at=now.boot_seconds, forecast=Forecast(unknown="loading"))


def _gpu(
    before: GpuTrend, gpu: GpuReading, now: Snapshot, settings: WatchdogSettings, due: bool
) -> GpuTrend:
    if gpu.state != "ok":
        return before
    minute, reasons = int(now.boot_seconds // MINUTE), gpu.throttle_reasons or ()
    made = replace(
        before,
        pressure=pressure(gpu, settings, before.pressure),
        heat=heat(gpu, settings, before.heat),
        slowed=_minutes(before.slowed, minute, _hot(reasons)),
        braked=_minutes(before.braked, minute, BRAKE in reasons),
        aging=_aging(before.aging, gpu.health),
    )
    return _sampled(made, gpu, now.boot_seconds, settings) if due else made


def _sampled(made: GpuTrend, gpu: GpuReading, now: float, settings: WatchdogSettings) -> GpuTrend:
    sample = Sample(
        boot_seconds=now,
        memory_used_bytes=gpu.memory_used_bytes,
        utilization_ratio=gpu.utilization_ratio,
        temperature_celsius=gpu.temperature_celsius,
        power_watts=gpu.power_watts,
    )
    samples = (*made.samples, sample)[-SAMPLES_KEPT:]
    used = [
        (each.boot_seconds, float(each.memory_used_bytes))
        for each in samples
        if each.memory_used_bytes is not None
    ]
    edges = [(name, ratio) for name, ratio in ladder(settings) if name in _FORETOLD]
    return replace(
        made,
        samples=samples,
        forecast=made.forecast
        if made.loaded_at == now
        else forecast(used, gpu.memory_total_bytes or 0, edges, made.loaded_at),
        columns=_columns(samples),
    )


def _columns(samples: tuple[Sample, ...]) -> dict[str, tuple[int | None, ...]]:
    """Return the samples by what they measure, in whole numbers."""
    return {
        "memory_mib": tuple(_whole(each.memory_used_bytes, 1 / MIB) for each in samples),
        "utilization_percent": tuple(_whole(each.utilization_ratio, 100) for each in samples),
        "celsius": tuple(_whole(each.temperature_celsius) for each in samples),
        "watts": tuple(_whole(each.power_watts) for each in samples),
    }


def _whole(value: float | None, factor: float = 1.0) -> int | None:
    return None if value is None else round(value * factor)


def _hot(reasons: tuple[str, ...]) -> bool:
    found = THERMAL.intersection(reasons)
    return bool(found - {"hw_slowdown"} if BRAKE in reasons else found)


def _minutes(before: tuple[int, ...], minute: int, seen: bool) -> tuple[int, ...]:
    """Return the minutes of the last ten in which it was seen, this one among them."""
    kept = tuple(each for each in before if minute - SLOWED_MINUTES < each < minute)
    return (*kept, minute) if seen or minute in before else kept


def _aging(before: tuple[GpuHealth, ...], health: GpuHealth | None) -> tuple[GpuHealth, ...]:
    if health is None or (before and before[-1].boot_seconds == health.boot_seconds):
        return before
    start = health.boot_seconds - HOUR
    return (*(each for each in before if each.boot_seconds >= start), health)


def _disk(
    before: tuple[tuple[float, float], ...], now: Snapshot
) -> tuple[tuple[float, float], ...]:
    free, at = now.host.disk_free_bytes, now.host.boot_seconds
    if free is None or (before and at - before[-1][0] < MINUTE):
        return before
    return (*(point for point in before if point[0] >= at - HOUR), (at, float(free)))
