"""A host on which nothing is wrong, written down; a test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuctl.diagnosis import Facts, Finding, diagnose
from gpuctl.diagnosis.facts import (
    CdiFacts,
    CdiSpec,
    DaemonJson,
    DeviceFile,
    DiskFacts,
    DockerFacts,
    DriverFacts,
    FileFacts,
    FilesFacts,
    ImageFacts,
    PortFacts,
    ServiceFacts,
    Step,
    SystemFacts,
    ToolkitFacts,
    Wanted,
)
from gpuctl.model import (
    GIB,
    ExpectedGpus,
    GpuFacts,
    GpuHealth,
    GpuPeer,
    GpuReading,
    HostSettings,
    Plan,
    Profile,
    Replica,
    Workload,
)
from tests import make

AT = make.AT
DRIVER = "580.95.05"
IMAGE = "engine:1"


def gpu(index: int, **fields: Any) -> GpuReading:
    """A card with NVLink to one other; *facts* and *health* are changes of what is well."""
    known = GpuFacts(
        driver_version=DRIVER,
        cuda_version=(13, 0),
        numa_node=0,
        mig_enabled=False,
        pcie_width_max=16,
        peers=(GpuPeer(uuid=f"GPU-{1 - index}", path="nvlink", p2p=True),),
    )
    well = GpuHealth(
        ecc_uncorrected_volatile=0,
        remapped_rows_pending=False,
        remapped_rows_failure=False,
        pcie_width=16,
        recovery_action="none",
    )
    return make.gpu(
        index,
        name="NVIDIA RTX A6000",
        facts=replace(known, **fields.pop("facts", {})),
        health=replace(well, **fields.pop("health", {})),
        **fields,
    )


def bare(index: int) -> GpuReading:
    """An old card, which tells nothing of itself."""
    return make.gpu(index, name="NVIDIA RTX A6000", facts=GpuFacts(), health=GpuHealth())


def replica(**changes: Any) -> Replica:
    """One replica over both cards; what *changes* name of its spec is another."""
    made = make.replica("llm-0", gpus=(0, 1), engine="vllm")
    spec = {"image": IMAGE, "shm_bytes": 8 * GIB, "memory_bytes": 32 * GIB, **changes}
    return replace(made, spec=replace(made.spec, **spec))


def wanted(*replicas: Replica, **changes: Any) -> Wanted:
    profile = Profile(
        host=HostSettings(
            name="rack", gpus=(ExpectedGpus(count=2, name="A6000"),), runtime="docker"
        ),
        workloads=(Workload(name="llm", engine="vllm", image=IMAGE, port=8081),),
    )
    planned = make.plan(*(replicas or (replica(),)))
    return replace(Wanted(source="rack.toml", profile=profile, plan=planned), **changes)


def plan_of(**changes: Any) -> Plan:
    return replace(make.plan(replica()), **changes)


def model(**changes: Any) -> FileFacts:
    steps = (
        Step(path="/models", uid=0, gid=0, mode=0o755),
        Step(path="/models/m.gguf", uid=0, gid=0, mode=0o644),
    )
    file = FileFacts(workload="llm", path="/models/m.gguf", image=IMAGE, steps=steps, user=(7, 7))
    return replace(file, **changes)


def secret(mode: int = 0o600, **changes: Any) -> FileFacts:
    steps = (Step(path="/etc/token", uid=0, gid=0, mode=mode),)
    return replace(FileFacts(workload="llm", path="/etc/token", steps=steps), **changes)


DISK = DiskFacts(
    uses=("state",),
    path="/var",
    free_bytes=500 * GIB,
    total_bytes=1000 * GIB,
    inodes_free=90,
    inodes_total=100,
)
DRIVER_FACTS = DriverFacts(
    cards={"0000:21:00.0": "nvidia", "0000:4b:00.0": "nvidia"},
    switches=0,
    module_version=DRIVER,
    library_version=DRIVER,
    persistence=True,
    devices=(
        DeviceFile(path="/dev/nvidia-uvm", usable=True),
        DeviceFile(path="/dev/nvidiactl", usable=True),
    ),
    char_links=True,
)
TOOLKIT = ToolkitFacts(hook="/usr/bin/nvidia-container-runtime-hook", version=(1, 18, 0))
CDI_SPEC = CdiSpec(
    path="/etc/cdi/nvidia.yaml",
    modified_at=AT - 3600,
    names=("0", "1", "GPU-0", "GPU-1", "all"),
    driver_version=DRIVER,
)
CDI = CdiFacts(directories=("/etc/cdi", "/var/run/cdi"), specs=(CDI_SPEC,))
CONFIG = DaemonJson(path="/etc/docker/daemon.json", log_max_size=True)
DOCKER = DockerFacts(
    version="29.2.0",
    api_version="1.53",
    live_restore=True,
    cdi_directories=("/etc/cdi", "/var/run/cdi"),
    images={IMAGE: ImageFacts(architecture="amd64", cuda_version=(13, 0))},
    config=CONFIG,
)
SYSTEM = SystemFacts(
    memory_total_bytes=128 * GIB,
    memory_available_bytes=100 * GIB,
    swap_total_bytes=8 * GIB,
    shm_total_bytes=64 * GIB,
    open_files_limit=65536,
    locked_memory_limit=-1,
    cgroup_version=2,
    memory_controller=True,
    systemd_version=252,
    clock_synchronized=True,
    kernel_log=True,
)
SERVICE = ServiceFacts(
    version="0.1.0",
    unit_path="/etc/systemd/system/gpuctl.service",
    unit_same=True,
    unit_enabled="enabled",
    unit_active="active",
    shipped_unit="/usr/share/gpuctl.service",
    daemon_version="0.1.0",
    daemon_alive=True,
    state=Step(path="/var/lib/gpuctl", uid=0, gid=0, mode=0o750),
    state_writable=True,
    socket=Step(path="/run/gpuctl/gpuctl.sock", uid=0, gid=990, mode=0o660),
    socket_group="gpuctl",
    socket_usable=True,
    moments=((AT, 100.0), (AT + 5, 105.0)),
)


def host(**changes: Any) -> Facts:
    """Return the healthy host with other sources."""
    healthy = Facts(
        at=AT,
        wanted=wanted(),
        gpus=(gpu(0), gpu(1)),
        driver=DRIVER_FACTS,
        toolkit=TOOLKIT,
        cdi=CDI,
        docker=DOCKER,
        disks=(DISK,),
        ports=(PortFacts(number=8081, owner="llm-0", state="free"),),
        files=FilesFacts(models=(model(),), secrets=(secret(),)),
        system=SYSTEM,
        service=SERVICE,
    )
    return replace(healthy, **changes)


def judged(facts: Facts, *checks: str) -> list[tuple[str, str, str]]:
    """Return (check, level, reason) of every finding, or of these checks' alone."""
    return [
        (each.check, each.level, each.reason)
        for each in diagnose(facts)
        if not checks or each.check in checks
    ]


def finding(facts: Facts, check: str) -> Finding:
    """Return the only finding of a check."""
    (found,) = (each for each in diagnose(facts) if each.check == check)
    return found
