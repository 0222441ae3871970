"""What a host-state file says: a GPU host, its cards, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A process that holds VRAM; *container* is the replica or container it belongs to."""

    pid: int
    used_bytes: int | None = None
    container: str | None = None
    name: str | None = None


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
    utilization_ratio: float | None = None
    throttle_reasons: tuple[str, ...] | None = None  # of THROTTLE_REASONS
    processes: tuple[ProcessState, ...] | None = None
    lost: bool = False  # off the bus: every call on it answers GPU_IS_LOST

    @property
    def memory_used_bytes(self) -> int:
        """What its processes hold together, without what the driver reserves."""
        return sum(process.used_bytes or 0 for process in self.processes or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """A host with its GPUs, by index, and what is wrong with it."""

    name: str
    driver_version: str | None = None  # None: no driver
    cpus: int = 1
    memory_total_bytes: int
    load_seconds: float = 2.0  # how long a simulated replica loads its model
    gpus: tuple[GpuState, ...] = ()
    #: NVML function → seconds that each call of it takes, or "hang" for one that never returns.
    calls: Mapping[str, float | Literal["hang"]] = field(default_factory=dict)
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
