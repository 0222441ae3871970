"""Everything one tick looks at, in one immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gpuctl.model.readings import (
    ContainerReading,
    GatewayReading,
    GpuProcess,
    GpuReading,
    HostReading,
    LoadReading,
    ProbeReading,
    Xid,
)

#: Processes by the id of their container and by their pid, which is never `None`.
_Holders = dict[str | int | None, list[GpuProcess]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceError:
    """A source that could not be read, in its own words."""

    message: str
    since_boot_seconds: float
    code: int | None = None  # NVML's return code, where it told one


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    The latest reading of every source.

    A source in `errors` could not be read: what it last told is still here, and nothing that
    depends on it may be acted on.
    """

    at: float  # Unix seconds
    boot_id: str
    boot_seconds: float  # CLOCK_BOOTTIME
    gap: bool = False  # the last tick is too long ago: forget every failure streak
    gpus: Mapping[str, GpuReading] = field(default_factory=dict)  # by UUID, in index order
    gpus_boot_seconds: float | None = None  # when they were read; None: never yet
    #: By id, whether a container that was asked may open its GPUs; `None`: it does not tell.
    device_access: Mapping[str, bool | None] = field(default_factory=dict)
    xids: tuple[Xid, ...] = ()  # the latest reported, oldest first; of before this daemon as well
    #: The container under a replica's fixed name, or the last trace of it; by replica.
    owned: Mapping[str, ContainerReading] = field(default_factory=dict)
    #: Those under any other name: put aside by a start, or made by one that was cut off.
    aside: Mapping[str, tuple[ContainerReading, ...]] = field(default_factory=dict)
    runtime_boot_seconds: float | None = None  # when all containers were last listed; None: never
    runtime_back_boot_seconds: float | None = None  # when it was last read again after a failure
    probes: Mapping[str, ProbeReading] = field(default_factory=dict)  # by replica
    loads: Mapping[str, LoadReading] = field(default_factory=dict)  # by replica, while it loads
    host: HostReading = field(default_factory=HostReading)
    gateway: GatewayReading | None = None
    errors: Mapping[str, SourceError] = field(default_factory=dict)  # runtime | gpus | host
    #: By GPU, its processes by container and by pid; made when a GPU is first asked about.
    _holders: dict[str, _Holders] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def own(self, replica: str) -> ContainerReading | None:
        return self.owned.get(replica)

    def vram_bytes(self, container: ContainerReading, uuids: tuple[str, ...]) -> int | None:
        """
        Return the VRAM that the container's own processes hold on these GPUs.

        `None` where a GPU is unread or lost, or does not report its processes and what they use.
        """
        total = 0
        for uuid in uuids:
            gpu = self.gpus.get(uuid)
            if gpu is None or gpu.state != "ok" or gpu.processes is None:
                return None
            for process in self._own_processes(uuid, gpu.processes, container):
                if process.used_bytes is None:
                    return None
                total += process.used_bytes
        return total

    def _own_processes(
        self, uuid: str, processes: tuple[GpuProcess, ...], container: ContainerReading
    ) -> Iterator[GpuProcess]:
        holders = self._holders.get(uuid)
        if holders is None:
            holders = self._holders[uuid] = _by_holder(processes)
        yield from holders.get(container.id, ())
        for process in holders.get(container.pid, ()):
            if process.container != container.id:
                yield process


def _by_holder(processes: tuple[GpuProcess, ...]) -> _Holders:
    found: _Holders = {}
    for process in processes:
        found.setdefault(process.pid, []).append(process)
        if process.container is not None:
            found.setdefault(process.container, []).append(process)
    return found
