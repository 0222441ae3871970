"""The GPUs of the Status document, and of `gpuctl gpus` where no daemon runs. PURE."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import replace

from gpuctl import heat, pressure
from gpuctl.history import GpuHistory, History
from gpuctl.model import GpuIdentity, GpuReading, Plan, Snapshot, WatchdogSettings
from gpuctl.model.status import (
    ForecastStatus,
    GpuHealthStatus,
    GpuProcessStatus,
    GpuStatus,
    GpuWatched,
    PressureStatus,
    XidStatus,
)
from gpuctl.peaks import Peaks
from gpuctl.trends import GpuTrend, Trends

_NOTHING = History()
_NO_TRENDS = Trends()
_NO_PEAKS = Peaks(since=0.0)
#: Processes listed of one GPU; a card that more share is told by its sum.
_PROCESSES = 16


def gpus(
    plan: Plan,
    now: Snapshot,
    cordoned: Collection[str] = (),
    history: History = _NOTHING,
    trends: Trends = _NO_TRENDS,
    peaks: Peaks = _NO_PEAKS,
) -> list[GpuStatus]:
    """
    Return the GPUs by index, those that were planned with and are not listed any more as missing.

    Before the first reading all of them are unknown.
    """
    reserve = {gpu.uuid for gpu in plan.reserve}
    known = {gpu.uuid: gpu for gpu in plan.gpus}
    found = [
        GpuStatus(
            **of_reading(_sized(gpu, known.get(gpu.uuid)), reserve, cordoned),
            **_watched(gpu, trends.gpu(gpu.uuid), plan.watchdog),
            xids=_xids(history.gpu(gpu.uuid), now),
        )
        for gpu in now.gpus.values()
    ]
    if now.gpus_boot_seconds is None:
        unread = [_unread(gpu, _xids(history.gpu(gpu.uuid), now)) for gpu in plan.gpus]
        return sorted(unread, key=lambda gpu: gpu["index"])
    read_at = now.at + now.gpus_boot_seconds - now.boot_seconds
    missing = [_missing(gpu, read_at) for gpu in plan.gpus if gpu.uuid not in now.gpus]
    for each in (*found, *missing):
        if told := peaks.highest(each["uuid"]):
            each["peaks"] = told
    return sorted((*found, *missing), key=lambda gpu: gpu["index"])


def _sized(gpu: GpuReading, known: GpuIdentity | None) -> GpuReading:
    """Return the reading with what a card that tells nothing any more was known to have."""
    if gpu.memory_total_bytes is not None or known is None:
        return gpu
    return replace(gpu, memory_total_bytes=known.memory_total_bytes)


def _unread(gpu: GpuIdentity, xids: list[XidStatus]) -> GpuStatus:
    found = _missing(gpu, 0.0)
    found["state"], found["at"], found["xids"] = "unknown", None, xids
    return found


def _missing(gpu: GpuIdentity, read_at: float) -> GpuStatus:
    reading = GpuReading(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name or "unknown",
        state="missing",
        memory_total_bytes=gpu.memory_total_bytes,
        at=read_at,
        boot_seconds=0.0,
    )
    return of_reading(reading)


def of_reading(
    gpu: GpuReading, reserve: Container[str] = (), cordoned: Container[str] = ()
) -> GpuStatus:
    """Return what the world may see of one GPU; the others are UUIDs of those kept back."""
    state: str = gpu.state
    if state == "ok" and gpu.uuid in cordoned:
        state = "cordoned"
    elif state == "ok" and gpu.uuid in reserve:
        state = "reserve"
    return GpuStatus(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        memory_total_bytes=gpu.memory_total_bytes,
        memory_used_bytes=gpu.memory_used_bytes,
        utilization_ratio=gpu.utilization_ratio,
        temperature_celsius=gpu.temperature_celsius,
        power_watts=gpu.power_watts,
        throttle_reasons=None if gpu.throttle_reasons is None else list(gpu.throttle_reasons),
        state=state,
        at=gpu.at,
        power_limit_watts=gpu.power_limit_watts,
        sm_clock_hertz=gpu.sm_clock_hertz,
        memory_clock_hertz=gpu.memory_clock_hertz,
        memory_temperature_celsius=gpu.memory_temperature_celsius,
        fan_ratio=gpu.fan_ratio,
        processes=_processes(gpu),
        health=_health(gpu),
    )


def now_only(gpu: GpuReading, settings: WatchdogSettings) -> GpuStatus:
    """Return what one reading shows by itself, where no daemon has watched the GPU."""
    level = pressure.pressure(gpu, settings)
    return GpuStatus(
        **of_reading(gpu),
        pressure=_pressure(gpu, level, settings),
        heat=heat.heat(gpu, settings) or None,
    )


def _watched(gpu: GpuReading, trend: GpuTrend, settings: WatchdogSettings) -> GpuWatched:
    foreseen = trend.forecast
    return GpuWatched(
        pressure=_pressure(gpu, trend.pressure, settings),
        # The last level of a card that cannot be asked is none that it has now.
        heat=(trend.heat or None) if gpu.state == "ok" else None,
        forecast=ForecastStatus(
            unknown=foreseen.unknown,
            level=foreseen.level,
            seconds=round(foreseen.seconds),
            least_seconds=round(foreseen.least_seconds),
            most_seconds=round(foreseen.most_seconds),
        ),
        trend=trend.columns,
    )


def _pressure(gpu: GpuReading, level: str, settings: WatchdogSettings) -> PressureStatus | None:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    if not level or used is None or total is None:
        return None
    return PressureStatus(
        level=level,
        action=pressure.LEVELS[level].action,
        room_bytes=pressure.room_bytes(level, used, total, settings),
    )


def _processes(gpu: GpuReading) -> list[GpuProcessStatus] | None:
    """Return those that hold most, the largest first."""
    if gpu.processes is None:
        return None
    held = sorted(gpu.processes, key=lambda process: -(process.used_bytes or 0))
    return [
        GpuProcessStatus(
            pid=process.pid,
            name=process.name,
            vram_bytes=process.used_bytes,
            container=process.container,
        )
        for process in held[:_PROCESSES]
    ]


def _health(gpu: GpuReading) -> GpuHealthStatus | None:
    health = gpu.health
    if health is None:
        return None
    return GpuHealthStatus(
        ecc_corrected=health.ecc_corrected_volatile,
        ecc_uncorrected=health.ecc_uncorrected_volatile,
        remapped_rows=_sum(health.remapped_rows_correctable, health.remapped_rows_uncorrectable),
        remapped_rows_pending=health.remapped_rows_pending,
        remapped_rows_failure=health.remapped_rows_failure,
        pcie_generation=health.pcie_generation,
        pcie_width=health.pcie_width,
        recovery_action=health.recovery_action,
    )


def _sum(*counts: int | None) -> int | None:
    """Return the sum of the counts that are told, `None` where none is."""
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def _xids(known: GpuHistory, now: Snapshot) -> list[XidStatus]:
    """Return each Xid since an operator last found the GPU well, the latest first."""
    found: dict[int, XidStatus] = {}
    for record in reversed(known.xids):
        if known.cleared_at is not None and record.at <= known.cleared_at:
            break
        at = now.at + record.at - now.boot_seconds
        told = found.setdefault(record.number, XidStatus(number=record.number, count=0, at=at))
        told["count"] += 1
    return list(found.values())
