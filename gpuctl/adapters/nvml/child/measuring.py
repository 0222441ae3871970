"""What is read of a card every time, in NVML's own units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pynvml

from gpuctl.adapters.nvml.child.asking import Asker

#: A process, and the bytes it holds.
Held = tuple[int, int | None]


def measure(asker: Asker, handle: Any, uuid: str) -> dict[str, Any]:
    """
    Return the readings.

    Source: nvmlDeviceGetUtilizationRates (%), nvmlDeviceGetPowerUsage and
    nvmlDeviceGetEnforcedPowerLimit (mW), nvmlDeviceGetClockInfo (MHz), nvmlDeviceGetFanSpeed (%),
    field NVML_FI_DEV_MEMORY_TEMP (°C);
    `nvidia-smi --query-gpu=utilization.gpu,utilization.memory,power.draw,enforced.power.limit,
    clocks.sm,clocks.mem,fan.speed,temperature.memory`.
    """
    utilization = asker.ask(uuid, pynvml.nvmlDeviceGetUtilizationRates, handle)
    (memory_temperature,) = asker.fields(uuid, handle, (pynvml.NVML_FI_DEV_MEMORY_TEMP,))
    clock = pynvml.nvmlDeviceGetClockInfo
    return {
        **_memory(asker, handle, uuid),
        "utilization": utilization and utilization.gpu,
        "memory_utilization": utilization and utilization.memory,
        "temperature": _temperature(asker, handle, uuid),
        "memory_temperature": memory_temperature,
        "power": asker.ask(uuid, pynvml.nvmlDeviceGetPowerUsage, handle),
        "power_limit": asker.ask(uuid, pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
        "sm_clock": asker.ask(uuid, clock, handle, pynvml.NVML_CLOCK_SM),
        "memory_clock": asker.ask(uuid, clock, handle, pynvml.NVML_CLOCK_MEM),
        "fan": asker.ask(uuid, pynvml.nvmlDeviceGetFanSpeed, handle),
        "performance_state": _performance_state(asker, handle, uuid),
        "throttle_reasons": _throttle_reasons(asker, handle, uuid),
        "processes": _processes(asker, handle, uuid),
    }


def _memory(asker: Asker, handle: Any, uuid: str) -> dict[str, int | None]:
    """
    Return bytes; the first version counts what the driver reserves as used.

    Source: nvmlDeviceGetMemoryInfo_v2, on drivers before R510 nvmlDeviceGetMemoryInfo;
    `nvidia-smi --query-gpu=memory.total,memory.used,memory.reserved`.
    """
    reserved = None
    memory = asker.ask(uuid, _memory_v2, handle)
    if memory is not None:
        reserved = memory.reserved
    else:
        memory = asker.ask(uuid, pynvml.nvmlDeviceGetMemoryInfo, handle)
    return {
        "memory_total": memory and memory.total,
        "memory_used": memory and memory.used,
        "memory_reserved": reserved,
    }


def _memory_v2(handle: Any) -> Any:
    return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)


def _temperature(asker: Asker, handle: Any, uuid: str) -> int | None:
    """
    Return the core's °C; the first call is deprecated, the second missing before R560.

    Source: nvmlDeviceGetTemperature, nvmlDeviceGetTemperatureV;
    `nvidia-smi --query-gpu=temperature.gpu`.
    """
    for function in (pynvml.nvmlDeviceGetTemperature, pynvml.nvmlDeviceGetTemperatureV):
        found: int | None = asker.ask(uuid, function, handle, pynvml.NVML_TEMPERATURE_GPU)
        if found is not None:
            return found
    return None


def _performance_state(asker: Asker, handle: Any, uuid: str) -> int | None:
    """
    Return the number of the P-state.

    Source: nvmlDeviceGetPerformanceState; `nvidia-smi --query-gpu=pstate`.
    """
    state: int | None = asker.ask(uuid, pynvml.nvmlDeviceGetPerformanceState, handle)
    return None if state == pynvml.NVML_PSTATE_UNKNOWN else state


def _throttle_reasons(asker: Asker, handle: Any, uuid: str) -> int | None:
    """
    Return the bits; the second is the first one's name before R535.

    Source: nvmlDeviceGetCurrentClocksEventReasons, nvmlDeviceGetCurrentClocksThrottleReasons;
    `nvidia-smi --query-gpu=clocks_event_reasons.active`.
    """
    for function in (
        pynvml.nvmlDeviceGetCurrentClocksEventReasons,
        pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
    ):
        found: int | None = asker.ask(uuid, function, handle)
        if found is not None:
            return found
    return None


def _processes(asker: Asker, handle: Any, uuid: str) -> list[Held] | None:
    """
    Return (pid, bytes) of each; the bytes are None where the driver cannot tell.

    Those that draw (a display server, a game) are in a list of their own, which a card may lack.
    Source: nvmlDeviceGetComputeRunningProcesses_v3 and nvmlDeviceGetGraphicsRunningProcesses_v3,
    before R510 _v2; `nvidia-smi --query-compute-apps=pid,used_gpu_memory`; those that draw are
    type G in `nvidia-smi`.
    """
    compute = _listed(
        asker,
        handle,
        uuid,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
    )
    # Without them nobody could tell whether an engine holds anything.
    if compute is None:
        return None
    graphics = _listed(
        asker,
        handle,
        uuid,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2,
    )
    return merged(compute, graphics or [])


def _listed(
    asker: Asker, handle: Any, uuid: str, *functions: Callable[[Any], Any]
) -> list[Held] | None:
    for function in functions:
        found = asker.ask(uuid, function, handle)
        if found is not None:
            return [(process.pid, process.usedGpuMemory) for process in found]
    return None


def merged(compute: Sequence[Held], graphics: Sequence[Held]) -> list[Held]:
    """
    Return who computes and then who only draws.

    Who does both (type C+G in `nvidia-smi`) is there once, with the larger number: the lists are
    read one after the other.
    """
    drawn = dict(graphics)
    both = [(pid, _larger(used, drawn.pop(pid, None))) for pid, used in compute]
    return [*both, *drawn.items()]


def _larger(used: int | None, other: int | None) -> int | None:
    return max((each for each in (used, other) if each is not None), default=None)
