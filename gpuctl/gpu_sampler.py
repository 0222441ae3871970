"""The GPUs on the board: who holds their memory, and when the loop has to look at once."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.errors import GpuctlError
from gpuctl.model import GpuProcess, GpuReading
from gpuctl.observe import Latest
from gpuctl.ports import Clock, Gpus, Host
from gpuctl.samplers import Wake, failed

#: A replica whose VRAM fell below this share of the last reading is looked at again at once.
_SUSPICION_RATIO = 0.5


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
        except GpuctlError as error:
            failed(self._latest, "gpus", error.message, self._clock, self._wake)
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
