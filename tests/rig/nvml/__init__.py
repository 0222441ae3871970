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
import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuctl import host_state
from gpuctl.host_state import (
    RECOVERY_ACTIONS,
    THROTTLE_REASONS,
    GpuState,
    HostState,
    ProcessState,
    XidState,
)
from gpuctl.model import GpuFacts, GpuHealth, GpuPeer

SOURCE = Path(__file__).with_name("fake_nvml.c")
SOURCES = (SOURCE, *sorted(SOURCE.parent.glob("*.h")))
LIBRARY = "libnvidia-ml.so.1"
#: nvml.h: the driver was upgraded while it was loaded.
MISMATCH = 18
#: nvml.h: the card is off the bus.
GPU_IS_LOST = 15
#: nvml.h: NVML_DEVICE_ARCH_*.
ARCHITECTURES: Mapping[str | None, int] = {
    "pascal": 4,
    "volta": 5,
    "turing": 6,
    "ampere": 7,
    "ada": 8,
    "hopper": 9,
    "blackwell": 10,
}
#: Their limits are told as a distance from what they may be: *_TLIMIT.
BY_MARGIN = frozenset({"ada", "hopper", "blackwell"})
#: nvml.h: nvmlGpuTopologyLevel_t.
LEVELS = {"internal": 0, "single": 10, "multiple": 20, "hostbridge": 30, "node": 40, "system": 50}


def build() -> Path:
    """Return the directory of the library, built once for each version of its source."""
    sources = b"".join(path.read_bytes() for path in SOURCES)
    digest = hashlib.sha256(sources).hexdigest()[:16]
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
        self._lock = threading.RLock()  # one thread may tell of processes, and another break cards
        self._errors: dict[str, int] = {}  # by UUID
        self._deaf: set[str] = set()  # UUIDs
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
        """
        Change fields of a GPU, named as in `GpuState`, `GpuFacts` or `GpuHealth`.

        None is "not supported". What is read once or each minute is seen by the next child.
        """
        with self._lock:
            self._set(index, changes)

    def _set(self, index: int, changes: dict[str, Any]) -> None:
        gpus = list(self.host.gpus)
        own = {name: changes.pop(name) for name in set(changes) & set(GpuState.__slots__)}
        facts = {name: changes.pop(name) for name in set(changes) & set(GpuFacts.__slots__)}
        gpu = replace(gpus[index], **own)
        gpu = replace(gpu, facts=replace(gpu.facts, **facts))
        gpus[index] = replace(gpu, health=replace(gpu.health, **changes))
        self._change(gpus=tuple(gpus))

    def xid(self, index: int, number: int) -> None:
        """Report an Xid of that GPU to everyone who waits for one now."""
        with self._lock:
            self._change(xids=(*self.host.xids, XidState(gpu=index, number=number)))

    def deaf(self, index: int) -> None:
        """Have that GPU support no events."""
        self._deaf.add(self.host.gpus[index].uuid)
        self._write()

    def lack(self, call: str) -> None:
        """Take a function out of the library, as an older driver has none of that name."""
        self._change(calls={**self.host.calls, call: "missing"})

    def called(self, call: str = "") -> int:
        """Return how many calls were made since the beginning, of that function or of any."""
        path = self._path.with_name(f"{self._path.name}.calls")
        made = path.read_text().split() if path.exists() else []
        return made.count(call) if call else len(made)

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
        with self._lock:
            self._errors.clear()
            gpus = tuple(replace(gpu, lost=False) for gpu in self.host.gpus)
            self._change(calls={}, init_error=None, gpus=gpus)

    def restore(self, host: HostState) -> None:
        """Make all as it was in *host*, but for the processes, and the Xids that have been told."""
        with self._lock:
            self._errors.clear()
            now = {gpu.uuid: gpu.processes for gpu in self.host.gpus}
            gpus = tuple(replace(gpu, processes=now[gpu.uuid]) for gpu in host.gpus)
            self.host = replace(host, gpus=gpus, xids=self.host.xids)
            self._write()

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
        place = {gpu.index: at for at, gpu in enumerate(gpus)}  # where each has moved to
        links = tuple(
            replace(link, gpus=tuple(place[index] for index in link.gpus if index in place))
            for link in self.host.links
        )
        xids = tuple(replace(xid, gpu=place[xid.gpu]) for xid in self.host.xids if xid.gpu in place)
        moved = tuple(replace(gpu, index=at) for at, gpu in enumerate(gpus))
        self._change(gpus=moved, links=links, xids=xids)

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self.host = replace(self.host, **changes)
            self._write()

    def _write(self) -> None:
        scratch = self._path.with_suffix(".new")
        scratch.write_text("\n".join(_lines(self.host, self._errors, self._deaf)) + "\n")
        scratch.replace(self._path)


def _lines(host: HostState, errors: Mapping[str, int], deaf: Collection[str]) -> list[str]:
    """Return the host in the words that fake_nvml.c reads."""
    major, minor = host.cuda_version or (0, 0)
    lines = [
        f"driver {host.driver_version or ''}",
        f"cuda {major * 1000 + minor * 10}",
        f"init {host.init_error or 0}",
    ]
    lines += [f"call {name} {how}" for name, how in host.calls.items()]
    uuids = {gpu.index: gpu.uuid for gpu in host.gpus}
    lines += [f"xid {xid.number} {uuids[xid.gpu]}" for xid in host.xids]
    for gpu in host.gpus:
        numbers = {
            **_now(gpu),
            **_facts(gpu.facts),
            **_health(gpu.health),
            "error": GPU_IS_LOST if gpu.lost else errors.get(gpu.uuid, 0),
            "reports_events": int(gpu.uuid not in deaf),
        }
        lines += [
            "gpu",
            f"uuid {gpu.uuid}",
            f"name {gpu.name}",
            f"pci {(gpu.pci_bus_id or '').upper()}",  # NVML's digits are capitals
            f"serial {gpu.facts.serial or ''}",
            *(f"{word} {value}" for word, value in numbers.items()),
            *map(_process, gpu.processes or ()),
            *(_peer(peer) for peer in host_state.facts(host, gpu).peers or ()),
        ]
    return lines


def _now(gpu: GpuState) -> dict[str, int]:
    major, minor = gpu.compute_capability or (-1, -1)
    return {
        "total": _whole(gpu.memory_total_bytes),
        "reserved": _whole(gpu.memory_reserved_bytes),
        "major": major,
        "minor": minor,
        "temperature": _whole(gpu.temperature_celsius),
        "power": _whole(gpu.power_watts, 1000),
        "limit": _whole(gpu.power_limit_watts, 1000),
        "sm_clock": _whole(gpu.sm_clock_hertz, 1e-6),
        "memory_clock": _whole(gpu.memory_clock_hertz, 1e-6),
        "utilization": _whole(gpu.utilization_ratio, 100),
        "memory_utilization": _whole(gpu.memory_utilization_ratio, 100),
        "memory_temperature": _whole(gpu.memory_temperature_celsius),
        "fan": _whole(gpu.fan_ratio, 100),
        "pstate": _whole(gpu.performance_state),
        "reasons": -1 if gpu.throttle_reasons is None else _bits(gpu.throttle_reasons),
        "processes": int(gpu.processes is not None),
    }


def _facts(facts: GpuFacts) -> dict[str, int]:
    known = facts.architecture in ARCHITECTURES
    return {
        "architecture": ARCHITECTURES[facts.architecture] if known else -1,
        "tlimit": int(facts.architecture in BY_MARGIN),
        "minor_number": _whole(facts.minor_number),
        "numa_node": _whole(facts.numa_node),
        "mig": _whole(facts.mig_enabled),
        "ecc": _whole(facts.ecc_enabled),
        "sm_clock_max": _whole(facts.sm_clock_max_hertz, 1e-6),
        "memory_clock_max": _whole(facts.memory_clock_max_hertz, 1e-6),
        "pcie_generation_max": _whole(facts.pcie_generation_max),
        "pcie_width_max": _whole(facts.pcie_width_max),
        "limit_default": _whole(facts.power_limit_default_watts, 1000),
        "limit_min": _whole(facts.power_limit_min_watts, 1000),
        "limit_max": _whole(facts.power_limit_max_watts, 1000),
        "shutdown": _whole(facts.temperature_shutdown_celsius),
        "slowdown": _whole(facts.temperature_slowdown_celsius),
        "gpu_max": _whole(facts.temperature_max_celsius),
        "memory_max": _whole(facts.memory_temperature_max_celsius),
    }


def _health(health: GpuHealth) -> dict[str, int]:
    action = health.recovery_action
    return {
        "ecc_corrected_volatile": _whole(health.ecc_corrected_volatile),
        "ecc_uncorrected_volatile": _whole(health.ecc_uncorrected_volatile),
        "ecc_corrected_aggregate": _whole(health.ecc_corrected_aggregate),
        "ecc_uncorrected_aggregate": _whole(health.ecc_uncorrected_aggregate),
        "rows_correctable": _whole(health.remapped_rows_correctable),
        "rows_uncorrectable": _whole(health.remapped_rows_uncorrectable),
        "rows_pending": _whole(health.remapped_rows_pending),
        "rows_failure": _whole(health.remapped_rows_failure),
        "pages_pending": _whole(health.retired_pages_pending),
        "pcie_generation": _whole(health.pcie_generation),
        "pcie_width": _whole(health.pcie_width),
        "pcie_replays": _whole(health.pcie_replays),
        "recovery": -1 if action is None else RECOVERY_ACTIONS.index(action),
        "energy": _whole(health.energy_joules, 1000),
    }


def _process(process: ProcessState) -> str:
    return f"process {process.pid} {_whole(process.used_bytes)} {process.type}"


def _peer(peer: GpuPeer) -> str:
    nvlink = peer.path == "nvlink"
    level = LEVELS["internal" if nvlink else peer.path]
    return f"peer {peer.uuid} {level} {int(nvlink)} {_whole(peer.p2p)}"


def _whole(value: float | None, factor: float = 1) -> int:
    return -1 if value is None else round(value * factor)


def _bits(reasons: tuple[str, ...]) -> int:
    return sum(1 << THROTTLE_REASONS.index(reason) for reason in reasons)
