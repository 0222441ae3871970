"""What a host-state file says: a GPU host, its cards, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from gpuctl.model import GpuFacts, GpuHealth, GpuPeer

#: What a simulated replica can suffer, and what each does to it. A number follows where one is
#: named: `exit:1`, `slow_load:30`.
FAULTS: Mapping[str, str] = {
    "exit:CODE": "its container ends with this exit code, whenever it is started",
    "oom": "it is killed by its memory limit: exit code 137, OOM flag set",
    "start_refused": "the runtime will not start it",
    "refused": "it runs, and its port refuses every connection",
    "reset": "it runs, and resets every connection",
    "timeout": "it accepts every connection and answers none",
    "dead": "it answers its health check with 503, loaded or not",
    "stalled": "its health check is good and it makes no token",
    "vram_lost": "its health check is good and its processes hold no VRAM",
    "slow_load:SECONDS": "its load takes this long instead of `load_seconds`",
}

#: NVML's clock event reasons by bit, from the lowest: `nvmlClocksEventReason*` in nvml.h.
THROTTLE_REASONS = (
    "idle",
    "applications_clocks",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal",
    "hw_thermal",
    "hw_power_brake",
    "display",
)

#: What the driver asks for, by its number: `NVML_GPU_RECOVERY_ACTION_*` in nvml.h.
RECOVERY_ACTIONS = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)

Call = Literal["hang", "missing"]
ProcessType = Literal["C", "G", "C+G"]
#: As in `GpuPeer` and `Xid`.
Path = Literal["nvlink", "internal", "single", "multiple", "hostbridge", "node", "system"]
Source = Literal["nvml", "kernel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A process that holds VRAM; *container* is the replica or container it belongs to."""

    pid: int
    used_bytes: int | None = None
    container: str | None = None
    name: str | None = None
    type: ProcessType = "C"  # it computes, draws (Xorg, a game), or both, as `nvidia-smi` has it


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """One card; what is `None` it does not report."""

    index: int  # its place in NVML's enumeration
    uuid: str
    name: str
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None  # None: a driver before R510, without memory info v2
    compute_capability: tuple[int, int] | None = None
    pci_bus_id: str | None = None  # domain:bus:device.function, lower case: 00000000:01:00.0
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    utilization_ratio: float | None = None
    memory_utilization_ratio: float | None = None
    memory_temperature_celsius: float | None = None
    fan_ratio: float | None = None
    performance_state: int | None = None
    throttle_reasons: tuple[str, ...] | None = None  # of THROTTLE_REASONS
    processes: tuple[ProcessState, ...] | None = None
    facts: GpuFacts = field(default_factory=GpuFacts)  # without what the host has: see `facts`
    health: GpuHealth = field(default_factory=GpuHealth)  # without when it was read: see `health`
    lost: bool = False  # off the bus: every call on it answers GPU_IS_LOST

    @property
    def memory_used_bytes(self) -> int:
        """What its processes hold together, without what the driver reserves."""
        return sum(process.used_bytes or 0 for process in self.processes or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """How some GPUs, named by their indexes, reach each other: every one every other."""

    gpus: tuple[int, ...]
    path: Path
    p2p: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class XidState:
    """An Xid of a card, which is reported once, when it is first seen in the file."""

    gpu: int  # its index
    number: int
    source: Source = "nvml"
    pid: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """A host with its GPUs, by index, and what is wrong with it."""

    name: str
    driver_version: str | None = None  # None: no driver
    cuda_version: tuple[int, int] | None = None  # the newest that the driver serves
    cpus: int = 1
    memory_total_bytes: int
    load_seconds: float = 2.0  # how long a simulated replica loads its model
    gpus: tuple[GpuState, ...] = ()
    links: tuple[LinkState, ...] = ()  # the first that has two GPUs tells how they are linked
    xids: tuple[XidState, ...] = ()  # oldest first
    #: NVML function → seconds that each call of it takes, "hang" for one that never returns, or
    #: "missing" for one that the driver's library lacks.
    calls: Mapping[str, float | Call] = field(default_factory=dict)
    init_error: int | None = None  # the NVML return code of nvmlInit; 18: library and driver differ
    replicas: Mapping[str, str] = field(default_factory=dict)  # replica → one of FAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of a simulated replica, taken apart; *number* is the code or the seconds."""

    kind: str
    number: float | None = None


def parse_fault(text: str) -> Fault:
    """
    Return one of FAULTS with its number.

    Raises:
        ValueError: it is none of them.
    """
    kind, colon, number = text.partition(":")
    for pattern in FAULTS:
        known, takes, _ = pattern.partition(":")
        if kind != known or takes != colon:
            continue
        if not takes:
            return Fault(kind=kind)
        if re.fullmatch(r"[0-9]{1,3}" if known == "exit" else r"[0-9]{1,6}(\.[0-9]{1,3})?", number):
            return Fault(kind=kind, number=float(number))
    raise ValueError(f"{text!r} is no fault; they are {', '.join(FAULTS)}")


def facts(host: HostState, gpu: GpuState) -> GpuFacts:
    """Return a card's facts, those among them that the host has: its driver and its links."""
    return replace(
        gpu.facts,
        driver_version=host.driver_version,
        cuda_version=host.cuda_version,
        peers=_peers(host, gpu),
    )


def health(gpu: GpuState, boot_seconds: float) -> GpuHealth:
    """Return a card's health as read at that moment."""
    known = gpu.health.pcie_generation is not None or gpu.health.pcie_width is not None
    load = gpu.utilization_ratio if known else None
    return replace(gpu.health, pcie_utilization_ratio=load, boot_seconds=boot_seconds)


def _peers(host: HostState, gpu: GpuState) -> tuple[GpuPeer, ...] | None:
    """Return the cards it is linked with, `None` where no link of it is known."""
    found = []
    for other in host.gpus:
        both = {gpu.index, other.index}
        link = next((link for link in host.links if both <= set(link.gpus)), None)
        if other.uuid != gpu.uuid and link is not None:
            found.append(GpuPeer(uuid=other.uuid, path=link.path, p2p=link.p2p))
    return tuple(found) or None
