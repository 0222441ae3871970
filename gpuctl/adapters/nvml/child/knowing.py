"""What is read of a card once, in base units and by the names of `GpuFacts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pynvml

from gpuctl.adapters.nvml.child.asking import Asker, enabled, scaled, thousandth

#: Source: nvml.h, NVML_DEVICE_ARCH_*.
_ARCHITECTURES: Mapping[int | None, str] = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
}
#: Words of a bit mask of NUMA nodes: 1,024 of them, as many as Linux knows.
_NODE_WORDS = 16
#: Source: nvml.h, nvmlGpuTopologyLevel_t.
_PATHS: Mapping[int | None, str] = {
    0: "internal",
    10: "single",
    20: "multiple",
    30: "hostbridge",
    40: "node",
    50: "system",
}
_MHZ = 1e6


def identify(asker: Asker, handle: Any, uuid: str) -> dict[str, Any]:
    """
    Return who a card is.

    Source: nvmlDeviceGetName, nvmlDeviceGetCudaComputeCapability, nvmlDeviceGetPciInfo_v3;
    `nvidia-smi --query-gpu=name,compute_cap,pci.bus_id`.
    """
    pci = asker.ask(uuid, pynvml.nvmlDeviceGetPciInfo_v3, handle)
    return {
        "uuid": uuid,
        "name": pynvml.nvmlDeviceGetName(handle),
        "compute_capability": asker.ask(uuid, pynvml.nvmlDeviceGetCudaComputeCapability, handle),
        "pci_bus_id": pci and pci.busId,
    }


def driver(asker: Asker) -> dict[str, Any]:
    """
    Return the driver's version, and the newest CUDA version that it serves.

    Source: nvmlSystemGetDriverVersion, nvmlSystemGetCudaDriverVersion_v2 (13000 is 13.0);
    `nvidia-smi --query-gpu=driver_version`; the CUDA version is in the head of `nvidia-smi`.
    """
    version = asker.ask("", pynvml.nvmlSystemGetDriverVersion)
    cuda = asker.ask("", pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return {
        "driver_version": version or None,
        "cuda_version": None if cuda is None else [cuda // 1000, cuda % 1000 // 10],
    }


def know(asker: Asker, handle: Any, uuid: str) -> dict[str, Any]:
    """
    Return what does not change of a card while its driver is loaded, but for its peers.

    Source: nvmlDeviceGetSerial, nvmlDeviceGetMigMode, nvmlDeviceGetEccMode,
    nvmlDeviceGetMaxClockInfo (MHz), nvmlDeviceGetMaxPcieLinkGeneration,
    nvmlDeviceGetMaxPcieLinkWidth; nvmlDeviceGetArchitecture and nvmlDeviceGetMinorNumber are in
    `nvidia-smi -q`;
    `nvidia-smi --query-gpu=serial,mig.mode.current,ecc.mode.current,clocks.max.sm,
    clocks.max.memory,pcie.link.gen.max,pcie.link.width.max`.
    """
    ask, clock = asker.ask, pynvml.nvmlDeviceGetMaxClockInfo
    mig = ask(uuid, pynvml.nvmlDeviceGetMigMode, handle)
    ecc = ask(uuid, pynvml.nvmlDeviceGetEccMode, handle)
    return {
        "serial": ask(uuid, pynvml.nvmlDeviceGetSerial, handle) or None,
        "architecture": _ARCHITECTURES.get(ask(uuid, pynvml.nvmlDeviceGetArchitecture, handle)),
        "minor_number": ask(uuid, pynvml.nvmlDeviceGetMinorNumber, handle),
        "numa_node": _numa_node(asker, handle, uuid),
        "mig_enabled": mig and enabled(mig[0]),
        "ecc_enabled": ecc and enabled(ecc[0]),
        "sm_clock_max_hertz": scaled(ask(uuid, clock, handle, pynvml.NVML_CLOCK_SM), _MHZ),
        "memory_clock_max_hertz": scaled(ask(uuid, clock, handle, pynvml.NVML_CLOCK_MEM), _MHZ),
        "pcie_generation_max": ask(uuid, pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        "pcie_width_max": ask(uuid, pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        **_power_limits(asker, handle, uuid),
        **_temperature_limits(asker, handle, uuid),
    }


def _numa_node(asker: Asker, handle: Any, uuid: str) -> int | None:
    """
    Return the only node near the card, None where several are or none is told.

    Source: nvmlDeviceGetMemoryAffinity; `nvidia-smi topo -m`, NUMA Affinity.
    """
    function, scope = pynvml.nvmlDeviceGetMemoryAffinity, pynvml.NVML_AFFINITY_SCOPE_NODE
    words = asker.ask(uuid, function, handle, _NODE_WORDS, scope)
    bits = sum(word << 64 * place for place, word in enumerate(words or ()))
    return bits.bit_length() - 1 if bits.bit_count() == 1 else None


def _power_limits(asker: Asker, handle: Any, uuid: str) -> dict[str, float | None]:
    """
    Return watts.

    Source: nvmlDeviceGetPowerManagementDefaultLimit and
    nvmlDeviceGetPowerManagementLimitConstraints (mW);
    `nvidia-smi --query-gpu=power.default_limit,power.min_limit,power.max_limit`.
    """
    default = asker.ask(uuid, pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)
    both = asker.ask(uuid, pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
    lowest, highest = both or (None, None)
    return {
        "power_limit_default_watts": thousandth(default),
        "power_limit_min_watts": thousandth(lowest),
        "power_limit_max_watts": thousandth(highest),
    }


def _temperature_limits(asker: Asker, handle: Any, uuid: str) -> dict[str, float | None]:
    """
    Return °C.

    Source: nvmlDeviceGetTemperatureThreshold; `nvidia-smi -q -d TEMPERATURE`.
    """
    limits = {
        "temperature_shutdown_celsius": pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN,
        "temperature_slowdown_celsius": pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
        "temperature_max_celsius": pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX,
        "memory_temperature_max_celsius": pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX,
    }
    threshold = pynvml.nvmlDeviceGetTemperatureThreshold
    told = {name: asker.ask(uuid, threshold, handle, which) for name, which in limits.items()}
    if all(value is None for value in told.values()):
        told.update(_by_margin(asker, handle, uuid))
    return {name: scaled(value, 1.0) for name, value in told.items()}


def _by_margin(asker: Asker, handle: Any, uuid: str) -> dict[str, int]:
    """
    Return °C of cards from Ada on, which tell limits as margins: what is left until the hottest.

    At a margin of 40 and 45 °C, a shutdown at a margin of -8 is one at 93 °C.
    Source: nvmlDeviceGetTemperature, nvmlDeviceGetMarginTemperature, fields
    NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT and its like;
    `nvidia-smi --query-gpu=temperature.gpu,temperature.gpu.tlimit`.
    """
    fields = {
        "temperature_shutdown_celsius": pynvml.NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT,
        "temperature_slowdown_celsius": pynvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT,
        "temperature_max_celsius": pynvml.NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT,
    }
    function, core = pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU
    celsius = asker.ask(uuid, function, handle, core)
    margin = asker.ask(uuid, pynvml.nvmlDeviceGetMarginTemperature, handle)
    if celsius is None or margin is None:
        return {}
    limits = asker.fields(uuid, handle, tuple(fields.values()))
    told = zip(fields, limits, strict=True)
    return {name: celsius + margin - limit for name, limit in told if limit is not None}


def link(asker: Asker, cards: tuple[str, Any], others: tuple[str, Any]) -> dict[str, Any] | None:
    """
    Return how one card, by UUID and handle, reaches another; None where that is not told.

    Source: nvmlDeviceGetTopologyCommonAncestor, nvmlDeviceGetP2PStatus; `nvidia-smi topo -m` and
    `nvidia-smi topo -p2p r`, of which -p2p n tells NVLink.
    """
    pair = f"{cards[0]} {others[0]}"
    ancestor, status = pynvml.nvmlDeviceGetTopologyCommonAncestor, pynvml.nvmlDeviceGetP2PStatus
    level = asker.ask(pair, ancestor, cards[1], others[1])
    # The binding has the first of the capabilities as a tuple (13.615): its number is 0.
    read = asker.ask(pair, status, cards[1], others[1], 0)
    nvlink = asker.ask(pair, status, cards[1], others[1], pynvml.NVML_P2P_CAPS_INDEX_NVLINK)
    path = "nvlink" if nvlink == pynvml.NVML_P2P_STATUS_OK else _PATHS.get(level)
    if path is None:
        return None
    p2p = None if read is None else read == pynvml.NVML_P2P_STATUS_OK
    return {"uuid": others[0], "path": path, "p2p": p2p}
