"""
A host as `doctor` finds it: adapters gather these, the judges of this package read them.

A source that could not be looked at is an `Unread`, with why; inside a source `None` means that
it does not tell. Tests write whole hosts down with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuctl.model import GpuReading, Plan, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """
    Why a source could not be looked at.

    *reason* is a code: `no_permission`, `no_answer`, `simulated`, `absent`, `not_looked`, or what
    NVML said (`version_mismatch` …).
    """

    reason: str
    message: str = ""
    hint: str = ""


#: The first Docker Engine that hands GPUs out by CDI unasked.
_BY_CDI = 29

NOT_LOOKED = Unread(reason="not_looked")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    path: str
    usable: bool  # we may read and write it


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFacts:
    """NVIDIA's hardware and driver, as the kernel shows them without NVML."""

    cards: Mapping[str, str | None] = field(default_factory=dict)  # bus id → bound kernel driver
    switches: int = 0  # NVSwitches: such a host needs the fabric manager
    module_version: str | None = None  # of the loaded kernel module; None: none is loaded
    library_version: str | None = None  # of libnvidia-ml.so.1, by its file's name
    persistence: bool = False  # nvidia-persistenced runs
    fabric_manager: bool = False  # it runs
    devices: tuple[DeviceFile, ...] = ()  # /dev/nvidia*, those that are there
    char_links: bool = False  # /dev/char has a link to each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolkitFacts:
    """NVIDIA's container toolkit: paths of its programs, `None` where there is none."""

    hook: str | None = None  # nvidia-container-runtime-hook
    runtime: str | None = None  # nvidia-container-runtime
    ctk: str | None = None  # nvidia-ctk
    cdi_hook: str | None = None  # nvidia-cdi-hook
    version: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiSpec:
    """One CDI specification of NVIDIA's devices."""

    path: str
    modified_at: float  # Unix seconds
    names: tuple[str, ...] = ()  # of its devices: "0", a UUID, "all"
    driver_version: str | None = None  # of the libcuda it mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiFacts:
    directories: tuple[str, ...] = ()  # that were looked into
    specs: tuple[CdiSpec, ...] = ()  # of nvidia.com/gpu
    unreadable: tuple[str, ...] = ()  # files there that could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image that the engine has."""

    architecture: str  # as Docker names it: amd64, arm64
    cuda_version: tuple[int, int] | None = None  # its CUDA_VERSION
    user: str = ""  # who its program runs as; "" is root


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonJson:
    """The engine's own configuration file, where it is on this host."""

    path: str
    there: bool = True
    broken: str = ""  # why it is no JSON object
    log_max_size: bool = False  # log-opts bound a log file
    userland_proxy: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerFacts:
    version: str
    api_version: str
    architecture: str = "x86_64"  # as uname has it
    cgroup_driver: str = "systemd"  # systemd | cgroupfs | none
    live_restore: bool = False
    storage_driver: str = "overlay2"
    logging_driver: str = "json-file"
    rootless: bool = False
    remapped: bool = False  # a container's users are other users of the host (userns-remap)
    root_directory: str = "/var/lib/docker"
    runtimes: tuple[str, ...] = ("runc",)
    default_runtime: str = "runc"
    cdi_directories: tuple[str, ...] = ()  # where it looks for CDI; () without CDI
    swap_limit: bool = True  # it can limit a container's swap
    forwarding: bool = True  # the kernel forwards IPv4: published ports need it
    images: Mapping[str, ImageFacts] = field(default_factory=dict)  # of the profile, by name
    config: DaemonJson | Unread = NOT_LOOKED
    loopback_routed: bool | None = None  # route_localnet of docker0

    @property
    def by_cdi(self) -> bool:
        """
        True when a request for GPUs that names no driver is tried by CDI before the runtime hook.

        Earlier engines list CDI directories as well, and ask the hook. Source: moby/moby#50228.
        """
        major = self.version.partition(".")[0]
        return bool(self.cdi_directories) and major.isdecimal() and int(major) >= _BY_CDI


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The profile that is looked after, and what planning makes of it."""

    source: str
    profile: Profile | None = None
    plan: Plan | None = None
    mistakes: tuple[tuple[str, str], ...] = ()  # of the profile, or why the plan is refused; hints
    runtime: str = "docker"  # docker | process | simulated
    in_docker_only: tuple[str, ...] = ()  # workloads whose engine cannot be a process


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFacts:
    """One file system, and what gpuctl keeps on it."""

    uses: tuple[str, ...]  # "state", "Docker", "workloads.chat.mounts"
    path: str
    free_bytes: int  # that others than root may use
    total_bytes: int
    inodes_free: int = 0
    inodes_total: int = 0  # 0: this file system has no fixed number of them
    written: bool = True  # gpuctl, Docker or an engine writes there


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFacts:
    number: int
    owner: str  # the replica that is to listen there, or "the gateway"
    state: Literal["free", "ours", "taken"]
    holder: str = ""  # who has it: "nginx (pid 812)", "" where that is not told


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One directory or file on the way to a file, as stat(2) has it."""

    path: str
    uid: int
    gid: int
    mode: int  # the permission bits


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """A file that a workload reads: a model, a secret."""

    workload: str
    path: str
    image: str = ""  # whose program reads it
    there: bool | None = True  # None: we may not look
    fetch: str = ""  # the command that fetches it; "" where none is known
    steps: tuple[Step, ...] = ()  # from the mounted directory, or /, down to the file itself
    user: tuple[int, int] | None = None  # uid and gid that read it; None: whoever the image names
    privileged: bool = False  # that one may read whatever it likes (CAP_DAC_OVERRIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesFacts:
    models: tuple[FileFacts, ...] = ()
    secrets: tuple[FileFacts, ...] = ()
    programs: Mapping[str, str | None] = field(default_factory=dict)  # of replicas as processes


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """The kernel, its limits and its clock."""

    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_total_bytes: int | None = None
    shm_total_bytes: int | None = None  # of /dev/shm
    open_files_limit: int | None = None  # the hard limit of ours; -1 is unlimited
    locked_memory_limit: int | None = None  # the same, bytes
    cgroup_version: int | None = None
    memory_controller: bool | None = None
    systemd_version: int | None = None  # None: systemd is not the init here
    clock_synchronized: bool | None = None
    kernel_log: bool | None = None  # /dev/kmsg or the journal may be read
    selinux_enforcing: bool = False
    apparmor: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """The supervisor itself: its unit, its daemon, its directories."""

    version: str  # of this program
    user: str = "root"
    uid: int = 0
    unit_path: str | None = None  # where systemd has the unit from
    unit_same: bool | None = None  # as the unit that is shipped
    unit_enabled: str = ""  # enabled | disabled | static …; "" where that cannot be told
    unit_active: str = ""  # active | inactive | failed …
    unit_reload: bool = False  # its file is newer than what systemd has read
    shipped_unit: str = ""  # the path of the unit that is shipped
    daemon_version: str | None = None  # of the one that published last; None: none ever did
    daemon_alive: bool = False
    daemon_stopped: bool = False  # on purpose
    state: Step | None = None  # the state directory; None: not made yet
    state_writable: bool = False
    socket: Step | None = None  # the control socket
    socket_group: str = ""
    socket_usable: bool = False  # we may send it intents
    #: Unix seconds and CLOCK_BOOTTIME of the last events of this boot, oldest first.
    moments: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything looked at; what a test leaves out was not."""

    at: float = 0.0  # Unix seconds
    wanted: Wanted | None = None
    gpus: tuple[GpuReading, ...] | Unread = NOT_LOOKED
    driver: DriverFacts | Unread = NOT_LOOKED
    toolkit: ToolkitFacts | Unread = NOT_LOOKED
    cdi: CdiFacts | Unread = NOT_LOOKED
    docker: DockerFacts | Unread = NOT_LOOKED
    disks: tuple[DiskFacts, ...] | Unread = NOT_LOOKED
    ports: tuple[PortFacts, ...] | Unread = NOT_LOOKED
    files: FilesFacts | Unread = NOT_LOOKED
    system: SystemFacts | Unread = NOT_LOOKED
    service: ServiceFacts | Unread = NOT_LOOKED

    @property
    def in_docker(self) -> bool:
        """True unless the profile runs its replicas elsewhere."""
        return self.wanted is None or self.wanted.runtime == "docker"

    @property
    def wants_gpus(self) -> bool:
        """True when the profile has a use for GPUs, or where there is none, when the host has."""
        if self.wanted is not None and self.wanted.profile is not None:
            profile = self.wanted.profile
            return bool(profile.host.gpus) or any(w.gpus != "none" for w in profile.workloads)
        cards = () if isinstance(self.driver, Unread) else self.driver.cards
        return bool(cards) or (not isinstance(self.gpus, Unread) and bool(self.gpus))
