"""The GPUs of the Status document, and of `gpuctl gpus` where no daemon runs. PURE."""

from __future__ import annotations

from collections.abc import Container

from gpuctl.model import GpuIdentity, GpuReading, Plan, Snapshot
from gpuctl.model.status import GpuStatus


def gpus(plan: Plan, now: Snapshot) -> list[GpuStatus]:
    """Return the GPUs by index; one that was planned with and is not listed any more is missing."""
    reserve = {gpu.uuid for gpu in plan.reserve}
    found = [of_reading(gpu, reserve) for gpu in now.gpus.values()]
    if now.gpus_boot_seconds is None:
        return found
    read_at = now.at + now.gpus_boot_seconds - now.boot_seconds
    missing = [_missing(gpu, read_at) for gpu in plan.gpus if gpu.uuid not in now.gpus]
    return sorted((*found, *missing), key=lambda gpu: gpu["index"])


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


def of_reading(gpu: GpuReading, reserve: Container[str] = ()) -> GpuStatus:
    """Return what the world may see of one GPU; *reserve* are the UUIDs of those kept back."""
    state = "reserve" if gpu.state == "ok" and gpu.uuid in reserve else gpu.state
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
    )
