"""A workload as it runs elsewhere: the profile's `on_cpu` or `scaled` laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from gpuctl.model import Variant, Workload

#: What makes an image of one's own leave the GPU alone: the first is CUDA's, the second what
#: servers built on PyTorch are commonly told it by.
_WITHOUT_GPU: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": "", "DEVICE": "cpu"}


def on_cpu(workload: Workload) -> Workload:
    """Return the workload as it runs for want of a GPU."""
    engine = workload.on_cpu.engine or workload.engine
    return varied(workload, workload.on_cpu, _WITHOUT_GPU if engine == "container" else {})


def scaled(workload: Workload) -> Workload:
    """Return the workload as the replicas run that `gpuctl scale` adds."""
    return varied(workload, workload.scaled, {})


def varied(workload: Workload, variant: Variant, environment: Mapping[str, str]) -> Workload:
    """Return the workload with what a variant says; *environment* stands between the two."""
    said = {
        name: getattr(variant, name)
        for name in (
            *("engine", "image", "model", "context", "parallel", "command", "args"),
            *("vram_bytes", "memory_bytes", "memory_swap_bytes", "options"),
        )
        if getattr(variant, name) is not None
    }
    if said.get("engine", workload.engine) != workload.engine:
        said.setdefault("options", {})  # another engine's would mean nothing to it
    merged = {**workload.environment, **environment, **variant.environment}
    return replace(workload, environment=merged, set_by=variant.set_by, **said)


def written(variant: Variant) -> Mapping[str, Any]:
    """Return what a variant says, for a digest: a key that a later gpuctl adds is not in it."""
    said = {name: value for name, value in asdict(variant).items() if value not in (None, {})}
    return {name: value for name, value in said.items() if name != "set_by"}
