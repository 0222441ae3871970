"""Workloads and slots with nothing in them but what a test mentions."""

from __future__ import annotations

from typing import Any

from gpuctl.model import GpuIdentity, Mount, Workload
from gpuctl.plugin import Slot

GPUS = tuple(GpuIdentity(index=index, uuid=f"GPU-{index:04d}") for index in range(4))


def workload(**changes: Any) -> Workload:
    values: dict[str, Any] = {
        "name": "chat",
        "engine": "llama.cpp",
        "image": "example/server:1",
        "model": "model.gguf",
        "port": 8081,
        "mounts": (Mount(source="models", target="/models", read_only=True),),
    }
    return Workload(**(values | changes))


def slot(gpus: int = 1, **changes: Any) -> Slot:
    values: dict[str, Any] = {"index": 0, "gpus": GPUS[:gpus], "port": 8081, "runtime": "docker"}
    return Slot(**(values | changes))


def after(command: tuple[str, ...], flag: str) -> str | None:
    """Return the word after a flag, `None` where the flag is not given."""
    return command[command.index(flag) + 1] if flag in command else None
