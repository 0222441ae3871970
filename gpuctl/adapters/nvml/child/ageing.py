"""What is read of a card each minute, in base units and by the names of `GpuHealth`."""

from __future__ import annotations

import time
from typing import Any

import pynvml

from gpuctl.adapters.nvml.child.asking import Asker, enabled, thousandth

#: Source: nvml.h, NVML_GPU_RECOVERY_ACTION_*.
_RECOVERY = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)
_FIELDS = (
    pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
    pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
)


def age(asker: Asker, handle: Any, uuid: str, utilization: int | None) -> dict[str, Any]:
    """
    Return the counters of a card that is *utilization* percent busy.

    Source: nvmlDeviceGetRetiredPagesPendingStatus, fields NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION (mJ,
    which `nvidia-smi` does not tell) and NVML_FI_DEV_GET_GPU_RECOVERY_ACTION (in `nvidia-smi -q`);
    `nvidia-smi --query-gpu=retired_pages.pending`.
    """
    energy, recovery = asker.fields(uuid, handle, _FIELDS)
    pending = asker.ask(uuid, pynvml.nvmlDeviceGetRetiredPagesPendingStatus, handle)
    known = recovery is not None and 0 <= recovery < len(_RECOVERY)
    return {
        **_ecc(asker, handle, uuid),
        **_rows(asker, handle, uuid),
        **_pcie(asker, handle, uuid, utilization),
        "retired_pages_pending": enabled(pending),
        "recovery_action": _RECOVERY[recovery] if known else None,
        "energy_joules": thousandth(energy),
        "boot_seconds": time.clock_gettime(time.CLOCK_BOOTTIME),
    }


def _ecc(asker: Asker, handle: Any, uuid: str) -> dict[str, int | None]:
    """
    Return the errors counted.

    Source: nvmlDeviceGetTotalEccErrors;
    `nvidia-smi --query-gpu=ecc.errors.corrected.volatile.total,
    ecc.errors.uncorrected.volatile.total,ecc.errors.corrected.aggregate.total,
    ecc.errors.uncorrected.aggregate.total`.
    """
    kinds = {
        "corrected": pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED,
        "uncorrected": pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
    }
    counters = {"volatile": pynvml.NVML_VOLATILE_ECC, "aggregate": pynvml.NVML_AGGREGATE_ECC}
    function = pynvml.nvmlDeviceGetTotalEccErrors
    return {
        f"ecc_{what}_{since}": asker.ask(uuid, function, handle, kind, counter)
        for what, kind in kinds.items()
        for since, counter in counters.items()
    }


def _rows(asker: Asker, handle: Any, uuid: str) -> dict[str, int | bool | None]:
    """
    Return the rows put out of use, from Ampere on.

    Source: nvmlDeviceGetRemappedRows;
    `nvidia-smi --query-remapped-rows=remapped_rows.correctable,remapped_rows.uncorrectable,
    remapped_rows.pending,remapped_rows.failure`.
    """
    rows = asker.ask(uuid, pynvml.nvmlDeviceGetRemappedRows, handle)
    correctable, uncorrectable, pending, failure = rows or (None,) * 4
    return {
        "remapped_rows_correctable": correctable,
        "remapped_rows_uncorrectable": uncorrectable,
        "remapped_rows_pending": enabled(pending),
        "remapped_rows_failure": enabled(failure),
    }


def _pcie(
    asker: Asker, handle: Any, uuid: str, utilization: int | None
) -> dict[str, int | float | None]:
    """
    Return the link as it is now; an idle card lowers its generation.

    Source: nvmlDeviceGetCurrPcieLinkGeneration, nvmlDeviceGetCurrPcieLinkWidth,
    nvmlDeviceGetPcieReplayCounter (in `nvidia-smi -q`);
    `nvidia-smi --query-gpu=pcie.link.gen.current,pcie.link.width.current`.
    """
    generation = asker.ask(uuid, pynvml.nvmlDeviceGetCurrPcieLinkGeneration, handle)
    width = asker.ask(uuid, pynvml.nvmlDeviceGetCurrPcieLinkWidth, handle)
    known = generation is not None or width is not None
    return {
        "pcie_generation": generation,
        "pcie_width": width,
        "pcie_replays": asker.ask(uuid, pynvml.nvmlDeviceGetPcieReplayCounter, handle),
        "pcie_utilization_ratio": None if utilization is None or not known else utilization / 100,
    }
