"""The GPUs as NVML reports them: the Gpus port, through a child process with a deadline."""

from gpuctl.adapters.nvml.gpus import NvmlGpus

__all__ = ["NvmlGpus"]
