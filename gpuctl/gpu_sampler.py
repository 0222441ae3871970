"""
The GPUs on the board: who holds their memory, what Xids they suffered, when to look at once, and
which containers may open them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from gpuctl.errors import GpuctlError, GpuUnavailable
from gpuctl.model import ContainerReading, GpuProcess, GpuReading, Plan, Xid
from gpuctl.observe import Latest
from gpuctl.ports import Clock, Gpus, Host, KernelLog, Runtime
from gpuctl.samplers import Wake, failed

#: A replica whose VRAM fell below this share of the last reading is looked at again at once.
_SUSPICION_RATIO = 0.5
#: Xids after which the driver may hang whoever asks it: off the bus, and the two of a GSP (the
#: GPU's system processor) that does not answer. Source: NVIDIA's DCGM stops asking after those.
_SILENCING = frozenset({79, 119, 120})
#: Xids on the board, the newest.
_XIDS_KEPT = 256


class GpuSource:
    """The GPUs, with each process joined to the container it belongs to."""

    def __init__(self, gpus: Gpus, host: Host, clock: Clock, latest: Latest, wake: Wake) -> None:
        self._gpus, self._host, self._clock = gpus, host, clock
        self._latest, self._wake = latest, wake
        self._owners: dict[int, tuple[str | None, str | None]] = {}  # pid → container, name
        self.hurried = False  # the loop waits for this reading

    def sample(self) -> None:
        hurried, self.hurried = self.hurried, False
        began = self._clock.boot_seconds()
        try:
            read = self._gpus.read()
        except GpuUnavailable as error:
            failed(self._latest, "gpus", error.message, self._clock, self._wake, error.code)
            return
        before = self._latest.gpus
        first = self._latest.gpus_boot_seconds is None
        self._latest.gpus = self._joined(read)
        self._latest.gpus_boot_seconds = began
        back = self._latest.errors.pop("gpus", None) is not None
        if first or hurried or back or _suspicious(before, self._latest.gpus):
            self._wake("gpus")

    def _joined(self, read: tuple[GpuReading, ...]) -> tuple[GpuReading, ...]:
        pids = {process.pid for gpu in read for process in gpu.processes or ()}
        # A pid listed before keeps its owner: a process that hangs on its way out may not tell it.
        self._owners = {
            pid: self._owners.get(pid) or (self._host.container_of(pid), self._host.name_of(pid))
            for pid in pids
        }
        return tuple(
            replace(gpu, processes=tuple(self._owned(process) for process in gpu.processes))
            if gpu.processes is not None
            else gpu
            for gpu in read
        )

    def _owned(self, process: GpuProcess) -> GpuProcess:
        container, name = self._owners[process.pid]
        return replace(
            process,
            container=process.container or container,
            name=process.name or name,
            device_access=self._host.may_open_gpus(process.pid) if container else None,
        )


class XidSource:
    """The Xids, as NVML and the kernel tell them, each with the GPU it is of."""

    def __init__(
        self, gpus: Gpus, log: KernelLog | None, clock: Clock, latest: Latest, wake: Wake
    ) -> None:
        self._gpus, self._log, self._clock = gpus, log, clock
        self._latest, self._wake = latest, wake
        self._began = clock.boot_seconds()
        self._uuids: dict[str, str] = {}  # by PCI bus id, of lost ones too
        self._held: tuple[Xid, ...] = ()  # told by NVML in the pass before

    def sample(self) -> None:
        """Take in what was told since the last pass; cheap where that is nothing."""
        self._uuids.update({g.pci_bus_id: g.uuid for g in self._latest.gpus if g.pci_bus_id})
        told = self._told()
        # Lines of before may come before the first reading says whose bus id is whose.
        known = tuple(self._named(xid) for xid in (*self._latest.xids, *told))
        if known != self._latest.xids:
            latest = sorted(known, key=lambda xid: xid.boot_seconds)
            self._latest.xids = tuple(latest[-_XIDS_KEPT:])
            self._wake("xids")

    def _told(self) -> tuple[Xid, ...]:
        """
        Return what is new.

        The kernel tells more of an Xid, whose process it was among it: what NVML tells comes to the
        board one pass later, when the kernel's words are there.
        """
        of_nvml = self._gpus.xids()
        self._silence(of_nvml)
        if self._log is None:
            return of_nvml
        of_kernel = tuple(self._named(xid) for xid in self._log.read())
        self._silence(of_kernel)
        self._heed(self._log.fault())
        held, self._held = self._held, of_nvml
        return held + of_kernel

    def end(self) -> None:
        if self._log is not None:
            self._log.close()

    def _named(self, xid: Xid) -> Xid:
        if xid.gpu or xid.pci_bus_id is None:
            return xid
        return replace(xid, gpu=self._uuids.get(xid.pci_bus_id, ""))

    def _silence(self, told: tuple[Xid, ...]) -> None:
        for xid in told:
            # One of before this daemon is no reason: it asks with a process of its own anyway.
            if xid.number in _SILENCING and xid.boot_seconds >= self._began:
                self._gpus.distrust(f"Xid {xid.number} of {xid.gpu or xid.pci_bus_id}")

    def _heed(self, fault: str) -> None:
        """Say that the log is not followed, where there is a GPU that it could tell of."""
        if fault and self._latest.gpus:
            failed(self._latest, "kernel_log", fault, self._clock, self._wake)
        else:
            self._latest.errors.pop("kernel_log", None)


class AccessSource:
    """
    Asks Docker's containers whether they may open their GPUs, where no cgroup tells.

    cgroup v2 keeps device rules in a program that cannot be read, so it has to be tried.
    """

    def __init__(self, runtime: Runtime, latest: Latest, wake: Wake) -> None:
        self._runtime, self._latest, self._wake = runtime, latest, wake
        self._containers: tuple[str, ...] = ()

    def follow(self, plan: Plan, running: Mapping[str, ContainerReading], ready: Set[str]) -> None:
        """Take note of whom to ask: replicas with GPUs whose container runs and is *ready*."""
        found = (running.get(replica.name) for replica in plan.replicas if replica.gpus)
        self._containers = tuple(
            each.id for each in found if each and each.state == "running" and each.id in ready
        )

    def sample(self) -> None:
        """Ask each once; one that cannot be asked is what it was."""
        latest = self._latest
        # What opens a device of a driver that hangs would hang too, and could not be killed.
        if self._runtime.kind != "docker" or latest.errors.keys() & {"gpus", "runtime"}:
            return
        before = latest.device_access
        told = {p.container for g in latest.gpus for p in g.processes or () if _tells(p)}
        found: dict[str, bool | None] = {}
        for container in self._containers:
            if container in told:
                continue
            try:
                found[container] = self._runtime.may_open_gpus(container)
            except GpuctlError:
                if container in before:
                    found[container] = before[container]
        if found != before:
            latest.device_access = found
            self._wake("devices")


def _tells(process: GpuProcess) -> bool:
    return process.device_access is not None


def _suspicious(before: tuple[GpuReading, ...], now: tuple[GpuReading, ...]) -> bool:
    """True when a GPU was lost or came back, or a container holds much less than it did."""
    if [(gpu.uuid, gpu.state) for gpu in before] != [(gpu.uuid, gpu.state) for gpu in now]:
        return True
    held = _held(now)
    return any(held.get(key, 0) < _SUSPICION_RATIO * used for key, used in _held(before).items())


def _held(gpus: tuple[GpuReading, ...]) -> dict[tuple[str, str], int]:
    held: dict[tuple[str, str], int] = {}
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.container and process.used_bytes:
                key = (gpu.uuid, process.container)
                held[key] = held.get(key, 0) + process.used_bytes
    return held
