"""Replicas as plain processes of this host, for a machine without Docker."""

from gpuctl.adapters.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
