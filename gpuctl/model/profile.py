"""What the operator wrote, resolved: `profile.load()` makes these, every module reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

MIB = 1024**2
GIB = 1024**3

#: A GPU as a profile names it: its index on this host, or its UUID.
GpuName = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGpus:
    """`gpus = "8x P106-100"`: how many GPUs must be there, and a part of their name."""

    count: int
    name: str = ""  # "" accepts any GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    name: str
    gpus: tuple[ExpectedGpus, ...] = ()
    reserve: tuple[GpuName, ...] = ()  # run nothing until another GPU is avoided
    runtime: Literal["auto", "docker", "process"] = "auto"
    vram_headroom_bytes: int = 256 * MIB  # absolute, per GPU: small cards are planned full


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSettings:
    """Every threshold of DESIGN section 5; a profile's `[watchdog]` sets any of them."""

    mode: Literal["enforce", "observe"] = "enforce"
    interval_seconds: float = 5.0
    health_timeout_seconds: float = 5.0
    startup_seconds: float = 600.0  # a load may take this long ...
    startup_limit_seconds: float = 1800.0  # ... and this long while it still makes progress
    readiness_failures: int = 2  # misses before the replica leaves the routes
    hard_failures: int = 3  # refused, reset, 503 dead: this many in a row ...
    hard_seconds: float = 10.0  # ... and this long
    soft_failures: int = 6  # time-outs: this many in a row ...
    soft_seconds: float = 120.0  # ... and this long, and no progress
    stalled_seconds: float = 120.0  # requests in flight and nothing moving
    vram: Literal["corroborate", "strict", "observe"] = "corroborate"
    vram_readings: int = 3  # readings in a row before VRAM counts as lost (corroborate)
    vram_ratio: float = 0.1  # of the learned baseline
    vram_floor_bytes: int = 256 * MIB  # below this baseline the check cannot tell
    vram_settle_seconds: float = 60.0  # ready for this long before a baseline is learned
    vram_release_seconds: float = 30.0  # wait for the old process's VRAM before a start
    backoff_seconds: tuple[float, ...] = (0.0, 10.0, 20.0, 40.0, 80.0)
    crash_loop_seconds: float = 900.0  # between tries once the back-off is used up
    ready_reset_seconds: float = 600.0  # of ready time, forgives earlier failures
    restarts_per_hour: int = 5  # more raise an alert
    restarts_per_day: int = 8
    host_fault_ratio: float = 0.5  # of the replicas failing within the window; 0 turns it off
    host_fault_replicas: int = 3  # and at least this many
    host_fault_window_seconds: float = 60.0
    host_fault_hold_seconds: tuple[float, ...] = (0.0, 60.0, 300.0)  # before each probe start
    loads_at_once: int = 2  # cold loads host-wide; 0 means no limit
    load_spacing_seconds: float = 5.0
    stop_grace_seconds: float = 30.0  # SIGTERM, then SIGKILL after this long
    failed_grace_seconds: float = 5.0  # the same for a replica that has failed
    drain_seconds: float = 30.0  # for a voluntary drain; a failed replica gets none
    tick_gap_seconds: float = 30.0  # a longer gap between ticks forgets every failure streak
    action_seconds: float = 60.0  # an action that takes longer is abandoned and looked at again
    canary_seconds: float = 60.0  # an idle engine is asked for one token this often; 0 never
    #: VRAM in use: a GPU's pressure is low below the first, and full from the last on.
    pressure_normal_ratio: float = 0.5
    pressure_high_ratio: float = 0.7
    pressure_critical_ratio: float = 0.85
    pressure_full_ratio: float = 0.95
    pressure_margin_ratio: float = 0.02  # a level is left only so far below where it begins
    heat_warning_celsius: float = 65.0
    heat_throttling_celsius: float = 80.0
    heat_critical_celsius: float | None = None  # None: 85, an A100's 83, or its slowdown if lower
    heat_margin_celsius: float = 3.0  # a level is left only so far below where it begins
    shutdown_margin_celsius: float = 3.0  # so near its own shutdown a card is not used
    throttle_minutes: int = 6  # of the last ten, in which it slowed down: so many are told
    ecc_corrected_per_hour: int = 100  # more are told
    pcie_replays_per_minute: int = 8  # more are told
    pcie_width: int | None = None  # lanes that each GPU should have; None: all that it could
    stranger_vram_bytes: int = 512 * MIB  # held by others on a planned GPU: more is told
    creep_ratio: float = 0.95  # of a card's VRAM: a replica that has crept there is told
    disk_free_bytes: int = 5 * GIB  # of the state directory's file system: less is told
    disk_full_seconds: float = 86400.0  # so is one that will be full sooner
    host_memory_ratio: float = 0.05  # of RAM available: less is told
    host_swap_ratio: float = 0.5  # of the swap in use: more is told
    memory_stall_ratio: float = 0.1  # of the last minute, tasks waited for RAM: more is told
    utilization_low_ratio: float = 0.7  # a card that is busy for less of the time has room ...
    utilization_target_ratio: float = 0.8  # ... one that is busy so long is used well ...
    utilization_high_ratio: float = 0.85  # ... and one that is busy for more has none
    cuda_oom_seconds: float = 1800.0  # a second CUDA out-of-memory of a replica within it is told
    trend_seconds: float = 30.0  # between two of the 100 samples that are kept of each GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    source: str  # an absolute path on the host, or a volume's name
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    name: str
    soft: int  # -1 is unlimited
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRotation:
    max_bytes: int = 50 * MIB
    files: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """How a replica of this workload is asked; `None` leaves the engine's or the watchdog's own."""

    path: str | None = None
    interval_seconds: float | None = None
    timeout_seconds: float | None = None
    retries: int | None = None  # hard failures in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerHealth:
    """Docker's own health check, off by default: gpuctl probes by itself."""

    test: tuple[str, ...]
    interval_seconds: float = 30.0
    timeout_seconds: float = 10.0
    retries: int = 3
    start_period_seconds: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What differs of a workload where it runs in another way; `None` leaves it as it is."""

    engine: str | None = None
    image: str | None = None
    model: str | None = None
    gpus: int | None = None  # `scaled` only: of one replica more
    vram_bytes: int | None = None  # over all these GPUs, where the engine cannot be asked
    port: int | None = None  # `scaled` only: of the first replica more
    context: int | None = None
    parallel: int | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the workload's
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    options: Mapping[str, object] | None = None  # instead of the workload's
    #: Setting → the variable of the environment that reached it, "" for one that was the workload's
    #: and stands here so that no variable reaches it.
    set_by: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    name: str
    engine: str
    image: str = ""
    model: str = ""
    #: "each": a replica per GPU that is not in reserve; "none": on the CPU; else one per group.
    gpus: Literal["each", "none"] | tuple[tuple[GpuName, ...], ...] = "each"
    replicas: int = 1  # on the CPU only (`gpus = "none"`)
    replicas_per_gpu: int = 1  # per GPU, or per group of GPUs
    max_gpus: int | None = None  # what `gpuctl scale` may take for all its replicas together
    fallback: Literal["none", "cpu"] = "none"  # where its replicas go when no GPU is left
    on_cpu: Variant = field(default_factory=Variant)  # how it runs there
    scaled: Variant = field(default_factory=Variant)  # how the replicas run that `scale` adds
    vram_bytes: int | None = None  # what to plan for where the engine cannot be asked
    port: int
    context: int | None = None  # tokens
    parallel: int = 1  # requests at once, on one replica
    warmup: int = 1  # requests that a new replica must answer before it serves; 0: none
    kind: Literal["chat", "embedding", "rerank", "transcription", "other"] = "chat"
    aliases: tuple[str, ...] = ()  # model names a client may use instead
    command: tuple[str, ...] = ()  # engine "container": instead of the image's own
    args: tuple[str, ...] = ()  # appended to what the engine builds
    container_port: int | None = None  # engine "container": where it listens inside
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # variable → the file that holds it
    mounts: tuple[Mount, ...] = ()
    memory_bytes: int | None = None  # host RAM
    memory_swap_bytes: int | None = None  # RAM and swap together, as Docker counts
    shm_bytes: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    user: str | None = None
    cap_add: tuple[str, ...] = ()
    network: Literal["bridge", "host"] = "bridge"
    pids_limit: int = 4096
    log: LogRotation = field(default_factory=LogRotation)
    health: HealthSettings = field(default_factory=HealthSettings)
    docker_health: DockerHealth | None = None
    stop_grace_seconds: float | None = None
    startup_seconds: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)  # the engine's own, validated by it
    #: Canonical JSON of what the operator wrote for this workload: what the digest is made over.
    intent: str = "{}"
    #: Setting → the variable of the environment that set it; the same words make the same workload.
    set_by: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    size: int = 100
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """When a replica gets no requests for a while, by how it answered the latest ones."""

    allowed_fails: int = 5  # in a row; one refused connection is enough by itself
    cooldown_seconds: float = 30.0  # then one request tries it


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSettings:
    """How long a part of one request may take."""

    connect_seconds: float = 2.0
    streaming_seconds: float = 300.0  # all of it, with its retries and its wait in the queue
    batch_seconds: float = 60.0  # the same of one that does not stream
    attempt_seconds: float | None = None  # at one replica; None: what is left of the whole
    idle_seconds: float = 60.0  # between two bytes of a stream
    head_seconds: float = 10.0  # to send the request's head
    body_seconds: float = 60.0  # to send its body
    keep_alive_seconds: float = 75.0  # a connection without a request
    drain_seconds: float = 30.0  # what is running at a SIGTERM may take so long


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    head_bytes: int = 16 * 1024
    headers: int = 100
    body_bytes: int = 10 * MIB
    connections: int = 4096
    connections_per_ip: int = 1024
    requests_per_minute_per_ip: int | None = None  # None: no limit


#: A text to embed takes milliseconds, and many wait behind one chat.
PRIORITIES = {"chat": 5, "embedding": 10, "rerank": 5, "transcription": 5, "other": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    listen: str = "127.0.0.1:4000"
    max_in_flight: int | None = None  # None: as many as the replicas have slots
    queue: QueueSettings = field(default_factory=QueueSettings)
    routing: Literal["least_busy", "round_robin", "latency"] = "least_busy"
    #: What keeps a conversation on one replica, as long as that is not much busier than others:
    #: nothing, the client's word (`prompt_cache_key`, `x-session-id`), or also equal first words.
    affinity: Literal["none", "session", "prefix"] = "session"
    retries: int = 2  # on another replica, while nothing of the answer was sent
    gate: GateSettings = field(default_factory=GateSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    keep_alive_interval_seconds: float = 30.0  # a stream silent so long gets a comment
    #: Kind of a workload → its place in the queue: the higher is served first. Each has one.
    priorities: Mapping[str, int] = field(default_factory=lambda: dict(PRIORITIES))
    #: Path of a route → the workload that it is passed on to: "/ocr" also takes "/ocr/…".
    pass_through: Mapping[str, str] = field(default_factory=dict)
    metrics_key: bool = False  # /metrics asks for an admin key
    #: Files of keys beside those of `gpuctl keys`: texts with commas, spaces or lines between.
    key_files: tuple[str, ...] = ()
    #: Variables of its own environment that it takes such keys from, and does not run without.
    keys_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    host: HostSettings
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)
    workloads: tuple[Workload, ...] = ()  # in the file's order
    gateway: GatewaySettings | None = None
    source: str = ""  # the file it was read from, for messages
    #: Variables of the environment that stand above what was written, with their text.
    overrides: Mapping[str, str] = field(default_factory=dict)
