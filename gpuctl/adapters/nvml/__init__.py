"""The GPUs as NVML reports them: the Gpus port, through a child process with a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuctl.adapters.nvml.gpus import NvmlGpus

__all__ = ["NvmlGpus"]


def __getattr__(name: str) -> Any:
    # Late: the child imports this package too, and has no use for the reader.
    if name == "NvmlGpus":
        from gpuctl.adapters.nvml.gpus import NvmlGpus

        return NvmlGpus
    raise AttributeError(name)
