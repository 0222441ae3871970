"""
A fake NVIDIA driver under the real binding: a `libnvidia-ml.so.1` built from C when first needed,
and the hardware it shows, which a test changes while a child or a daemon runs.

    fake = FakeNvml("p106x8", tmp_path)
    NvmlGpus(environment=fake.environment()).read()
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuctl import host_state
from gpuctl.host_state import THROTTLE_REASONS, GpuState, HostState, ProcessState

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"
#: nvml.h: the driver was upgraded while it was loaded.
MISMATCH = 18
#: nvml.h: the card is off the bus.
GPU_IS_LOST = 15


def build() -> Path:
    """Return the directory of the library, built once for each version of its source."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"gpuctl-fake-nvml-{os.getuid()}-{digest}"
    if not (folder / LIBRARY).exists():
        folder.mkdir(mode=0o755, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch) / LIBRARY
            flags = ("-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
            subprocess.run(("cc", *flags, "-o", str(built), str(SOURCE)), check=True)
            built.replace(folder / LIBRARY)
    return folder


class FakeNvml:
    """
    The driver of one host; its state is a file in *directory*.

    GPUs are named by their place in the enumeration, which `remove` and `shuffle` change.
    """

    def __init__(self, host: str | HostState, directory: Path) -> None:
        found = host_state.read(host_state.find(host)) if isinstance(host, str) else host
        self.host = found
        self._library = build()
        self._path = directory / "fake-nvml"
        self._errors: dict[str, int] = {}  # by UUID
        self._write()

    def environment(self) -> dict[str, str]:
        """Return this process's environment with the fake driver in it."""
        before = os.environ.get("LD_LIBRARY_PATH")
        path = f"{self._library}:{before}" if before else str(self._library)
        return {**os.environ, "LD_LIBRARY_PATH": path, "GPUCTL_FAKE_NVML": str(self._path)}

    def set_processes(self, index: int, held: Mapping[int, int | None]) -> None:
        """Let these pids hold so many bytes; a pid that has ended is not reported."""
        processes = tuple(ProcessState(pid=pid, used_bytes=used) for pid, used in held.items())
        self.set(index, processes=processes)

    def set(self, index: int, **changes: Any) -> None:
        """Change fields of a GPU, named as in `GpuState`; None is "not supported"."""
        gpus = list(self.host.gpus)
        gpus[index] = replace(gpus[index], **changes)
        self._change(gpus=tuple(gpus))

    def lose(self, index: int) -> None:
        """Every call on that GPU answers GPU_IS_LOST."""
        self.set(index, lost=True)

    def fail(self, index: int, code: int) -> None:
        """Every call on that GPU answers this code of nvml.h."""
        self._errors[self.host.gpus[index].uuid] = code
        self._write()

    def hang(self, call: str) -> None:
        """No call of that NVML function returns until `release`."""
        self._change(calls={**self.host.calls, call: "hang"})

    def slow(self, call: str, seconds: float) -> None:
        """Every call of that NVML function takes so long."""
        self._change(calls={**self.host.calls, call: seconds})

    def mismatch(self) -> None:
        """NVML cannot be initialised any more: library and driver are of different versions."""
        self._change(init_error=MISMATCH)

    def release(self) -> None:
        """Let every call return, NVML be initialised, and every GPU answer again."""
        self._errors.clear()
        gpus = tuple(replace(gpu, lost=False) for gpu in self.host.gpus)
        self._change(calls={}, init_error=None, gpus=gpus)

    def remove(self, index: int) -> None:
        """Take a GPU out; those behind it move up."""
        self._enumerate([gpu for gpu in self.host.gpus if gpu.index != index])

    def shuffle(self) -> None:
        """Enumerate the GPUs in another order, as after a reboot; always the same one."""
        gpus = list(self.host.gpus)
        while len(gpus) > 1 and tuple(gpus) == self.host.gpus:
            random.Random(len(gpus)).shuffle(gpus)
        self._enumerate(gpus)

    def _enumerate(self, gpus: list[GpuState]) -> None:
        self._change(gpus=tuple(replace(gpu, index=at) for at, gpu in enumerate(gpus)))

    def _change(self, **changes: Any) -> None:
        self.host = replace(self.host, **changes)
        self._write()

    def _write(self) -> None:
        scratch = self._path.with_suffix(".new")
        scratch.write_text("\n".join(_lines(self.host, self._errors)) + "\n")
        scratch.replace(self._path)


def _lines(host: HostState, errors: Mapping[str, int]) -> list[str]:
    """Return the host in the words that fake_nvml.c reads."""
    lines = [f"driver {host.driver_version or ''}", f"init {host.init_error or 0}"]
    lines += [f"call {name} {how}" for name, how in host.calls.items()]
    for gpu in host.gpus:
        lines += _gpu_lines(gpu, GPU_IS_LOST if gpu.lost else errors.get(gpu.uuid, 0))
    return lines


def _gpu_lines(gpu: GpuState, error: int) -> list[str]:
    major, minor = gpu.compute_capability or (-1, -1)
    fields = {
        "uuid": gpu.uuid,
        "name": gpu.name,
        "pci": (gpu.pci_bus_id or "").upper(),  # NVML's digits are capitals
        "total": _whole(gpu.memory_total_bytes, 1),
        "reserved": _whole(gpu.memory_reserved_bytes, 1),
        "major": major,
        "minor": minor,
        "temperature": _whole(gpu.temperature_celsius, 1),
        "power": _whole(gpu.power_watts, 1000),
        "limit": _whole(gpu.power_limit_watts, 1000),
        "clock": _whole(gpu.sm_clock_hertz, 1e-6),
        "utilization": _whole(gpu.utilization_ratio, 100),
        "reasons": -1 if gpu.throttle_reasons is None else _bits(gpu.throttle_reasons),
        "processes": int(gpu.processes is not None),
        "error": error,
    }
    processes = [
        f"process {process.pid} {_whole(process.used_bytes, 1)}" for process in gpu.processes or ()
    ]
    return ["gpu", *(f"{word} {value}" for word, value in fields.items()), *processes]


def _whole(value: float | None, factor: float) -> int:
    return -1 if value is None else round(value * factor)


def _bits(reasons: tuple[str, ...]) -> int:
    return sum(1 << THROTTLE_REASONS.index(reason) for reason in reasons)
