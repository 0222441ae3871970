"""GPUs, the kernel's log and the machine itself, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuctl.errors import GpuUnavailable
from gpuctl.model import GpuReading, HostReading, Xid


@dataclass
class FakeGpus:
    readings: tuple[GpuReading, ...] = ()
    broken: str = ""
    code: int | None = None  # NVML's, of what is broken
    told: tuple[Xid, ...] = ()  # to whoever asks next
    distrusted: list[str] = field(default_factory=list)

    def read(self) -> tuple[GpuReading, ...]:
        if self.broken:
            raise GpuUnavailable(self.broken, code=self.code)
        return self.readings

    def xids(self) -> tuple[Xid, ...]:
        told, self.told = self.told, ()
        return told

    def distrust(self, reason: str) -> None:
        self.distrusted.append(reason)

    def close(self) -> None:
        self.broken = "closed"


@dataclass
class FakeKernelLog:
    told: tuple[Xid, ...] = ()  # to whoever asks next
    trouble: str = ""

    def read(self) -> tuple[Xid, ...]:
        told, self.told = self.told, ()
        return told

    def fault(self) -> str:
        return self.trouble

    def close(self) -> None:
        self.trouble = "closed"


@dataclass
class FakeHost:
    owners: dict[int, str] = field(default_factory=dict)  # pid → container id

    def read(self) -> HostReading:
        return HostReading(memory_total_bytes=16 * 1024**3)

    def container_of(self, pid: int) -> str | None:
        return self.owners.get(pid)

    def name_of(self, pid: int) -> str | None:
        return "llama-server"

    def may_open_gpus(self, pid: int) -> bool | None:
        return None
