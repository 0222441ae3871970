"""What should run where: `planning.plan()` makes it from a profile and the GPUs of the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuctl.model.facts import ModelFacts
from gpuctl.model.judgement import Json
from gpuctl.model.profile import DockerHealth, LogRotation, Mount, Ulimit, WatchdogSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuIdentity:
    """One GPU of the host, as planning sees it; a UUID for machines, an index for people."""

    index: int
    uuid: str
    name: str = ""
    memory_total_bytes: int | None = None
    #: What the driver keeps of that for itself: neither used nor free, and nobody's to take.
    reserved_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    #: VRAM that others than gpuctl's replicas held when the host was last looked at, and who.
    foreign_bytes: int | None = None
    foreign: tuple[str, ...] = ()  # "Xorg (pid 812)"

    @property
    def usable_bytes(self) -> int | None:
        """
        Return what processes can have of it, which is CUDA's total; `None`: its size is not known.

        Source: nvmlDeviceGetMemoryInfo_v2 (total, reserved), `nvidia-smi
        --query-gpu=memory.total,memory.reserved`; a driver before R510 does not tell what it keeps.
        """
        if self.memory_total_bytes is None:
            return None
        return self.memory_total_bytes - (self.reserved_bytes or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What the host has; `gpus` in index order."""

    gpus: tuple[GpuIdentity, ...] = ()
    memory_total_bytes: int | None = None  # host RAM
    driver_version: str | None = None  # NVIDIA's; None without one
    cuda_version: tuple[int, int] | None = None  # the newest that the driver serves
    cpus: int = 1
    runtime: str = "docker"  # docker | process | simulated: where replicas run
    python: str = "python3"  # the interpreter that runs gpuctl: engines that are its own programs


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Exactly what the runtime gets; the labels that name a replica are added by `act`."""

    image: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  # sorted by name
    secrets: Mapping[str, str] = field(default_factory=dict)  # variable → the file read at a start
    gpus: tuple[str, ...] = ()  # UUIDs
    vram_bytes: int | None = None  # planned of each GPU: only a simulated runtime makes use of it
    host_port: int
    container_port: int
    network: str = "bridge"  # bridge | host; published and bound on loopback either way
    mounts: tuple[Mount, ...] = ()
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    shm_bytes: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    user: str | None = None
    cap_add: tuple[str, ...] = ()
    pids_limit: int = 4096
    log: LogRotation = field(default_factory=LogRotation)
    docker_health: DockerHealth | None = None
    stop_grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """How one replica is asked whether it is well; addresses are on loopback."""

    host: str = "127.0.0.1"
    port: int
    health_path: str
    metrics_path: str | None = None  # None: the engine has no metrics
    interval_seconds: float = 5.0
    timeout_seconds: float = 5.0
    canary_path: str | None = None  # None: no canary for this engine
    canary_body: str = ""  # JSON; asks for one token
    key_file: str | None = None  # what the engine wants to be shown, read at each question
    warmup_path: str | None = None  # None: nothing is asked of it before it is ready
    warmup_body: str = ""  # JSON; asks for as little as makes the engine compute
    warmup_requests: int = 0  # answered one after the other before it is ready
    #: It answers nothing while it works: a question that is late finds it busy, and not dead.
    mute_at_work: bool = False
    #: It frees the slot of a client that left when it has its next result: where that would be the
    #: whole answer, a gateway asks it to stream and puts the pieces together.
    collect_streams: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Where a replica goes instead of where the profile puts it."""

    gpus: tuple[str, ...] = ()  # UUIDs; () is the CPU
    reason: str = ""  # cordoned | gpu_lost | xid_79 | scaled | failover_cpu …
    voluntary: bool = True  # what runs elsewhere is drained first
    profile: str = ""  # applied when it was told; "" where that was not recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignments:
    """What became of the placement since the profile was written: `history` remembers it."""

    moved: Mapping[str, Assignment] = field(default_factory=dict)  # by replica
    counts: Mapping[str, int] = field(default_factory=dict)  # by workload: as many replicas
    counted: Mapping[str, str] = field(default_factory=dict)  # the same → the profile of then

    def under(self, profile: str) -> Assignments:
        """Return those of one profile: a workload of another may have the same name."""
        mine = ("", profile)
        moved = {name: to for name, to in self.moved.items() if to.profile in mine}
        counts = {n: c for n, c in self.counts.items() if self.counted.get(n, "") in mine}
        return Assignments(moved=moved, counts=counts, counted=self.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known beyond the profile and the host, to plan with."""

    #: By workload, and by `<workload>/on_cpu` and `<workload>/scaled` where these have a model.
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)  # bytes by VramPlan.measure_key
    assignments: Assignments = field(default_factory=Assignments)


@dataclass(frozen=True, slots=True, kw_only=True)
class VramLine:
    """One line of the sum: of one replica, over all its GPUs."""

    label: str  # "weights", "KV cache", "compute buffers", "CUDA context" …
    amount_bytes: int
    why: str = ""  # "32 layers x 8 KV heads x 128 x 2 x f16 x 4096 tokens x 1 slot"


@dataclass(frozen=True, slots=True, kw_only=True)
class VramPlan:
    """What one replica takes of its GPUs together."""

    total_bytes: int
    weights_bytes: int | None = None
    kv_bytes: int | None = None
    overhead_bytes: int | None = None
    source: str  # profile | headers | measured | claim (a share of the card, as vLLM takes)
    least_bytes: int | None = None  # of a claim: what must fit into it for one request
    uneven_bytes: int = 0  # what the GPU with most of it takes beyond an even share
    lines: tuple[VramLine, ...] = ()
    notes: tuple[str, ...] = ()  # why an estimate differs from a rule of thumb, or from a measure
    measure_key: str = ""  # what a measurement of it is stored under

    def share_bytes(self, gpus: int) -> int:
        """Return what to plan on each of so many GPUs: as much as any of them takes."""
        return -(-self.total_bytes // gpus) + self.uneven_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A setting that gpuctl chose for the card, and why; the operator's own always wins."""

    key: str  # of the engine's options
    value: Json  # `None`: the engine's own default, which is right
    why: str
    by_operator: bool = False  # it stands in the profile: shown, not chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One slot of a workload, such as `chat-0`."""

    name: str
    workload: str
    engine: str
    gpus: tuple[GpuIdentity, ...] = ()
    spec: ContainerSpec
    probe: ProbeSpec
    watchdog: WatchdogSettings  # the profile's, with this workload's own numbers in it
    model: str = ""
    aliases: tuple[str, ...] = ()
    kind: str = "chat"
    slots: int = 1
    vram_bytes: int | None = None  # what it takes over all its GPUs: `vram`'s total
    vram: VramPlan | None = None  # None on the CPU, and where nothing is known of it
    pinned_bytes: int = 0  # host RAM that it takes at its start and keeps, whatever it does ...
    pinned_key: str = ""  # ... and the key of its workload that says how much
    tuned: tuple[Tuned, ...] = ()
    moved: Assignment | None = None  # where it is, is not where the profile puts it
    home: tuple[GpuIdentity, ...] = ()  # where the profile puts it; () too for what `scale` added
    gpu_need_bytes: int | None = None  # of each GPU, wherever it has one; None: not known
    on_cpu: bool = False  # for want of a GPU
    surplus: bool = False  # more than is wanted of its workload: it is to go
    surplus_because: str = "scaled"  # or `max_gpus`, which the profile has lowered since
    digest: str  # "v1:" + SHA-256 of the operator's resolved intent for this replica
    spec_digest: str  # SHA-256 of the spec: differs from `digest` when only defaults moved

    @property
    def share_bytes(self) -> int | None:
        """What it is planned to take of each of its GPUs; `None`: not known, or it has none."""
        if self.vram_bytes is None or not self.gpus:
            return None
        vram = self.vram or VramPlan(total_bytes=self.vram_bytes, source="")
        return vram.share_bytes(len(self.gpus))

    @property
    def container_name(self) -> str:
        return f"gpuctl-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPlan:
    """How many replicas a workload has, and where they may go."""

    name: str
    replicas: int  # as many as the profile makes
    wanted: int  # as many as `gpuctl scale` asks for, else the same
    fallback: bool = False  # to the CPU, when no GPU is left
    fallback_image: str = ""  # one that nothing needs before that
    max_gpus: int | None = None  # of all its replicas together
    scaled_gpus: int = 1  # of one that `scale` adds; 0 is the CPU
    scaled_need_bytes: int | None = None  # of each of these GPUs; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    profile: str
    watchdog: WatchdogSettings
    replicas: tuple[Replica, ...] = ()  # in the profile's order, then by index
    reserve: tuple[GpuIdentity, ...] = ()
    gpus: tuple[GpuIdentity, ...] = ()  # every GPU planned with, by index
    expected_gpus: int = 0  # what the profile says must be there
    vram_headroom_bytes: int = 0  # of each GPU, left to others
    missing_gpus: tuple[str, ...] = ()  # UUIDs or indexes named by the profile and not on the host
    warnings: tuple[str, ...] = ()
    workloads: tuple[WorkloadPlan, ...] = ()
    refused: str = ""  # why what has moved since could not be planned: this is the plan before it

    def replica(self, name: str) -> Replica | None:
        return next((replica for replica in self.replicas if replica.name == name), None)
