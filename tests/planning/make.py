"""Profiles and hosts with nothing in them but what a test mentions."""

from __future__ import annotations

from typing import Any

from gpuctl.model import (
    GIB,
    GpuIdentity,
    HostSettings,
    Inventory,
    Mount,
    Plan,
    Profile,
    Workload,
)
from gpuctl.planning import plan
from gpuctl.plugin import load_engines

ENGINES = load_engines()


def gpu(index: int, **changes: Any) -> GpuIdentity:
    values: dict[str, Any] = {
        "index": index,
        "uuid": f"GPU-{index:04d}",
        "name": "P106-100",
        "memory_total_bytes": 6 * GIB,
    }
    return GpuIdentity(**(values | changes))


def host(gpus: int | tuple[GpuIdentity, ...] = 4, **changes: Any) -> Inventory:
    found = tuple(gpu(i) for i in range(gpus)) if isinstance(gpus, int) else gpus
    values: dict[str, Any] = {"gpus": found, "cpus": 8}
    return Inventory(**(values | changes))


def workload(name: str = "chat", **changes: Any) -> Workload:
    values: dict[str, Any] = {
        "name": name,
        "engine": "llama.cpp",
        "image": "example/server:1",
        "model": f"{name}.gguf",
        "port": 8081,
        "mounts": (Mount(source="models", target="/models", read_only=True),),
    }
    return Workload(**(values | changes))


def profile(*workloads: Workload, **changes: Any) -> Profile:
    settings = {
        key: changes.pop(key)
        for key in ("gpus", "reserve", "vram_headroom_bytes")
        if key in changes
    }
    return Profile(host=HostSettings(name="rack", **settings), workloads=workloads, **changes)


def planned(*workloads: Workload, on: Inventory | None = None, **changes: Any) -> Plan:
    """Plan workloads on four GPUs, or on the host given."""
    strict = changes.pop("strict", True)
    return plan(profile(*workloads, **changes), on or host(), ENGINES, strict=strict)
