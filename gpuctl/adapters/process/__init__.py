"""Replicas as plain processes of this host, for a machine without Docker."""

from gpuctl.adapters.process.runtime import ProcessRuntime
from gpuctl.adapters.process.whose import container_of

__all__ = ["ProcessRuntime", "container_of"]
