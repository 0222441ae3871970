"""
Reads the GPUs through NVML, in a process of its own: a line on stdin, a line of JSON on stdout.

`NvmlGpus` runs this file as a script and may kill it at any time. It imports nothing of gpuctl, so
that it stays small: a sick GPU leaves it behind in the kernel, where nothing can end it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml

#: The driver, library or card has no such reading, and never will: not asked again.
_UNSUPPORTED = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)
#: The card is off the bus, or will answer nothing before it is reset.
_LOST = frozenset(
    {
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_RESET_REQUIRED,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
    }
)
#: Of no single card: the library or the driver under all of them.
_DRIVER = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
#: A card that came back is seen only by a new nvmlInit: with one lost, this process ends at that
#: age and another takes its place.
_LOST_SECONDS = 60.0


class Reader:
    """What is known of the cards between two readings: who they are, and what they lack."""

    def __init__(self) -> None:
        self._identities: dict[str, dict[str, Any]] = {}
        self._unsupported: set[tuple[str, str]] = set()

    def read(self) -> list[dict[str, Any]]:
        """
        Return every GPU in NVML's order, a lost one with its index only.

        Lost is whatever card cannot be asked for its identity: a sick one is told by
        NVML_ERROR_UNKNOWN as often as by GPU_IS_LOST, and must not hide the others. Raises for a
        failure of the driver, which is what it is when no card answers and none is lost for sure.
        Source: nvmlDeviceGetCount_v2; `nvidia-smi --query-gpu=index`.
        """
        gpus: list[dict[str, Any]] = []
        errors: list[pynvml.NVMLError] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                gpus.append(self._gpu(index))
            except pynvml.NVMLError as error:
                if error.value in _DRIVER:
                    raise
                errors.append(error)
                gpus.append({"index": index, "lost": True})
        if errors and len(errors) == len(gpus) and not any(e.value in _LOST for e in errors):
            raise errors[0]
        return gpus

    def _gpu(self, index: int) -> dict[str, Any]:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        identity = self._identities.get(uuid)
        if identity is None:
            identity = self._identities[uuid] = self._identify(handle, uuid)
        return {"index": index, **identity, **self._measure(handle, uuid)}

    def _identify(self, handle: Any, uuid: str) -> dict[str, Any]:
        """
        Return what never changes of a card.

        Source: nvmlDeviceGetName, nvmlDeviceGetCudaComputeCapability, nvmlDeviceGetPciInfo_v3;
        `nvidia-smi --query-gpu=name,compute_cap,pci.bus_id`.
        """
        pci = self._ask(uuid, pynvml.nvmlDeviceGetPciInfo_v3, handle)
        return {
            "uuid": uuid,
            "name": pynvml.nvmlDeviceGetName(handle),
            "compute_capability": self._ask(
                uuid, pynvml.nvmlDeviceGetCudaComputeCapability, handle
            ),
            "pci_bus_id": pci and pci.busId,
        }

    def _measure(self, handle: Any, uuid: str) -> dict[str, Any]:
        """
        Return the readings, in NVML's own units.

        Source: nvmlDeviceGetUtilizationRates (%), nvmlDeviceGetTemperature (°C),
        nvmlDeviceGetPowerUsage and nvmlDeviceGetEnforcedPowerLimit (mW), nvmlDeviceGetClockInfo
        (MHz), nvmlDeviceGetCurrentClocksEventReasons (bits);
        `nvidia-smi --query-gpu=utilization.gpu,temperature.gpu,power.draw,enforced.power.limit,
        clocks.sm,clocks_event_reasons.active`.
        """
        utilization = self._ask(uuid, pynvml.nvmlDeviceGetUtilizationRates, handle)
        return {
            **self._memory(handle, uuid),
            "utilization": None if utilization is None else utilization.gpu,
            "temperature": self._temperature(handle, uuid),
            "power": self._ask(uuid, pynvml.nvmlDeviceGetPowerUsage, handle),
            "power_limit": self._ask(uuid, pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
            "sm_clock": self._ask(
                uuid, pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM
            ),
            "throttle_reasons": self._throttle_reasons(handle, uuid),
            "processes": self._processes(handle, uuid),
        }

    def _memory(self, handle: Any, uuid: str) -> dict[str, int | None]:
        """
        Return bytes; the first version counts what the driver reserves as used.

        Source: nvmlDeviceGetMemoryInfo_v2, on drivers before R510 nvmlDeviceGetMemoryInfo;
        `nvidia-smi --query-gpu=memory.total,memory.used,memory.reserved`.
        """
        reserved = None
        memory = self._ask(uuid, _memory_v2, handle)
        if memory is not None:
            reserved = memory.reserved
        else:
            memory = self._ask(uuid, pynvml.nvmlDeviceGetMemoryInfo, handle)
        return {
            "memory_total": memory and memory.total,
            "memory_used": memory and memory.used,
            "memory_reserved": reserved,
        }

    def _temperature(self, handle: Any, uuid: str) -> int | None:
        """
        Return the core's °C; the first call is deprecated, the second missing before R560.

        Source: nvmlDeviceGetTemperature, nvmlDeviceGetTemperatureV;
        `nvidia-smi --query-gpu=temperature.gpu`.
        """
        for function in (pynvml.nvmlDeviceGetTemperature, pynvml.nvmlDeviceGetTemperatureV):
            found: int | None = self._ask(uuid, function, handle, pynvml.NVML_TEMPERATURE_GPU)
            if found is not None:
                return found
        return None

    def _throttle_reasons(self, handle: Any, uuid: str) -> int | None:
        """
        Return the bits; the second is the first one's name before R535.

        Source: nvmlDeviceGetCurrentClocksEventReasons, nvmlDeviceGetCurrentClocksThrottleReasons;
        `nvidia-smi --query-gpu=clocks_event_reasons.active`.
        """
        for function in (
            pynvml.nvmlDeviceGetCurrentClocksEventReasons,
            pynvml.nvmlDeviceGetCurrentClocksThrottleReasons,
        ):
            found: int | None = self._ask(uuid, function, handle)
            if found is not None:
                return found
        return None

    def _processes(self, handle: Any, uuid: str) -> list[tuple[int, int | None]] | None:
        """
        Return (pid, bytes) of each; the bytes are None where the driver cannot tell.

        Source: nvmlDeviceGetComputeRunningProcesses_v3, before R510 _v2;
        `nvidia-smi --query-compute-apps=pid,used_gpu_memory`.
        """
        for function in (
            pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
            pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
        ):
            found = self._ask(uuid, function, handle)
            if found is not None:
                return [(process.pid, process.usedGpuMemory) for process in found]
        return None

    def _ask(self, uuid: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what NVML says, None where it does not; raise for a lost card only."""
        key = (uuid, function.__name__)
        if key in self._unsupported:
            return None
        try:
            return function(*arguments)
        except pynvml.NVMLError as error:
            if error.value in _LOST:
                raise
            if error.value in _UNSUPPORTED:
                self._unsupported.add(key)
            return None


def main() -> None:
    """Answer each line until there are no more, NVML fails, or a lost card needs a new start."""
    answers = _keep_stdout()
    began, reader = time.monotonic(), Reader()
    initialised = False
    while sys.stdin.readline():
        at, boot_seconds = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            if not initialised:
                pynvml.nvmlInit()
                initialised = True
            gpus = reader.read()
        except pynvml.NVMLError as error:
            _answer(answers, {"error": error.value, "message": str(error)})
            return
        _answer(answers, {"gpus": gpus, "at": at, "boot_seconds": boot_seconds})
        lost = any("lost" in gpu for gpu in gpus)
        if lost and time.monotonic() - began > _LOST_SECONDS:
            return


def _memory_v2(handle: Any) -> Any:
    return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)


def _keep_stdout() -> int:
    """Return a descriptor for the answers; what the driver's library prints goes nowhere."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answers


def _answer(descriptor: int, document: dict[str, Any]) -> None:
    content = json.dumps(document).encode() + b"\n"
    while content:
        content = content[os.write(descriptor, content) :]


if __name__ == "__main__":
    main()
