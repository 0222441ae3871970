"""Simulated GPUs and the machine around them, behind the Gpus and Host ports."""

from __future__ import annotations

from gpuctl import host_state
from gpuctl.adapters.simulated.machine import Machine
from gpuctl.adapters.simulated.records import Container
from gpuctl.adapters.simulated.runtime import held_bytes
from gpuctl.errors import GpuctlError, GpuUnavailable
from gpuctl.host_state import GpuState, HostState, ProcessState, XidState
from gpuctl.model import GpuProcess, GpuReading, HostReading, Xid

#: A call of NVML that takes longer has missed its deadline, as a hung driver's does.
DEADLINE_SECONDS = 5.0
#: What NVML says without a driver. Source: nvml.h, nvmlReturn_t.
_DRIVER_NOT_LOADED = 9
#: What a loaded replica of which no plan knows holds of each card: small enough for four on one.
VRAM_RATIO = 0.22


class SimulatedGpus:
    """The cards of the host-state file, with what the containers hold of them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read(self) -> tuple[GpuReading, ...]:
        try:
            host = self._machine.host()
            _refuse_broken(host)
            running = [c for c in self._machine.containers().values() if c.state == "running"]
            return tuple(self._reading(host, gpu, running) for gpu in host.gpus)
        except GpuUnavailable:
            raise
        except GpuctlError as error:
            raise GpuUnavailable(error.message, error.hint) from error

    def xids(self) -> tuple[Xid, ...]:
        """Return those in the file that were not told yet; they are as old as its last edit."""
        try:
            host = self._machine.host()
            at = self._machine.path.stat().st_mtime
            fresh = self._machine.fresh_xids()
        except (GpuctlError, OSError):
            return ()  # whoever reads the cards is told why
        age = self._machine.clock.now() - at
        boot_seconds = self._machine.clock.boot_seconds() - age
        cards = {gpu.index: gpu for gpu in host.gpus}
        return tuple(_xid(xid, cards[xid.gpu], at, boot_seconds) for xid in fresh)

    def distrust(self, reason: str) -> None:
        """Go on: a simulated driver hangs only where its file says so."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go."""

    def _reading(self, host: HostState, gpu: GpuState, running: list[Container]) -> GpuReading:
        at, boot_seconds = self._machine.clock.now(), self._machine.clock.boot_seconds()
        if gpu.lost:
            return GpuReading(
                index=gpu.index,
                uuid=gpu.uuid,
                name=gpu.name,
                state="lost",
                facts=host_state.facts(host, gpu),
                at=at,
                boot_seconds=boot_seconds,
            )
        own = tuple(self._process(gpu, each) for each in running if self._holds(gpu, each))
        used = gpu.memory_used_bytes + sum(process.used_bytes or 0 for process in own)
        others = tuple(_stranger(process, running) for process in gpu.processes or ())
        return GpuReading(
            index=gpu.index,
            uuid=gpu.uuid,
            name=gpu.name,
            memory_total_bytes=gpu.memory_total_bytes,
            memory_used_bytes=None if gpu.memory_total_bytes is None else used,
            memory_reserved_bytes=gpu.memory_reserved_bytes,
            utilization_ratio=gpu.utilization_ratio,
            temperature_celsius=gpu.temperature_celsius,
            power_watts=gpu.power_watts,
            power_limit_watts=gpu.power_limit_watts,
            sm_clock_hertz=gpu.sm_clock_hertz,
            memory_clock_hertz=gpu.memory_clock_hertz,
            memory_utilization_ratio=gpu.memory_utilization_ratio,
            memory_temperature_celsius=gpu.memory_temperature_celsius,
            fan_ratio=gpu.fan_ratio,
            performance_state=gpu.performance_state,
            throttle_reasons=gpu.throttle_reasons,
            compute_capability=gpu.compute_capability,
            pci_bus_id=gpu.pci_bus_id,
            processes=None if gpu.processes is None else (*others, *own),
            facts=host_state.facts(host, gpu),
            health=host_state.health(gpu, boot_seconds),
            at=at,
            boot_seconds=boot_seconds,
        )

    def _holds(self, gpu: GpuState, container: Container) -> bool:
        if gpu.uuid not in container.gpus:
            return False
        fault = self._machine.fault(container.replica)
        return fault is None or fault.kind != "vram_lost"

    def _process(self, gpu: GpuState, container: Container) -> GpuProcess:
        assert container.pid is not None
        total, ratio = gpu.memory_total_bytes, self._machine.loaded_ratio(container)
        planned = container.vram_bytes
        whole = VRAM_RATIO * (total or 0) if planned is None else planned
        return GpuProcess(
            pid=container.pid,
            used_bytes=None if total is None else int(ratio * whole),
            container=container.id if container.replica else None,
            name=_program(container),
        )


class SimulatedMachineHost:
    """Memory, and whose a process is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read(self) -> HostReading:
        total = self._machine.host().memory_total_bytes
        held = (held_bytes(self._machine, each) for each in self._machine.containers().values())
        return HostReading(
            memory_total_bytes=total,
            memory_available_bytes=max(0, total - sum(each or 0 for each in held)),
            boot_seconds=self._machine.clock.boot_seconds(),
        )

    def container_of(self, pid: int) -> str | None:
        found = self._of(pid)
        return found.id if found is not None and found.replica else None

    def name_of(self, pid: int) -> str | None:
        found = self._of(pid)
        if found is not None:
            return _program(found)
        strangers = (each for gpu in self._machine.host().gpus for each in gpu.processes or ())
        return next((each.name for each in strangers if each.pid == pid), None)

    def may_open_gpus(self, pid: int) -> bool | None:
        return None  # no simulated process is in a cgroup

    def _of(self, pid: int) -> Container | None:
        return next((c for c in self._machine.containers().values() if c.pid == pid), None)


def _refuse_broken(host: HostState) -> None:
    """Say why NVML would not answer."""
    if host.init_error is not None:
        message = f"simulated host: nvmlInit answers with error {host.init_error}"
        raise GpuUnavailable(message, code=host.init_error)
    if host.gpus and host.driver_version is None:
        message = "simulated host: there are GPUs, and no driver for them"
        raise GpuUnavailable(message, code=_DRIVER_NOT_LOADED)
    for call, seconds in host.calls.items():
        if seconds == "missing":
            continue
        if seconds == "hang" or seconds > DEADLINE_SECONDS:
            raise GpuUnavailable(f"simulated host: no answer from {call}")


def _xid(xid: XidState, gpu: GpuState, at: float, boot_seconds: float) -> Xid:
    return Xid(
        number=xid.number,
        gpu=gpu.uuid,
        pci_bus_id=gpu.pci_bus_id,
        source=xid.source,
        pid=xid.pid,
        message=xid.message or "",
        at=at,
        boot_seconds=boot_seconds,
    )


def _stranger(process: ProcessState, running: list[Container]) -> GpuProcess:
    """Return a process of the file; one that names a replica belongs to its container."""
    owner = next((each.id for each in running if each.replica == process.container), None)
    return GpuProcess(
        pid=process.pid,
        used_bytes=process.used_bytes,
        container=owner or process.container,
        name=process.name,
    )


def _program(container: Container) -> str:
    """Return what stands for the program: the image's own name."""
    return container.image.rpartition("/")[2].partition(":")[0] or "engine"
