"""
What was read from the host: each sampler's latest, gathered by `observe` into one Snapshot.

`None` always means "the device (or engine) does not report it". `*_boot_seconds` are on
CLOCK_BOOTTIME of the present boot; `*_at` are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that holds VRAM on a GPU."""

    pid: int
    used_bytes: int | None = None
    container: str | None = None  # id of the container (or process group) it belongs to, if known
    name: str | None = None  # the program, for messages about strangers
    device_access: bool | None = None  # its cgroup lets it open NVIDIA's devices; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPeer:
    """How one GPU reaches another."""

    uuid: str
    #: The nearest thing both hang on: NVLink itself, or the common ancestor as `nvidia-smi topo -m`
    #: has it.
    path: Literal["nvlink", "internal", "single", "multiple", "hostbridge", "node", "system"]
    p2p: bool | None = None  # whether each may read the other's memory


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """What does not change of a card while its driver is loaded; read once."""

    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None  # the newest that the driver serves
    serial: str | None = None
    architecture: str | None = None  # pascal | turing | ampere | ada | hopper …
    minor_number: int | None = None  # of /dev/nvidia<minor>
    numa_node: int | None = None
    mig_enabled: bool | None = None
    ecc_enabled: bool | None = None
    sm_clock_max_hertz: float | None = None
    memory_clock_max_hertz: float | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None
    power_limit_default_watts: float | None = None
    power_limit_min_watts: float | None = None
    power_limit_max_watts: float | None = None
    temperature_max_celsius: float | None = None  # it is made to run below this
    temperature_slowdown_celsius: float | None = None  # hardware halves its clocks
    temperature_shutdown_celsius: float | None = None
    memory_temperature_max_celsius: float | None = None
    peers: tuple[GpuPeer, ...] | None = None  # the other GPUs of the host, by index


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """What ages slowly of a card; read every minute."""

    ecc_corrected_volatile: int | None = None  # since the driver was loaded
    ecc_uncorrected_volatile: int | None = None
    ecc_corrected_aggregate: int | None = None  # in the card's life
    ecc_uncorrected_aggregate: int | None = None
    remapped_rows_correctable: int | None = None
    remapped_rows_uncorrectable: int | None = None
    remapped_rows_pending: bool | None = None  # a reset will put one out of use
    remapped_rows_failure: bool | None = None  # there was no row left to take its place
    retired_pages_pending: bool | None = None  # the same of cards before Ampere
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_replays: int | None = None  # packets sent again, since the driver was loaded
    #: The card's utilization when its link was read: an idle card lowers its generation.
    pcie_utilization_ratio: float | None = None
    #: none | gpu_reset | node_reboot | drain_p2p | drain_and_reset | … : what the driver asks for.
    recovery_action: str | None = None
    energy_joules: float | None = None  # since the driver was loaded
    boot_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Xid:
    """An error that NVIDIA's driver reported of a GPU."""

    number: int
    gpu: str = ""  # UUID; "" where no GPU of that bus id is known
    pci_bus_id: str | None = None  # 00000000:01:00.0
    source: Literal["nvml", "kernel"]
    pid: int | None = None  # of the process it names
    message: str = ""  # the kernel's words
    at: float  # Unix seconds
    boot_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    index: int
    uuid: str
    name: str
    #: lost: NVML lists it and cannot ask it. missing: it was planned with, and is not listed.
    state: Literal["ok", "lost", "missing"] = "ok"
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    utilization_ratio: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    sm_clock_hertz: float | None = None
    memory_clock_hertz: float | None = None
    memory_utilization_ratio: float | None = None  # of the time, its memory was read or written
    memory_temperature_celsius: float | None = None
    fan_ratio: float | None = None
    performance_state: int | None = None  # 0 is the fastest
    throttle_reasons: tuple[str, ...] | None = None
    compute_capability: tuple[int, int] | None = None
    pci_bus_id: str | None = None
    processes: tuple[GpuProcess, ...] | None = None
    facts: GpuFacts | None = None  # None until read: of a lost card, what was read before
    health: GpuHealth | None = None
    at: float  # Unix seconds
    boot_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReading:
    """One container of ours, running or not; `removed` is one that vanished under our eyes."""

    id: str
    name: str
    replica: str
    profile: str = ""
    state: Literal["created", "running", "paused", "exited", "dead", "removing", "removed"]
    pid: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    signalled: bool = False  # the runtime told that a client had it signalled, since its start
    error: str = ""  # the runtime's own words for a start that failed
    gpus: tuple[str, ...] = ()  # UUIDs, from the label
    attempt: str = ""
    digest: str = ""
    memory_bytes: int | None = None  # what it holds of host RAM, where the runtime tells
    cpu_seconds: float | None = None  # processor time used since its start, where that is told
    boot_seconds: float = 0.0  # when this was read


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine's own metrics say; an engine that lacks one leaves it None."""

    progress: float | None = None  # any number that grows while tokens are worked on
    running: int | None = None  # requests being answered
    waiting: int | None = None  # requests queued inside the engine
    kv_ratio: float | None = None
    sleeping: bool | None = None  # unloaded on purpose


Outcome = Literal["ok", "loading", "refused", "reset", "timeout", "dead", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """One answer to one probe, as the prober saw it."""

    outcome: Outcome  # dead: 503 from a ready engine or a 5xx; error: any other answer
    status: int | None = None  # HTTP status
    latency_seconds: float = 0.0
    detail: str = ""
    metrics: str | None = None  # the text of /metrics, where it was read
    metrics_late: bool = False  # they were asked for, and no answer came in time


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReading:
    """The latest probe of a replica with what its sampler remembers of the earlier ones."""

    replica: str
    container: str  # the id it was asked as: a new container starts afresh
    outcome: Outcome
    status: int | None = None
    latency_seconds: float = 0.0
    detail: str = ""
    stats: EngineStats | None = None  # the last ones read
    stats_at: float | None = None  # boot seconds when they were read; None: never
    stats_late: bool = False  # this time no answer to that came in time
    in_flight: int | None = None  # the last number known
    moving_at: float  # boot seconds when it was last seen idle or making progress
    progress_at: float | None = None  # boot seconds when its progress counter last grew
    slowest_seconds: float = 0.0  # the longest standstill under load that ended by itself
    canary: bool | None = None  # outcome of the latest one-token question
    canary_at: float | None = None  # boot seconds of that answer
    canary_failures: int = 0  # in a row
    warmed: int = 0  # warm-up requests answered, by a container that was not ready yet
    warmup_failures: int = 0  # in a row
    warmup_detail: str = ""  # what the latest of these said
    serves: bool = False  # requests that are not gpuctl's have moved: it needs no warming up
    boot_seconds: float  # when it was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """How far the start of a container has come, by its own last log lines."""

    replica: str
    container: str
    #: Stage → boot seconds when it was first read of; in the order in which they were reached.
    reached: Mapping[str, float] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """The furthest one, "" before the first."""
        return tuple(self.reached)[-1] if self.reached else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_free_bytes: int | None = None  # of the state directory
    disk_total_bytes: int | None = None  # of its file system
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    memory_stall_ratio: float | None = None  # of the last minute, some task waited for RAM (PSI)
    load_ratio: float | None = None  # 1-minute load average over CPUs
    boot_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReplica:
    in_flight: int = 0
    last_byte_boot_seconds: float | None = None
    began_boot_seconds: float | None = None  # the oldest request in flight was sent; None: none is
    state: str = ""  # ready | draining | down: what the gateway takes it for


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReading:
    """gateway.json, when it is there and no older than 5 s."""

    instance: str = ""  # the daemon instance the gateway last saw
    seq: int = 0
    replicas: Mapping[str, GatewayReplica] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    """What the runtime's event stream told; a hint, the list is the truth."""

    at: float  # Unix seconds, the runtime's own clock
    action: str  # start | die | oom | kill | stop | destroy | rename | pause | unpause
    container: str
    replica: str
    exit_code: int | None = None
    signal: str | None = None
